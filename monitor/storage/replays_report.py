"""Two versions' words on the same traces, counted day by day."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, text

from monitor.domain.trace import Segment
from monitor.domain.verdict import FAITHFULNESS, Label
from monitor.storage.engine import snapshot
from monitor.storage.replays import Kind, Replay
from monitor.storage.verifying_days import Span, days

# The old word is the first one, or that of a version by name; what the new version itself said first is no comparison.
_PAIRS = """
    from verdicts as old
    left join verdicts as new on new.tenant = old.tenant and new.trace_id = old.trace_id
        and new.event_time = old.event_time and new.evaluator = old.evaluator and new.judge_version = :judge_version
    where old.event_time >= :since and old.event_time < :until and old.evaluator = :evaluator
        and old.judge_version <> :judge_version
        and case when cast(:against as text) is null then old.replay_id is null else old.judge_version = :against end
        and (cast(:tenant as text) is null or old.tenant = :tenant)
        and (cast(:service as text) is null or old.service = :service)
        and (cast(:environment as text) is null or old.environment = :environment)
        and (not :unjudged or (old.outcome = 'unjudged' and (cast(:reason as text) is null or old.reason = :reason)))
"""

_COUNTS = f"""
select
    old.tenant, old.service, old.environment, old.judge_version as old_version,
    count(*) as selected,
    count(*) filter (where new.tenant is null) as missing,
    count(*) filter (where new.outcome = 'unjudged') as unjudged,
    count(*) filter (where new.outcome = 'pending') as pending,
    count(*) filter (where new.label is not null and old.label is null) as newly_judged,
    count(*) filter (where old.label = 'hallucinated' and new.label = 'hallucinated') as both_hallucinated,
    count(*) filter (where old.label = 'hallucinated' and new.label = 'faithful') as now_faithful,
    count(*) filter (where old.label = 'faithful' and new.label = 'hallucinated') as now_hallucinated,
    count(*) filter (where old.label = 'faithful' and new.label = 'faithful') as both_faithful
{_PAIRS}
group by 1, 2, 3, 4
order by 1, 2, 3, 4
"""

# What the version itself could not judge is judged anew into the same row: it compares with nothing, and is counted.
# Why it could not, once it has, only the row's judgements tell.
_OWN = """
select
    count(*) filter (where own.outcome = 'verdict') as judged,
    count(*) filter (where own.outcome = 'unjudged') as unjudged
from verdicts as own
where own.event_time >= :since and own.event_time < :until and own.evaluator = :evaluator
    and own.judge_version = :judge_version and own.replay_id is null and own.first_label is null
    and (cast(:tenant as text) is null or own.tenant = :tenant)
    and (cast(:service as text) is null or own.service = :service)
    and (cast(:environment as text) is null or own.environment = :environment)
    and (cast(:reason as text) is null or own.reason = :reason or (own.outcome = 'verdict' and exists (
        select from judgements as said
        where said.tenant = own.tenant and said.trace_id = own.trace_id and said.event_time = own.event_time
            and said.evaluator = own.evaluator and said.judge_version = own.judge_version and said.reason = :reason
    )))
"""

_CHANGED = f"""
select
    changed.*, left(traces.question, :characters) as question, left(traces.answer, :characters) as answer
from (
    select
        old.tenant, old.service, old.environment, old.trace_id, old.event_time,
        old.label as old_label, old.probability as old_probability,
        new.label as new_label, new.probability as new_probability
    {_PAIRS} and old.label <> new.label
    order by abs(new.probability - old.probability) desc, old.tenant, old.trace_id
    limit :most
) as changed
left join traces on traces.tenant = changed.tenant and traces.trace_id = changed.trace_id
    and traces.event_time = changed.event_time
