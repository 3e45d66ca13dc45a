"""Recounting day by day: the counts of `recount`, each step one snapshot, so that years need not be read at once."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, text

from monitor.storage import recount
from monitor.storage.engine import snapshot
from monitor.storage.recount import Difference
from monitor.storage.verifying_days import Span, days

# The queries of `recount` see one day of each table: names of a `with` hide the tables of the same names.
_ONE_DAY = """
with verdict_rows as not materialized (
    select * from public.verdict_rows where event_time >= :since and event_time < :until
), judgement_rows as not materialized (
    select * from public.judgement_rows where event_time >= :since and event_time < :until
), verdicts as not materialized (
    select * from public.verdicts where event_time >= :since and event_time < :until
), traces as not materialized (
    select * from public.traces where event_time >= :since and event_time < :until
), cost_rollups as not materialized (
    select * from public.cost_rollups where hour >= :since and hour < :until
), rollups as not materialized (
    select * from public.rollups where minute >= :since and minute < :until
), slice_rollups as not materialized (
    select * from public.slice_rollups where minute >= :since and minute < :until
),
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One step of a verification: what was recounted, and what differs."""

    about: str
    differences: tuple[Difference, ...]


class Verification:
    """Rollups of each day, then the accounting.

    Args:
        engine: of the ledger; its statements may take as long as a day's counting takes.
        since, until: of event time, widened to whole UTC days; None is from the first verdict, to the last. With
            neither, outcomes are held against receipts too, which know no event time.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """

    def __init__(self, engine: Engine, *, since: datetime | None, until: datetime | None) -> None:
        self._engine = engine
        self._whole = since is None and until is None
        self.days = days(engine, since=_day(since), until=until)

    def __len__(self) -> int:
        return len(self.days) + (2 if self._whole else 1)

    def steps(self) -> Iterator[Step]:
        """Recount; each step as of one instant of its own.

        Raises:
            LedgerUnavailable: Postgres is away, or a day took longer than the statement timeout.
        """
        for span in self.days:
            with snapshot(self._engine) as connection:
                found = [
                    *_differences(connection, "rollups", recount.ROLLUPS, span),
                    *_differences(connection, "cost_rollups", recount.COSTS, span),
                    *_differences(connection, "slice_rollups", recount.SLICES, span),
                ]
            yield Step(about=f"rollups of {span.since:%Y-%m-%d}", differences=tuple(found))
        yield self._at_once("intake", recount.INTAKE)
        if self._whole:
            yield self._at_once("receipts", recount.OUTCOMES)

    def _at_once(self, table: str, query: str) -> Step:
        with snapshot(self._engine) as connection:
            return Step(about=table, differences=tuple(recount.differences(connection, table, query)))


def _differences(connection: Connection, table: str, query: str, span: Span) -> list[Difference]:
    bounds: dict[str, Any] = {"since": _day(span.since), "until": _day(span.until, up=True)}
    rows = connection.execute(text(_ONE_DAY + query.strip().removeprefix("with ")), bounds)
    return [Difference(table=table, key=row.key, stored=row.stored, counted=row.counted) for row in rows]


def _day(moment: datetime | None, *, up: bool = False) -> datetime | None:
    if moment is None:
        return None
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(days=1) if up and midnight < moment else midnight
