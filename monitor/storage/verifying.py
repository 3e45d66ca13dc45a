"""Recounting day by day: the counts of `recount`, each step one snapshot, so that years need not be read at once."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import psycopg
from sqlalchemy import Engine

from monitor.domain.errors import LedgerUnavailable
from monitor.storage import recount
from monitor.storage.engine import snapshot
from monitor.storage.recount import Found, found_in
from monitor.storage.verifying_days import Span, days
from monitor.storage.verifying_receipts import find_orphans, places, recount_intake, recount_outcomes

_Answer = TypeVar("_Answer")

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
    """One step of a verification.

    Attributes:
        about: what is recounted.
        recount: does it, as of one instant of its own. Raises LedgerUnavailable when Postgres is away, and
            RecountTooSlow when it took longer than the statement timeout: the other steps may still be done.
    """

    about: str
    recount: Callable[[], Found]


class RecountTooSlow(LedgerUnavailable):
    """A step of a recount took longer than a statement may."""


class Verification:
    """Rollups and outcomes of each day, then the accounting of each partition.

    Args:
        engine: of the ledger; its statements may take as long as a day's counting takes.
        since, until: of event time, widened to whole UTC days; None is from the first verdict, to the last. With
            neither, receipts that say that there is a verdict are held against all verdicts, too.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
        RecountTooSlow: the statement timeout was too short.
    """

    def __init__(self, engine: Engine, *, since: datetime | None, until: datetime | None) -> None:
        self._engine = engine
        self._whole = since is None and until is None
        self.days = _in_time("days", lambda: days(engine, since=_day(since), until=until))
        self._places = _in_time("partitions", lambda: places(engine))

    def steps(self) -> list[Step]:
        """What is to be recounted, in order."""
        made = [
            *[(f"rollups of {span.since:%Y-%m-%d}", partial(self._of_day, span)) for span in self.days],
            *[(f"intake of {place.name}", partial(recount_intake, self._engine, place)) for place in self._places],
        ]
        if self._whole and self._places:
            made.append(("receipts", partial(find_orphans, self._engine, self._places, self._whole_days())))
        return [Step(about=about, recount=partial(_in_time, about, count)) for about, count in made]

    def _of_day(self, span: Span) -> Found:
        whole = _whole_day(span)
        with snapshot(self._engine) as connection:
            found = Found()
            for table, query in _OF_DAY.items():
                bounded = _ONE_DAY + query.strip().removeprefix("with ")
                found += found_in(connection, table, bounded, since=whole.since, until=whole.until)
            return found + recount_outcomes(connection, whole)

    def _whole_days(self) -> list[Span]:
        return [_whole_day(span) for span in self.days]


_OF_DAY = {"rollups": recount.ROLLUPS, "cost_rollups": recount.COSTS, "slice_rollups": recount.SLICES}


def _in_time(about: str, count: Callable[[], _Answer]) -> _Answer:
    try:
        return count()
    except LedgerUnavailable as error:
        if isinstance(getattr(error.__cause__, "orig", None), psycopg.errors.QueryCanceled):
            raise RecountTooSlow(f"{about}: {error}") from error
        raise


def _whole_day(span: Span) -> Span:
    since, until = _day(span.since), _day(span.until, up=True)
    assert since is not None
    assert until is not None
    return Span(since=since, until=until)


def _day(moment: datetime | None, *, up: bool = False) -> datetime | None:
    if moment is None:
        return None
    midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
    return midnight + timedelta(days=1) if up and midnight < moment else midnight
