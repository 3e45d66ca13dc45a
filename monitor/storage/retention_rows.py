"""Rows that go one by one: of tenants that keep them for less than others, and of tables that have no days.

What else goes, and when, is a list: `LEAVING`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from typing import Final

from sqlalchemy import Engine, text

from monitor.storage.engine import snapshot, transaction
from monitor.storage.expirations import Scope
from monitor.storage.retention_days import Day

# ruff: noqa: S608 - names from the catalogue and constants of this file are put in
_BATCH = 10_000
_BY_SEGMENT = "segment_id in (select segment_id from segments where {whose})"
_OF_TENANTS: Final = {"payloads": "{whose}", "verdict_rows": _BY_SEGMENT, "judgement_rows": _BY_SEGMENT}


@dataclass(frozen=True, kw_only=True, slots=True)
class Leaving:
    """Rows, or texts in them, that are kept no longer than rows of some kind.

    Attributes:
        kind: as long as these.
        name: what reports call them.
        time: their time, as SQL; what has none stays.
        tenant: the column with their tenant; None where they have none.
        only: which of them, as SQL.
        blank: what is changed instead of deleting them, as SQL; `only` leaves out those that are changed.
    """

    kind: str
    name: str
    table: str
    time: str
    tenant: str | None = "tenant"
    only: str = "true"
    blank: str | None = None


LEAVING: Final = (
    Leaving(
        kind="payloads",
        name="feedback_texts",
        table="feedback",
        time="given_at",
        only="(comment <> '' or corrected_answer <> '')",
        # Whether there was one is counted, and stays.
        blank="comment = case when comment is not null then '' end,"
        " corrected_answer = case when corrected_answer is not null then '' end",
    ),
    Leaving(
        kind="payloads", name="label_notes", table="labels", time="labelled_at", only="note <> ''", blank="note = ''"
    ),
    Leaving(kind="verdicts", name="feedback", table="feedback", time="given_at"),
    Leaving(
        kind="verdicts",
        name="escalations",
        table="escalations",
        time="coalesce(event_time, created_at)",
        only="state in ('done', 'given_up')",
    ),
    # Of rows that a release before this one wrote nobody knows how old they are: they stay, and hold ids only.
    Leaving(kind="verdicts", name="otel_traces", table="otel_traces", time="event_time"),
    Leaving(kind="verdicts", name="duplicates", table="duplicates", time="event_time"),
    Leaving(kind="dead_letters", name="dead_letters", table="dead_letters", time="dead_at", tenant=None),
)


_FIRST_DAY = text("select first_day()")
_LATE = """
select distinct (minute at time zone 'UTC')::date from rollups
where minute < :done and changed >= cast(cast(:seen as text) as xid8) and {whose}
"""


def take_rows(engine: Engine, scope: Scope, *, dry_run: bool = False) -> Iterator[tuple[str, int]]:
    """Take away what leaves with rows of this kind: name and count, batch by batch.

    Raises:
        LedgerUnavailable: those that are gone are gone; call again.
    """
    for one in LEAVING:
        if one.kind == scope.kind:
            whose = "true" if one.tenant is None else scope.whose(one.tenant)
            old = f"{one.time} < :before and {one.only} and {whose}"
            for count in _take(engine, one.table, old, scope, blank=one.blank, dry_run=dry_run):
                yield one.name, count


def _rows_lie(engine: Engine, scope: Scope) -> Callable[[date], bool]:
    """Whether a day before `scope.through` may hold rows that have to go: it was not done, or some came late.

    Raises:
        LedgerUnavailable: Postgres is away.
    """
    if scope.seen is None:
        return lambda _: True
    with snapshot(engine) as connection:
        rows = connection.execute(text(_LATE.format(whose=scope.whose("tenant"))), scope.asked).scalars()
        late: frozenset[date] = frozenset(rows)
        first: date = connection.execute(_FIRST_DAY).scalar_one()
    # Of the time before the first day, any day stands for all.
    early = scope.done.date() <= first or any(day < first for day in late)
    return lambda day: early if day < first else day >= scope.done.date() or day in late


def delete_of_days(
    engine: Engine, scope: Scope, table: str, days: Iterable[Day], *, dry_run: bool = False
) -> Iterator[int]:
    """Delete rows of days that are kept for others, and of the time before the first day: a day after another.

    Args:
        engine: of the ledger.
        scope: whose, and up to when.
        table: one that has days.
        days: its days that stay.
        dry_run: count them only.

    Raises:
        LedgerUnavailable: those that are gone are gone; call again.
    """
    old = f"event_time < :before and {_OF_TENANTS[table].format(whose=scope.whose('tenant'))}"
    has_rows = _rows_lie(engine, scope)
    theirs = [one for one in days if one.attached and not one.pending and one.day < scope.through.date()]
    before = [f"{table}_before"] if has_rows(date.min) else []
    for name in (*before, *(one.name for one in theirs if has_rows(one.day))):
        yield from _take(engine, name, old, scope, dry_run=dry_run)


def _take(
    engine: Engine, table: str, old: str, scope: Scope, *, blank: str | None = None, dry_run: bool
) -> Iterator[int]:
    if dry_run:
        with snapshot(engine) as connection:
            yield connection.execute(text(f"select count(*) from {table} where {old}"), scope.asked).scalar_one()
        return
    what = f"delete from {table}" if blank is None else f"update {table} set {blank}"
    statement = text(f"{what} where ctid in (select ctid from {table} where {old} limit {_BATCH})")
    taken = _BATCH
    while taken == _BATCH:
        with transaction(engine) as connection:
            taken = connection.execute(statement, scope.asked).rowcount
        yield taken
