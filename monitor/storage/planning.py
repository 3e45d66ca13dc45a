"""What becomes of each record of a batch, decided before the first row is written, in the ledger's transaction."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import psycopg

from monitor.domain.dead_letter import DeadLetter
from monitor.domain.trace import Origin
from monitor.domain.verdict import Action, Assessment
from monitor.storage.receipts import PartitionKey, Receipts, read_receipts
from monitor.storage.rows import OutcomeColumns, choice_words, outcome_columns, position

# A day on either side: a trace that is sent again carries the time that its sender's clock showed then.
_SEEN = """
select verdict.trace_id, segments.tenant, segments.evaluator, segments.judge_version, verdict.outcome
from verdict_rows as verdict
join segments using (segment_id)
where verdict.trace_id = any(%s::text[])
    and verdict.event_time >= %s::timestamptz - interval '1 day'
    and verdict.event_time < %s::timestamptz + interval '2 days'
"""
_KEPT = """
select payload.trace_id, payload.tenant
from payloads as payload
where payload.trace_id = any(%s::text[])
    and payload.event_time >= %s::timestamptz - interval '1 day'
    and payload.event_time < %s::timestamptz + interval '2 days'
"""
_OUTCOMES = {"v": "verdict", "u": "unjudged", "p": "pending"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """An assessment that is to be written, and how its trace stands by it.

    Attributes:
        judged_by: of each judgement: the judge's version, and why it was asked.
        has_payload: whether its texts are kept already.
    """

    said: Assessment
    outcome: OutcomeColumns
    judged_by: tuple[tuple[str, str], ...]
    has_payload: bool


@dataclass(kw_only=True, slots=True)
class Plan:
    """What is to be written of a batch.

    Attributes:
        written: traces with their verdicts; the first record of each.
        duplicates: records with the id of a trace that is known, in this batch or before.
        dead: records that could not be judged.
        reconsidered: of the duplicates, replayed traces that their judge version could not judge before, and now can.
        outcomes: of all records that the ledger had not seen, by partition and offset.
    """

    written: list[Standing] = field(default_factory=list)
    duplicates: list[Assessment] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    reconsidered: list[Assessment] = field(default_factory=list)
    outcomes: dict[PartitionKey, dict[int, str]] = field(default_factory=lambda: defaultdict(dict))

    @property
    def counts(self) -> Counter[str]:
        """New receipts by outcome."""
        return Counter(outcome for some in self.outcomes.values() for outcome in some.values())


def make_plan(
    cursor: psycopg.Cursor[Any],
    assessments: Sequence[Assessment],
    letters: Sequence[DeadLetter],
    topics: Mapping[str, int],
) -> Plan:
    """Decide, while the records' partitions are held. Of several records with one trace id, the first is the trace.

    Args:
        cursor: in the ledger's transaction.
        assessments: the batch's judged traces.
        letters: its records that could not be judged.
        topics: numbers of the topics' lives.
    """
    # One record twice in a batch is a redelivery; all its copies say the same, so the first will do.
    alive = {position(one.origin): one for one in reversed(assessments)}
    dead = {position(one.origin): one for one in reversed(letters)}
    receipts = read_receipts(cursor, _offsets([*alive, *dead], topics))
    fresh = [alive[place] for place in sorted(alive) if _is_fresh(alive[place].origin, receipts, topics)]
    plan = Plan()
    _plan_traces(plan, fresh, _seen(cursor, fresh), topics)
    for letter in dead.values():
        key = partition_key(letter.origin, topics)
        if letter.origin.offset not in plan.outcomes[key] and not receipts.has(key, letter.origin.offset):
            plan.dead.append(letter)
            plan.outcomes[key][letter.origin.offset] = "dead_letter"
    return plan


def partition_key(origin: Origin, topics: Mapping[str, int]) -> PartitionKey:
    """Where a record lay, by numbers."""
    return topics[origin.log], origin.partition


@dataclass(kw_only=True, slots=True)
class _Seen:
    """What the ledger knows of the traces of a batch.

    Attributes:
        traces: (tenant, trace id) with a verdict.
        verdicts: (tenant, trace id, evaluator), and the same with the judge version, which has the outcome's letter.
        kept: (tenant, trace id) of replayed traces whose texts are still there.
    """

    traces: set[tuple[str, ...]] = field(default_factory=set)
    verdicts: dict[tuple[str, ...], str] = field(default_factory=dict)
    kept: set[tuple[str, ...]] = field(default_factory=set)

    def add(self, tenant: str, trace_id: str, evaluator: str, judge_version: str, outcome: str) -> None:
        """There is such a verdict."""
        self.traces.add((tenant, trace_id))
        self.verdicts[tenant, trace_id, evaluator] = outcome
        self.verdicts[tenant, trace_id, evaluator, judge_version] = outcome


def _plan_traces(plan: Plan, fresh: Iterable[Assessment], seen: _Seen, topics: Mapping[str, int]) -> None:
    for said in fresh:
        trace = (said.trace.tenant, said.trace.trace_id)
        version = (*trace, said.evaluator, said.judge_version)
        replayed = said.origin.replay_id is not None
        columns = outcome_columns(said.outcome, escalated=said.decision.action is Action.ESCALATE)
        # A replay is another version's word on a trace that is known, and must still be: nothing is brought back.
        known = version if replayed else version[:3]
        if known in seen.verdicts or (replayed and trace not in seen.kept):
            outcome = "duplicate"
            plan.duplicates.append(said)
            if replayed and columns.outcome == "v" and seen.verdicts.get(version) == "u":
                plan.reconsidered.append(said)
                seen.verdicts[version] = columns.outcome
        else:
            outcome = _OUTCOMES[columns.outcome]
            judged_by = tuple(map(choice_words, said.judgements))
            has_payload = trace in seen.traces or replayed
            plan.written.append(Standing(said=said, outcome=columns, judged_by=judged_by, has_payload=has_payload))
            seen.add(*version, columns.outcome)
        plan.outcomes[partition_key(said.origin, topics)][said.origin.offset] = outcome


def _offsets(places: Iterable[tuple[Any, ...]], topics: Mapping[str, int]) -> dict[PartitionKey, list[int]]:
    offsets: dict[PartitionKey, list[int]] = defaultdict(list)
    for topic, partition, offset in places:
        offsets[topics[topic], partition].append(offset)
    return offsets


def _is_fresh(origin: Origin, receipts: Receipts, topics: Mapping[str, int]) -> bool:
    return not receipts.has(partition_key(origin, topics), origin.offset)


def _seen(cursor: psycopg.Cursor[Any], fresh: Iterable[Assessment]) -> _Seen:
    by_day: dict[date, list[str]] = defaultdict(list)
    replayed: dict[date, list[str]] = defaultdict(list)
    for said in fresh:
        day = said.trace.event_time.date()
        by_day[day].append(said.trace.trace_id)
        if said.origin.replay_id is not None:
            replayed[day].append(said.trace.trace_id)
    seen = _Seen()
    for day, ids in sorted(by_day.items()):
        for trace_id, tenant, evaluator, judge_version, outcome in cursor.execute(_SEEN, (ids, day, day)):
            seen.add(tenant, trace_id, evaluator, judge_version, outcome)
    for day, ids in sorted(replayed.items()):
        seen.kept |= {(tenant, trace_id) for trace_id, tenant in cursor.execute(_KEPT, (ids, day, day))}
    return seen
