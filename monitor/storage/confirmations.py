"""Samples of flagged answers for a stronger judge, from before and after a rise, and what it said of them."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, Select, cast, func, insert, literal, select
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.alert import Alert
from monitor.domain.confirmation import Confirmation, ConfirmationState
from monitor.domain.judgement import Tier
from monitor.domain.trace import Origin
from monitor.domain.verdict import Action, Decision, Label
from monitor.drift.corrected import Share
from monitor.storage.alert_rows import to_alert
from monitor.storage.engine import retry_conflicts, snapshot, transaction
from monitor.storage.findings import keep_confirmation
from monitor.storage.rebuilding import rebuild
from monitor.storage.slices import Change, in_slice
from monitor.storage.storable import storable
from monitor.storage.tables import alerts, confirmation_samples, escalations, judgements, judges, verdicts
from monitor.wire import encode_assessment

_KEY = ("tenant", "trace_id", "evaluator", "judge_version")
_FIRST = 0
"""Priority of what an alert waits for: before all else."""

_HALF = 0.5
_ORIGIN = Origin(topic="drift.confirmation", partition=0, offset=0)


@dataclass(frozen=True, kw_only=True, slots=True)
class Sampled:
    """One side of a change: answers that were asked about, those without an answer yet, and the stronger judge's word.

    Attributes:
        open: still waiting for the stronger judge.
        agreed: hallucinated by its word, of those that it could judge.
    """

    asked: int
    open: int
    agreed: Share


def pending_confirmations(engine: Engine) -> list[Alert]:
    """Alerts whose rise is still to be confirmed, the oldest first.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    query = select(alerts).where(_is_pending()).order_by(alerts.c.raised_at, alerts.c.alert_id)
    with snapshot(engine) as connection:
        return [to_alert(row) for row in connection.execute(query)]


def request_samples(engine: Engine, alert_id: str, change: Change, *, per_side: int) -> bool:
    """Draw both samples, once, and put them before all else that waits for the pool.

    What the pool has judged already is not judged again. The draw is random, and the same for the same alert.

    Returns:
        Whether this call drew them; False where someone had.

    Raises:
        LedgerUnavailable: nothing was drawn.
    """
    return retry_conflicts(lambda: _request(engine, alert_id, change, per_side))


def _request(engine: Engine, alert_id: str, change: Change, per_side: int) -> bool:
    with transaction(engine) as connection:
        if _locked(connection, alert_id) is None or _is_drawn(connection, alert_id):
            return False
        for later, start, end in (
            (False, change.since, change.first_minute),
            (True, change.first_minute, change.end),
        ):
            drawn = _draw(alert_id, change, start=start, end=end, later=later, limit=per_side)
            connection.execute(insert(confirmation_samples).from_select(["alert_id", "later", *_KEY], drawn))
        _escalate(connection, alert_id)
        return True


