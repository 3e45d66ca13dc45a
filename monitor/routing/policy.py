"""Which tier judges what: pure decisions over probabilities and hashes.

Two hashes decide about a trace, one for the audit and one for the unsure share. Every probability stored with a
decision is the probability over those hashes, for this very trace: what corrected rates divide by.

There are two ways to choose. By *band*, a judge is asked where the probability so far lies between two bounds: all
that can be said without labelled data. By *value*, it is asked where the loss that it is expected to avoid exceeds
what the call costs; a budget is kept by a price on top of the cost, the same for all, so that the calls go where they
are worth most and not to whoever comes first. Where no fit tells what a judge would add, the band decides.
"""

import hashlib
from dataclasses import dataclass, fields
from enum import StrEnum

from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.trace import Trace
from monitor.domain.verdict import Action, Decision, Label
from monitor.routing.sampling import chosen
from monitor.routing.value import EVEN, Costs, Prospect

BEYOND_ANY_JUDGE = frozenset({Unjudgeable.NO_DOCUMENTS, Unjudgeable.EMPTY_ANSWER, Unjudgeable.REDACTED})
"""Nothing to judge: no other tier could do better."""

AUDIT_PRIORITY = 10
"""Audits first: they are few, and a lost one biases every corrected rate."""
UNJUDGED_PRIORITY = 50
"""Then traces that have no verdict at all."""
UNSURE_PRIORITY = 100
"""Then unsure verdicts, those nearest the threshold or worth most first: up to 100 more for the others."""
REPLAYED_PRIORITY = 1000
"""More for each of these where a trace is judged anew: it goes to the pool when no live trace waits."""

_AUDIT_SALT = "audit"
_ESCALATE_SALT = "escalate"


class EdgeUse(StrEnum):
    """Which traces the edge judge sees."""

    ALL = "all"
    UNSURE = "unsure"
    NONE = "none"


class Mode(StrEnum):
    """How it is decided whom to ask."""

    BAND = "band"
    VALUE = "value"


