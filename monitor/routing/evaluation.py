"""Which evaluators see which traces: rules by service, and a sample of known probability."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from monitor.domain.trace import Trace
from monitor.routing.sampling import chosen

_SALT = "groundwatch/evaluator"


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluatorRule:
    """Some services' evaluators.

    Attributes:
        services: a pattern for `tenant/service`, such as `acme/*`: `*`, `?` and `[…]` as in file names.
        evaluators: their names.
        share: share of those services' traces that they see, in [0, 1].
    """

    services: str
    evaluators: tuple[str, ...]
    share: float = 1.0


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectedEvaluator:
    """An evaluator that sees a trace, and the probability with which it sees such a trace: what rates divide by."""

    name: str
    inclusion_probability: float


def select_evaluators(trace: Trace, rules: Sequence[EvaluatorRule]) -> tuple[SelectedEvaluator, ...]:
    """The evaluators that see a trace, in the rules' order.

    Where several rules name an evaluator for a service, the largest share counts. A hash of the trace id decides,
    one for each evaluator: the same trace is chosen every time, and a larger share keeps all that a smaller one chose.
    """
    segment = f"{trace.tenant}/{trace.service}"
    shares: dict[str, float] = {}
    for rule in rules:
        if fnmatchcase(segment, rule.services):
            for name in rule.evaluators:
                shares[name] = max(rule.share, shares.get(name, 0.0))
    return tuple(
        SelectedEvaluator(name=name, inclusion_probability=share)
        for name, share in shares.items()
        if chosen(trace.tenant, trace.trace_id, salt=f"{_SALT}/{name}", share=share)
    )
