"""Whether an export says what the ledger says: each hour's files counted, and held against manifest and rollups."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from monitor.domain.errors import ExportUnavailable
from monitor.lake.counting import Counts, count_rows, count_verdicts
from monitor.lake.datasets import DATASETS, VERDICTS
from monitor.lake.directory import ExportDirectory
from monitor.lake.manifest import Hour, Source, file_name, hour_name, hour_of
from monitor.storage.engine import LedgerEngine
from monitor.storage.exporting import CountedHour, history_snapshot, identify


class Standing(StrEnum):
    """How an hour of an export stands to the ledger's."""

    EQUAL = "equal"
    BEHIND = "behind"
    """The ledger has changed it since: the next run writes it."""
    KEPT = "kept"
    """The ledger has dropped it, counts and all: the export alone has it."""
    EXPIRED = "expired"
    """Verdicts of it had expired in the ledger before they were exported: only their counts are left."""
    DIFFERENT = "different"
    """It should be equal, and is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedHour:
    """One hour, counted twice.

    Attributes:
        hour: its beginning.
        standing: of the two counts to each other.
        exported: what the file of verdicts holds; None where it is damaged.
        ledger: what the rollups count; None where there is none.
        spoiled: files of any dataset that are damaged, or hold other numbers of rows than the manifest says.
    """

    hour: datetime
    standing: Standing
    exported: Counts | None
    ledger: Counts | None
    spoiled: tuple[str, ...] = ()


def check_export(engine: LedgerEngine, directory: ExportDirectory) -> Iterator[CheckedHour]:
    """Count every hour that the export or the ledger has, in order. Reads all labels, and of other files the ends.

    Raises:
        ExportUnavailable: the directory holds no export of this ledger.
        LedgerUnavailable: Postgres is away.
    """
    manifest = directory.manifest
    if manifest is None:
        raise ExportUnavailable(f"{directory.path}: holds no export yet")
    here = Source(**asdict(identify(engine)))
    if (here.system, here.oid) != (manifest.source.system, manifest.source.oid):
        raise ExportUnavailable(f"{directory.path}: holds the history of another ledger, {manifest.source.database}")
    with history_snapshot(engine) as seen:
        counted = seen.counted_hours(since=manifest.scope.since, tenant=manifest.scope.tenant)
    ledger = {one.hour: one for one in counted}
    for hour in sorted({*ledger, *map(hour_of, manifest.hours)}):
        held = manifest.hours.get(hour_name(hour))
        found = ledger.get(hour)
        exported, spoiled = _counted(directory, hour, held)
        yield CheckedHour(
            hour=hour,
            standing=Standing.DIFFERENT
            if spoiled or exported is None
            else _standing(exported, held, found, manifest.watermark),
            exported=exported,
            ledger=_counts(found) if found else None,
            spoiled=spoiled,
        )


def _counted(directory: ExportDirectory, hour: datetime, held: Hour | None) -> tuple[Counts | None, tuple[str, ...]]:
    """What the file of verdicts holds; and files that were lost, damaged, or put in another's place."""
    spoiled = []
    exported = None
    for name in DATASETS:
        file = directory.file(name, hour)
        try:
            rows = count_rows(file)
            if name == VERDICTS.name:
                exported = count_verdicts(file)
        except ExportUnavailable:
            rows = None
        if rows != (held.rows.get(name, 0) if held else 0):
            spoiled.append(file_name(name, hour))
    return exported, tuple(spoiled)


def _standing(exported: Counts, held: Hour | None, found: CountedHour | None, watermark: int) -> Standing:
    if found is None:
        return Standing.KEPT
    if exported == _counts(found):
        return Standing.EQUAL
    if found.changed >= (held.watermark if held else watermark):
        return Standing.BEHIND
    # A row that expired with a change of its own, not yet exported, leaves the export with what it was before.
    expired = found.verdicts_expire and exported.traces <= found.traces
    return Standing.EXPIRED if expired else Standing.DIFFERENT


def _counts(found: CountedHour) -> Counts:
    return Counts(traces=found.traces, verdicts=found.verdicts, hallucinated=found.hallucinated)