order by abs(new_probability - old_probability) desc, changed.tenant, changed.trace_id
"""  # noqa: S608 - a constant is put in


@dataclass(frozen=True, kw_only=True, slots=True)
class PairCounts:
    """Traces of one segment and old version, by what the two versions said.

    Attributes:
        selected: all of them.
        missing: of these, those of which the new version has not spoken.
        unjudged, pending: that it could not judge, or not yet.
        newly_judged: that only it has judged.
        both_hallucinated, now_faithful, now_hallucinated, both_faithful: that both have judged.
    """

    selected: int = 0
    missing: int = 0
    unjudged: int = 0
    pending: int = 0
    newly_judged: int = 0
    both_hallucinated: int = 0
    now_faithful: int = 0
    now_hallucinated: int = 0
    both_faithful: int = 0

    def __add__(self, other: "PairCounts") -> "PairCounts":
        names = PairCounts.__dataclass_fields__
        return PairCounts(**{name: getattr(self, name) + getattr(other, name) for name in names})


@dataclass(frozen=True, kw_only=True, slots=True)
class OwnCounts:
    """Traces that the new version itself could not judge at first, live.

    Attributes:
        judged: that it has judged by now, in a replay or by the pool.
        unjudged: that it still has not.
    """

    judged: int = 0
    unjudged: int = 0

    def __add__(self, other: "OwnCounts") -> "OwnCounts":
        return OwnCounts(judged=self.judged + other.judged, unjudged=self.unjudged + other.unjudged)


@dataclass(frozen=True, kw_only=True, slots=True)
class Compared:
    """Counts of one segment, against one version."""

    segment: Segment
    old_version: str
    counts: PairCounts


@dataclass(frozen=True, kw_only=True, slots=True)
class Changed:
    """An answer on which the two versions differ; the texts are None when they are kept no longer."""

    segment: Segment
    trace_id: str
    event_time: datetime
    old_label: Label
    old_probability: float
    new_label: Label
    new_probability: float
    question: str | None
    answer: str | None

    @property
    def by(self) -> float:
        """How far the probability moved."""
        return abs(self.new_probability - self.old_probability)


def compared_days(
    engine: Engine, replay: Replay, *, against: str | None, most: int, characters: int
) -> Iterator[tuple[Sequence[Compared], Sequence[Changed]]]:
    """For each day of a replay's selection: its counts, and at most `most` answers that changed, the clearest first.

    Args:
        engine: of the ledger.
        replay: one of traces.
        against: the version to compare with; the first verdicts when None.
        most: answers of a day.
        characters: of each text.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    for span in days(engine, since=replay.selection.since, until=replay.selection.until):
        yield _day(engine, _parameters(replay, span, against=against), most=most, characters=characters)


def own_days(engine: Engine, replay: Replay) -> Iterator[OwnCounts]:
    """For each day of the selection of a replay of what could not be judged: its version's own such traces.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    for span in days(engine, since=replay.selection.since, until=replay.selection.until):
        with snapshot(engine) as connection:
            row = connection.execute(text(_OWN), _parameters(replay, span, against=None)).one()
        yield OwnCounts(**row._asdict())


def _parameters(replay: Replay, span: Span, *, against: str | None) -> dict[str, Any]:
    selection = replay.selection
    return {
        "since": span.since,
        "until": span.until,
        "evaluator": FAITHFULNESS,
        "judge_version": replay.judge_version,
        "against": against,
        "tenant": selection.tenant,
        "service": selection.service,
        "environment": selection.environment,
        "unjudged": selection.kind is Kind.UNJUDGED,
        "reason": selection.reason,
    }


def _day(
    engine: Engine, parameters: dict[str, Any], *, most: int, characters: int
) -> tuple[Sequence[Compared], Sequence[Changed]]:
    with snapshot(engine) as connection:
        counted = connection.execute(text(_COUNTS), parameters).mappings().all()
        changed = connection.execute(text(_CHANGED), {**parameters, "most": most, "characters": characters}).mappings()
        return (
            [
                Compared(
                    segment=_segment(row),
                    old_version=row["old_version"],
                    counts=PairCounts(**{name: row[name] for name in PairCounts.__dataclass_fields__}),
                )
                for row in counted
            ],
            [
                Changed(
                    segment=_segment(row),
                    trace_id=row["trace_id"],
                    event_time=row["event_time"],
                    old_label=Label(row["old_label"]),
                    old_probability=row["old_probability"],
                    new_label=Label(row["new_label"]),
                    new_probability=row["new_probability"],
                    question=row["question"],
                    answer=row["answer"],
                )
                for row in changed
            ],
        )


def _segment(row: Any) -> Segment:
    return Segment(tenant=row["tenant"], service=row["service"], environment=row["environment"])
