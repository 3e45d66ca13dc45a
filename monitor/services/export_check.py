"""Whether an export says what the ledger says: each hour's files counted, and held against the rollups."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from enum import StrEnum

from monitor.domain.errors import ExportUnavailable
from monitor.lake.counting import Counts, count_verdicts
from monitor.lake.datasets import VERDICTS
from monitor.lake.directory import ExportDirectory
from monitor.lake.manifest import Hour, Source, hour_name, hour_of
from monitor.storage.engine import LedgerEngine
from monitor.storage.exporting import CountedHour, history_snapshot, identify


class Standing(StrEnum):
    """How an hour of an export stands to the ledger's."""

    EQUAL = "equal"
    BEHIND = "behind"
    """The ledger has changed it since: the next run writes it."""
    KEPT = "kept"
    """The ledger has dropped it: the export alone has it."""
    DIFFERENT = "different"
    """It should be equal, and is not."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckedHour:
    """One hour, counted twice; None where the ledger has no rollup of it."""

    hour: datetime
    standing: Standing
    exported: Counts
    ledger: Counts | None


def check_export(engine: LedgerEngine, directory: ExportDirectory) -> Iterator[CheckedHour]:
    """Count every hour that the export or the ledger has, in order. Reads the labels in all files.

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
        exported = count_verdicts(directory.file(VERDICTS.name, hour))
        held = manifest.hours.get(hour_name(hour))
        found = ledger.get(hour)
        yield CheckedHour(
            hour=hour,
            standing=_standing(exported, held, found, manifest.watermark),
            exported=exported,
            ledger=_counts(found) if found else None,
        )


def _standing(exported: Counts, held: Hour | None, found: CountedHour | None, watermark: int) -> Standing:
    if exported.traces != (held.rows.get(VERDICTS.name, 0) if held else 0):
        # A file was lost, or put in another's place.
        return Standing.DIFFERENT
    if found is None:
        return Standing.KEPT
    if exported == _counts(found):
        return Standing.EQUAL
    return Standing.BEHIND if found.changed >= (held.watermark if held else watermark) else Standing.DIFFERENT


def _counts(found: CountedHour) -> Counts:
    return Counts(traces=found.traces, verdicts=found.verdicts, hallucinated=found.hallucinated)