@dataclass(frozen=True, kw_only=True, slots=True)
class Choice:
    """A tier was chosen for a trace: why, and with what probability such a trace is."""

    because: str
    inclusion_probability: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Policy:
    """The routing policy. All shares and probabilities lie in [0, 1].

    Attributes:
        threshold: an answer is called hallucinated from this probability on.
        mode: by band or by value; see the module.
        edge: which traces the edge judge sees.
        edge_budget_share: share of wall time that it may take for unsure traces; audits are never skipped.
        unsure_low, unsure_high: the band, ends included, in which a probability settles nothing.
        escalates: whether there is a pool to go to; without one no trace is ever sent there.
        escalate_unsure_share: share of the unsure, and of those without a verdict, that goes to the pool.
        audit_share: share of all traces that goes to the pool (and to the edge) whatever the judges say.
        costs: of errors.
        edge_call, pool_call: what a call costs, in the currency of `costs`.
        edge_price, pool_price: what it must be worth on top of its cost, so that a budget is kept.
        salt: changes every choice at once.
        escalates_replays: whether traces that are judged anew go to the pool, too.
    """

    threshold: float = 0.5
    mode: Mode = Mode.BAND
    edge: EdgeUse = EdgeUse.UNSURE
    edge_budget_share: float = 0.25
    unsure_low: float = 0.35
    unsure_high: float = 0.65
    escalates: bool = True
    escalate_unsure_share: float = 0.1
    audit_share: float = 0.02
    costs: Costs = EVEN
    edge_call: float = 0.0
    pool_call: float = 0.0
    edge_price: float = 0.0
    pool_price: float = 0.0
    salt: str = "groundwatch"
    escalates_replays: bool = False

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of every attribute: part of the cascade's version."""
        # As if it were not there where it is not asked for: a version is then the same, live and in a replay.
        told = (field for field in fields(self) if field.name != "escalates_replays" or self.escalates_replays)
        parts = (f"{field.name}={getattr(self, field.name)!s}" for field in told)
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

    def label(self, probability: float) -> Label:
        """The verdict for a probability of *hallucinated*."""
        return Label.HALLUCINATED if probability >= self.threshold else Label.FAITHFUL

    def is_unsure(self, probability: float | None) -> bool:
        """Whether a probability settles nothing; None, from a judge that could not judge, never settles."""
        return probability is None or self.unsure_low <= probability <= self.unsure_high

    def is_audited(self, trace: Trace) -> bool:
        """Whether the audit hash chose this trace."""
        return self._chosen(trace, _AUDIT_SALT, self.audit_share)

    def value(self, probability: float | None, prospect: Prospect | None) -> float | None:
        """Expected loss that asking avoids; None where it is not chosen by value, or nothing tells."""
        if self.mode is not Mode.VALUE or probability is None or prospect is None:
            return None
        return self.costs.value(probability, self.threshold, prospect)

    def edge_choice(
        self,
        trace: Trace,
        probability: float | None,
        *,
        within_budget: bool,
        prospect: Prospect | None = None,
        scarcity: float = 0.0,
    ) -> Choice | None:
        """Whether the edge judge shall see a trace.

        Args:
            trace: one that is judgeable in principle.
            probability: what the screen made of it; None when it could not judge.
            within_budget: whether the edge judge has time left.
            prospect: what would remain wrong if it were asked; None where no fit tells.
            scarcity: how far its time is used up, 0 to 1: by value, the price rises with it, so that what is left
                goes to the traces for which it is worth most.

        Returns:
            The choice, or None. A trace that is unsure or worth the call has an inclusion probability of 1 *while
            the budget lasts*; one that only the audit brought in carries the audit's share, which holds whatever
            the load.
        """
        if self.edge is EdgeUse.NONE:
            return None
        if self.edge is EdgeUse.ALL:
            return Choice(because="all", inclusion_probability=1.0)
        value = self.value(probability, prospect)
        price = self.edge_call + self.edge_price + scarcity * self.costs.most
        wanted = self.is_unsure(probability) if value is None else value > price
        if wanted and within_budget:
            return Choice(because="unsure" if value is None else "value", inclusion_probability=1.0)
        if self.is_audited(trace):
            return Choice(because="audit", inclusion_probability=self.audit_share)
        return None

    def decide(
        self,
        trace: Trace,
        *,
        probability: float | None,
        failure: CouldNotJudge | None = None,
        prospect: Prospect | None = None,
        replayed: bool = False,
    ) -> Decision:
        """Whether a trace goes to the pool.

        Args:
            trace: the trace.
            probability: the fused probability *as it would stand had the trace not been audited*: without the
                judgements that only the audit asked for. Otherwise those would shift the very probability with
                which the trace is stored as chosen.
            failure: why there is no probability, when there is none.
            prospect: what would remain wrong if the pool were asked, from the same judgements as `probability`;
                None where no fit tells.
            replayed: whether it is judged anew.

        Returns:
            The decision. Its inclusion probability is `audit_share` for a trace that is sure or not worth the call,
            1 for one that is worth it, `audit_share + (1 - audit_share) * escalate_unsure_share` for an unsure or
            unjudged one, and 0 where no judge could do better or there is no pool.
        """
        if failure is not None and failure.reason in BEYOND_ANY_JUDGE:
            return Decision(action=Action.ACCEPT, reason="unjudgeable", inclusion_probability=0.0)
        value = self.value(probability, prospect)
        reason, share = self._reason(probability, value)
        if not (self.escalates and (self.escalates_replays or not replayed)):
            return Decision(action=Action.ACCEPT, reason=reason, inclusion_probability=0.0)
        inclusion = self.audit_share + (1.0 - self.audit_share) * share
        later = REPLAYED_PRIORITY if replayed else 0
        if self.is_audited(trace):
            return self._escalate("audit", inclusion, AUDIT_PRIORITY + later)
        if self._chosen(trace, _ESCALATE_SALT, share):
            return self._escalate(reason, inclusion, self._priority(probability, value) + later)
        return Decision(action=Action.ACCEPT, reason=reason, inclusion_probability=inclusion)

    def _reason(self, probability: float | None, value: float | None) -> tuple[str, float]:
        """Why a trace goes to the pool or not, and the share of its like that goes there, audits apart."""
        if value is not None:
            return ("value", 1.0) if value > self.pool_call + self.pool_price else ("settled", 0.0)
        if not self.is_unsure(probability):
            return "sure", 0.0
        return "unjudged" if probability is None else "unsure", self.escalate_unsure_share

    def _priority(self, probability: float | None, value: float | None) -> int:
        if probability is None:
            return UNJUDGED_PRIORITY
        if value is not None:
            return UNSURE_PRIORITY + round(100 * max(0.0, 1.0 - value / self.costs.most))
        return UNSURE_PRIORITY + round(100 * abs(probability - self.threshold))

    def _chosen(self, trace: Trace, purpose: str, share: float) -> bool:
        return chosen(trace.tenant, trace.trace_id, salt=f"{self.salt}/{purpose}", share=share)

    @staticmethod
    def _escalate(reason: str, inclusion: float, priority: int) -> Decision:
        return Decision(action=Action.ESCALATE, reason=reason, inclusion_probability=inclusion, priority=priority)
