"""Exporting the verdict history, and whatever changed in it since the last time, a day at a time."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from itertools import groupby
from typing import Final

from monitor.domain.errors import ExportUnavailable
from monitor.lake.counting import count_traces
from monitor.lake.datasets import ALWAYS, TEXTS, VERDICTS
from monitor.lake.directory import ExportDirectory
from monitor.lake.manifest import Hour, Manifest, Scope, Source
from monitor.storage.engine import LedgerEngine
from monitor.storage.exporting import CountedHour, history_snapshot, identify

_HOUR: Final = timedelta(hours=1)

Clock = Callable[[], float]


@dataclass(frozen=True, kw_only=True, slots=True)
class Exported:
    """What was written: of one day, or of a whole run.

    Attributes:
        hours: of event time, written anew.
        rows: by dataset.
        kept: those of `rows` that the ledger has no more, taken over from the files before.
        too_late: hours, by dataset, of which rows had expired before they were exported: `verdicts`, of which the
            ledger has but the counts, and `texts` of traces whose verdicts it has.
        size: of the files, in bytes.
        seconds: that it took.
    """

    hours: int = 0
    rows: Mapping[str, int] = field(default_factory=dict)
    kept: int = 0
    too_late: Mapping[str, tuple[datetime, ...]] = field(default_factory=dict)
    size: int = 0
    seconds: float = 0.0

    @property
    def pace(self) -> float:
        """Rows a second, of all datasets."""
        return sum(self.rows.values()) / self.seconds if self.seconds else 0.0

    def __add__(self, other: "Exported") -> "Exported":
        return Exported(
            hours=self.hours + other.hours,
            rows=dict(Counter(self.rows) + Counter(other.rows)),
            kept=self.kept + other.kept,
            too_late={
                name: (*self.too_late.get(name, ()), *other.too_late.get(name, ()))
                for name in {**self.too_late, **other.too_late}
            },
            size=self.size + other.size,
            seconds=self.seconds + other.seconds,
        )


def _say_nothing(_day: date, _done: Exported) -> None: ...


class Exporter:
    """Brings a directory up to the ledger.

    Args:
        engine: of the ledger.
        directory: open.
        scope: which part of the history; must be that of the runs before.
        clock: seconds that only rise.
        adopt: the directory holds this ledger's history, though it looks like another's: every hour is written again.
    """

    def __init__(
        self,
        engine: LedgerEngine,
        directory: ExportDirectory,
        scope: Scope,
        *,
        clock: Clock,
        adopt: bool = False,
    ) -> None:
        self._engine = engine
        self._directory = directory
        self._scope = scope
        self._clock = clock
        self._adopt = adopt
        self._datasets: Final = (*ALWAYS, TEXTS) if scope.texts else ALWAYS

    def run(self, told: Callable[[date, Exported], None] = _say_nothing) -> Exported:
        """Write every hour that changed or lost a file; `told` hears of each day as soon as readers can see it.

        A run that is cut short has published whole days; the next one writes the others, and what changed since.

        Raises:
            ExportUnavailable: the directory holds another ledger's history, or another part of it.
            LedgerUnavailable: Postgres is away; whole days have been published.
        """
        manifest = self._take_up(Source(**asdict(identify(self._engine))))
        with history_snapshot(self._engine) as seen:
            if manifest.watermark > seen.watermark:
                raise ExportUnavailable(
                    f"{self._directory.path}: is ahead of the ledger, which is a replica that lags or a restored "
                    "backup: wait for it, export into a new directory, or, where the backup is what counts now, give "
                    "--adopt"
                )
            changed = seen.changed_hours(manifest.watermark, since=self._scope.since, tenant=self._scope.tenant)
            watermark = seen.watermark
        done = Exported()
        due = {one.hour for one in changed if manifest.is_due(one.hour, one.changed)} | self._directory.lost_hours()
        for day, hours in groupby(sorted(due), key=datetime.date):
            part = self._day(list(hours))
            told(day, part)
            done += part
        # What changed while days were written is at or above the first snapshot's mark: the next run finds it.
        self._directory.finish(watermark)
        return done

    def _take_up(self, source: Source) -> Manifest:
        held = self._directory.manifest
        if held is None:
            manifest = Manifest(source=source, scope=self._scope)
        else:
            _hold_scope(self._directory, held, self._scope)
            if not self._adopt:
                _hold_same(self._directory, held, source)
            manifest = held
            if self._adopt or held.source.timeline != source.timeline:
                # After a failover ids may be given out once more: every hour is looked at again.
                manifest = held.doubted().model_copy(update={"source": source})
        self._directory.begin(manifest)
        return manifest

    def _day(self, hours: Sequence[datetime]) -> Exported:
        began = self._clock()
        rows: Counter[str] = Counter()
        kept = size = 0
        held: dict[datetime, Hour] = {}
        with history_snapshot(self._engine) as seen:
            counted = seen.counted_hours(since=hours[0], until=hours[-1] + _HOUR, tenant=self._scope.tenant)
            for hour in hours:
                counts: dict[str, int] = {}
                for dataset in self._datasets:
                    written = self._directory.stage(
                        dataset, hour, seen.rows(dataset.name, hour, tenant=self._scope.tenant)
                    )
                    if written is not None:
                        counts[dataset.name] = written.rows
                        kept += written.kept
                        size += written.size
                rows.update(counts)
                held[hour] = Hour(watermark=seen.watermark, rows=counts)
        self._directory.publish(held)
        return Exported(
            hours=len(hours),
            rows=dict(rows),
            kept=kept,
            too_late=self._too_late([one for one in counted if one.hour in held], held),
            size=size,
            seconds=self._clock() - began,
        )

    def _too_late(
        self, counted: Sequence[CountedHour], held: Mapping[datetime, Hour]
    ) -> dict[str, tuple[datetime, ...]]:
        """Hours of which less lies in the files than the ledger has counted, by dataset; published ones."""
        found: dict[str, list[datetime]] = {}
        for one in counted:
            rows = held[one.hour].rows
            if rows.get(VERDICTS.name, 0) < one.traces:
                found.setdefault(VERDICTS.name, []).append(one.hour)
            # Only the files tell how many traces there are: a trace may have several verdicts.
            if TEXTS in self._datasets and one.texts_expire:
                file = self._directory.file(VERDICTS.name, one.hour)
                if rows.get(TEXTS.name, 0) < count_traces(file):
                    found.setdefault(TEXTS.name, []).append(one.hour)
        return {name: tuple(hours) for name, hours in found.items()}


def _hold_same(directory: ExportDirectory, held: Manifest, source: Source) -> None:
    """Raises: ExportUnavailable: this is another ledger."""
    for name in ("system", "database", "oid"):
        if getattr(held.source, name) != getattr(source, name):
            raise ExportUnavailable(
                f"{directory.path}: holds the history of another ledger, database {held.source.database} of system "
                f"{held.source.system}; this one is database {source.database} of system {source.system}"
                f"{' and was made anew' if name == 'oid' else ''}: export into a directory of its own, or, where it is "
                "the same ledger after pg_upgrade or a restore, give --adopt"
            )


def _hold_scope(directory: ExportDirectory, held: Manifest, scope: Scope) -> None:
    """Raises: ExportUnavailable: this is another part of the history."""
    if held.scope != scope:
        raise ExportUnavailable(
            f"{directory.path}: was begun with {_options(held.scope)}, this run has {_options(scope)}: "
            "give the same, or export into a directory of its own"
        )


def _options(scope: Scope) -> str:
    given = [
        f"--tenant {scope.tenant}" if scope.tenant is not None else "",
        f"--since {scope.since:%Y-%m-%dT%H:%MZ}" if scope.since is not None else "",
        "--texts" if scope.texts else "",
    ]
    return " ".join(filter(None, given)) or "no options"
