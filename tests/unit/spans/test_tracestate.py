import random

import pytest
from opentelemetry.sdk.trace._sampling_experimental._trace_state import serialize_th
from opentelemetry.sdk.trace._sampling_experimental._util import calculate_threshold  # what writes it

from monitor.spans.tracestate import sampling_probability


@pytest.mark.parametrize(
    ("state", "probability"),
    [
        ("ot=th:8", 0.5),
        ("ot=th:c", 0.25),
        ("ot=th:0", 1.0),
        ("ot=rv:6e6d1a75832a2f;th:c8", 0.21875),
        ("vendor=x, ot=th:8;rv:6e6d1a75832a2f ,other=y", 0.5),
        ("ot=th:ffffffffffffff", 2**-56),
        # Nothing that can be read.
        ("", 1.0),
        ("ot=", 1.0),
        ("ot=rv:6e6d1a75832a2f", 1.0),
        ("ot=p:8;r:62", 1.0),
        ("ot=th:", 1.0),
        ("ot=th:8x", 1.0),
        ("ot=th:8C", 1.0),
        ("ot=th:000000000000008", 1.0),
        ("ot=with:8", 1.0),
        ("not=th:8", 1.0),
        ("vendor=ot=th:8", 1.0),
        ("\x00ot=th:8\ud800", 1.0),
    ],
)
def test_the_threshold_is_read(state: str, probability: float) -> None:
    assert sampling_probability(state) == probability


def test_what_opentelemetry_writes_is_read_back() -> None:
    draw = random.Random(1)
    for _ in range(1000):
        probability = max(2**-50, draw.random() ** draw.choice([1, 8]))
        written = serialize_th(calculate_threshold(probability))
        assert sampling_probability(f"ot=th:{written}") == pytest.approx(probability, abs=2**-56)
