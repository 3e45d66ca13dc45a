"""What an OpenTelemetry sampler says of itself: the threshold in a span's `tracestate`.

"TraceState: Probability Sampling", opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling: the list
member `ot` holds `th:` and up to 14 hexadecimal digits, a fraction of 2^56 without its trailing zeros. Spans below the
threshold were left out, so `th:8` means that half of them were kept.
"""

import re

_DIGITS = 14
_WHOLE = 1 << (4 * _DIGITS)
_MEMBER = re.compile(r"(?:^|,)[ \t]*ot=([^,]{0,256}?)[ \t]*(?:,|$)")
_THRESHOLD = re.compile(rf"(?:^|;)th:([0-9a-f]{{1,{_DIGITS}}})(?:;|$)")


def sampling_probability(trace_state: str) -> float:
    """With which probability the sampler kept the span, in (0, 1]; 1 where it says nothing that can be read."""
    member = _MEMBER.search(trace_state)
    found = _THRESHOLD.search(member[1]) if member else None
    return (_WHOLE - int(found[1].ljust(_DIGITS, "0"), 16)) / _WHOLE if found else 1.0
