"""Which traces are watched at all: one share for each segment, the same traces at every sidecar.

Whether a trace is kept hangs on its id alone. So all sidecars that see it agree, a trace that is sent twice is kept
twice or never, and what is kept at one probability is kept at every higher one.

For an OpenTelemetry trace id the decision is that of OpenTelemetry's consistent probability sampling ("TraceState:
Probability Sampling", opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling): the id's last 56 bits,
which W3C Trace Context Level 2 wants random, against a rejection threshold. Hence it is the decision of every sampler
and collector that follows the specification, too. Other ids need not be random (`req-4711`): they are hashed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from monitor.domain.trace import Trace
from monitor.routing.sampling import chosen

RANDOM_BITS = 56
"""Of an OpenTelemetry trace id, the last: randomness enough to tell probabilities of 2^-56 apart."""

_SALT = "groundwatch/keep"
_RANDOM_DIGITS = RANDOM_BITS // 4


@dataclass(frozen=True, kw_only=True, slots=True)
class KeepingRule:
    """How probably the traces of some segments are kept; what is None is any.

    Attributes:
        probability: in [0, 1].
    """

    tenant: str | None = None
    service: str | None = None
    environment: str | None = None
    probability: float

    def covers(self, trace: Trace) -> bool:
        """Whether it speaks of such a trace."""
        return (
            self.tenant in (None, trace.tenant)
            and self.service in (None, trace.service)
            and self.environment in (None, trace.environment)
        )


def keeping_probability(trace: Trace, rules: Sequence[KeepingRule], otherwise: float) -> float:
    """How probably such a trace is kept: the first rule that covers it says so."""
    return next((rule.probability for rule in rules if rule.covers(trace)), otherwise)


def is_kept(trace: Trace, probability: float) -> bool:
    """Whether a trace is kept at this probability; at 0 never, at 1 always.

    A trace that had been sampled before it came (its `sampling_probability` is below 1) is drawn by a hash of its own
    even where its id is OpenTelemetry's: whoever sampled it may have drawn by the same bits, and then "kept by both"
    would not have the product of the two probabilities.
    """
    if trace.otel_trace_id is not None and trace.sampling_probability >= 1:
        return randomness(trace.otel_trace_id) >= rejection_threshold(probability)
    return chosen(trace.tenant, trace.otel_trace_id or trace.trace_id, salt=_SALT, share=probability)


def randomness(otel_trace_id: str) -> int:
    """The random bits of a trace id of 32 hexadecimal digits: the specification's R."""
    return int(otel_trace_id[-_RANDOM_DIGITS:], 16)


def rejection_threshold(probability: float) -> int:
    """The specification's T: a trace is kept where R is at least this; 2^56, where none is."""
    # Scaling by a power of two is exact, so a higher probability never has a higher threshold.
    return (1 << RANDOM_BITS) - round(probability * (1 << RANDOM_BITS))
