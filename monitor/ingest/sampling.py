"""Sampling as a treatment: what is left out is counted, what is kept says with what probability."""

from collections.abc import Sequence
from dataclasses import replace

from monitor.domain.errors import InvalidTrace
from monitor.domain.feedback import Feedback
from monitor.domain.trace import Trace
from monitor.ingest.counters import Drop, IngestCounters
from monitor.routing.keeping import KeepingRule, is_kept, keeping_probability
from monitor.wire import LEAST_SAMPLING_PROBABILITY


class Sampling:
    """Leaves traces out by their ids.

    Args:
        probability: that a trace is kept with.
        rules: for some segments; the first that covers a trace counts.
        counters: told of each trace that is left out.
    """

    def __init__(self, probability: float, rules: Sequence[KeepingRule] = (), *, counters: IngestCounters) -> None:
        self._probability = probability
        self._rules = tuple(rules)
        self._counters = counters

    def leaves(self, raw: bytes, encoding: str) -> bool:  # noqa: ARG002 - as `export`
        """Always."""
        return True

    def export(self, raw: bytes, encoding: str) -> bytes:  # noqa: ARG002 - which traces its spans make is not known yet
        """The same: traces are chosen once they are assembled."""
        return raw

    def feedback(self, feedback: Feedback) -> Feedback:
        """The same: what people say of answers is rare enough."""
        return feedback

    def trace(self, trace: Trace) -> Trace | None:
        """The trace with the probability that it was kept with so far, times ours; None where it is left out.

        Raises:
            InvalidTrace: it would stand for more traces than the contract allows.
        """
        probability = keeping_probability(trace, self._rules, self._probability)
        if probability == 1:
            return trace
        if not is_kept(trace, probability):
            self._counters.dropped(Drop.SAMPLED_OUT, 1)
            return None
        kept_with = trace.sampling_probability * probability
        if kept_with < LEAST_SAMPLING_PROBABILITY:
            problem = f"{kept_with:g} with this sidecar's own; at least {LEAST_SAMPLING_PROBABILITY:g} is allowed"
            raise InvalidTrace("sampling_probability", problem)
        return replace(trace, sampling_probability=kept_with)
