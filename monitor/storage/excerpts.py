"""Questions and answers as they were asked, for a person to read."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Engine, and_, func, select

from monitor.storage.engine import snapshot
from monitor.storage.tables import traces, verdicts


@dataclass(frozen=True, kw_only=True, slots=True)
class Excerpt:
    """The beginning of a trace's texts; `reasoning` is the judge's, where it gave one."""

    question: str
    answer: str
    reasoning: str | None


def read_excerpts(engine: Engine, tenant: str, trace_ids: Sequence[str], *, characters: int) -> dict[str, Excerpt]:
    """The excerpts of a tenant's traces, by id; those whose texts are gone are left out.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    same = and_(*[traces.c[name] == verdicts.c[name] for name in ("tenant", "trace_id", "event_time")])
    query = (
        select(
            traces.c.trace_id,
            func.max(func.left(traces.c.question, characters)).label("question"),
            func.max(func.left(traces.c.answer, characters)).label("answer"),
            func.left(func.max(verdicts.c.reasoning), characters).label("reasoning"),
        )
        .join(verdicts, same)
        .where(traces.c.tenant == tenant, traces.c.trace_id.in_(trace_ids))
        .group_by(traces.c.tenant, traces.c.trace_id)
    )
    with snapshot(engine) as connection:
        return {
            row.trace_id: Excerpt(question=row.question, answer=row.answer, reasoning=row.reasoning)
            for row in connection.execute(query)
        }