def read_samples(engine: Engine, alert_id: str) -> tuple[Sampled, Sampled]:
    """What was drawn before and after the change, and how it stands.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    sample = confirmation_samples.c
    word = _pool_word(sample).lateral("word")
    waits = (
        select(literal(True))
        .where(*[escalations.c[name] == sample[name] for name in _KEY])
        .where(escalations.c.state.in_(("waiting", "claimed")))
        .exists()
    )
    query = (
        select(
            sample.later,
            func.count().label("asked"),
            func.count().filter(waits & word.c.hallucinated.is_(None)).label("open"),
            func.count(word.c.hallucinated).label("heard"),
            func.count().filter(word.c.hallucinated).label("agreed"),
        )
        .select_from(confirmation_samples.outerjoin(word, literal(True)))
        .where(sample.alert_id == alert_id)
        .group_by(sample.later)
    )
    with snapshot(engine) as connection:
        sides = {
            row.later: Sampled(asked=row.asked, open=row.open, agreed=Share(hits=row.agreed, n=row.heard))
            for row in connection.execute(query)
        }
    nothing = Sampled(asked=0, open=0, agreed=Share(hits=0, n=0))
    return sides.get(False, nothing), sides.get(True, nothing)


def conclude(engine: Engine, alert_id: str, confirmation: Confirmation, *, at: datetime, note: str) -> Alert | None:
    """Keep how it ended, once, with the deliveries that tell of it.

    Returns:
        The alert as it now stands; None where another process had concluded.

    Raises:
        LedgerUnavailable: nothing was kept.
    """
    with transaction(engine) as connection:
        if _locked(connection, alert_id) is None:
            return None
        return keep_confirmation(connection, alert_id, confirmation, at=at, text=note)


def _is_pending() -> ColumnElement[bool]:
    state: ColumnElement[str] = alerts.c.confirmation["state"].astext
    return state == ConfirmationState.PENDING.value


def _locked(connection: Connection, alert_id: str) -> Row[tuple[str]] | None:
    query = select(alerts.c.alert_id).where(alerts.c.alert_id == alert_id, _is_pending()).with_for_update()
    return connection.execute(query).one_or_none()


def _is_drawn(connection: Connection, alert_id: str) -> bool:
    query = select(confirmation_samples.c.alert_id).where(confirmation_samples.c.alert_id == alert_id).limit(1)
    return connection.execute(query).first() is not None


def _draw(alert_id: str, change: Change, *, start: datetime, end: datetime, later: bool, limit: int) -> Select[Any]:
    said = verdicts.c
    drawn = (
        select(literal(alert_id), literal(later), *[said[name] for name in _KEY])
        .where(*[said[name] == value for name, value in change.key.columns().items()])
        .where(said.event_time >= start, said.event_time < end)
        .where(said.first_label == Label.HALLUCINATED.value)
        .order_by(func.md5(literal(alert_id) + said.trace_id))
        .limit(limit)
    )
    return drawn if change.part is None else drawn.where(in_slice(change.part))


def _escalate(connection: Connection, alert_id: str) -> None:
    sample = confirmation_samples.c
    unheard = (
        select(*[sample[name] for name in _KEY])
        .where(sample.alert_id == alert_id, ~_pool_word(sample).exists())
        .order_by(*[sample[name] for name in _KEY])
    )
    keys = [(row.tenant, row.trace_id, row.evaluator, row.judge_version) for row in connection.execute(unheard)]
    decision = Decision(action=Action.ESCALATE, reason="confirmation", inclusion_probability=1.0, priority=_FIRST)
    for assessment in rebuild(connection, keys, origin=_ORIGIN, decision=decision):
        add = upsert(escalations).values(
            tenant=assessment.trace.tenant,
            trace_id=assessment.trace.trace_id,
            evaluator=assessment.evaluator,
            judge_version=assessment.judge_version,
            event_time=assessment.trace.event_time,
            assessment=cast(literal(storable(encode_assessment(assessment).decode())), JSONB),
            reason=decision.reason,
            priority=decision.priority,
        )
        # One that waits already comes to the front; one that the pool gave up is not tried again.
        sooner = add.on_conflict_do_update(
            constraint="uq_escalations_verdict",
            set_={"priority": func.least(escalations.c.priority, add.excluded.priority)},
            where=escalations.c.state == "waiting",
        )
        connection.execute(sooner)


def _pool_word(sample: Any) -> Select[Any]:
    """The pool's newest word on a sampled trace; no row where it has none."""
    said = judgements.c
    return (
        select(func.coalesce(said.probability >= _HALF, said.raw_score > 0).label("hallucinated"))
        .join(judges, judges.c.judge == said.judge)
        .where(*[said[name] == sample[name] for name in _KEY])
        .where(judges.c.tier == Tier.POOL.value, said.reason.is_(None))
        .order_by(said.sequence.desc())
        .limit(1)
        .correlate(confirmation_samples)
    )
