"""Which traces are kept: the same ones everywhere, nested, as many as the probability says, as OpenTelemetry has it."""

import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from opentelemetry.sdk.trace._sampling_experimental import (  # the only implementation of that specification in Python
    composable_traceid_ratio_based,
    composite_sampler,
)
from opentelemetry.sdk.trace.sampling import Decision

from monitor.domain.trace import Trace
from monitor.routing.keeping import KeepingRule, is_kept, keeping_probability, randomness, rejection_threshold
from tests.examples.assessments import trace

PROBABILITIES = (0.0, 1e-6, 0.001, 0.01, 0.1, 1 / 3, 0.5, 0.9, 0.999, 1.0)
COUNT = 20_000


def of_otel(seed: int, count: int = COUNT) -> list[Trace]:
    draw = random.Random(seed)
    ids = [f"{draw.getrandbits(128):032x}" for _ in range(count)]
    return [trace(one, otel_trace_id=one) for one in ids]


def of_a_counter(count: int = COUNT) -> list[Trace]:
    """Ids without any randomness of their own."""
    return [trace(f"req-{number}") for number in range(count)]


def already_sampled(seed: int) -> list[Trace]:
    return [replace(one, sampling_probability=0.5) for one in of_otel(seed)]


KINDS = pytest.mark.parametrize(
    "traces", [of_otel(1), of_a_counter(), already_sampled(2)], ids=["otel", "counter", "sampled before"]
)

IN_ANOTHER_PROCESS = """
from monitor.routing.keeping import is_kept
from tests.unit.routing.test_keeping import of_a_counter, of_otel
print("".join("01"[is_kept(one, 0.3)] for one in of_otel(7, 500) + of_a_counter(500)))
"""


@KINDS
def test_what_is_kept_at_one_probability_is_kept_at_every_higher_one(traces: list[Trace]) -> None:
    before: set[str] = set()
    for probability in PROBABILITIES:
        kept = {one.trace_id for one in traces if is_kept(one, probability)}
        assert before <= kept
        before = kept
    assert len(before) == COUNT


@KINDS
@pytest.mark.parametrize("probability", PROBABILITIES)
def test_as_many_are_kept_as_the_probability_says(traces: list[Trace], probability: float) -> None:
    kept = sum(is_kept(one, probability) for one in traces)
    spread = (COUNT * probability * (1 - probability)) ** 0.5
    assert abs(kept - COUNT * probability) <= 4 * spread


@pytest.mark.parametrize("probability", PROBABILITIES)
def test_opentelemetrys_own_consistent_sampler_keeps_the_same(probability: float) -> None:
    sampler = composite_sampler(composable_traceid_ratio_based(probability))
    for one in of_otel(3, 3000):
        result = sampler.should_sample(None, int(one.otel_trace_id or "", 16), "span")
        assert is_kept(one, probability) is (result.decision is Decision.RECORD_AND_SAMPLE)


def test_the_specifications_bits_and_threshold() -> None:
    # Both out of the specification's text: the last 56 bits; 25 % is rejected below 0xc0000000000000.
    assert randomness("4bf92f3577b34da6a3ce929d0e0e4736") == 0xCE929D0E0E4736
    assert [rejection_threshold(p) for p in (1.0, 0.25, 0.0)] == [0, 0xC0000000000000, 1 << 56]
    edge = trace("edge", otel_trace_id="0" * 18 + f"{rejection_threshold(0.3):014x}")
    below = trace("below", otel_trace_id="0" * 18 + f"{rejection_threshold(0.3) - 1:014x}")
    assert (is_kept(edge, 0.3), is_kept(below, 0.3)) == (True, False)


def test_thresholds_never_rise_with_the_probability() -> None:
    draw = random.Random(5)
    probabilities = sorted(draw.random() ** draw.choice([1, 20]) for _ in range(5000))
    thresholds = [rejection_threshold(probability) for probability in probabilities]
    assert thresholds == sorted(thresholds, reverse=True)


def test_another_process_decides_alike() -> None:
    root = Path(__file__).parents[3]
    said = subprocess.run(
        [sys.executable, "-c", IN_ANOTHER_PROCESS], cwd=root, capture_output=True, text=True, check=True
    ).stdout
    assert said.strip() == "".join("01"[is_kept(one, 0.3)] for one in of_otel(7, 500) + of_a_counter(500))


def test_a_trace_that_was_sampled_by_the_same_bits_is_drawn_anew() -> None:
    """Kept by its sender at 0.5, and by us at 0.5, must be a quarter: by the same bits it would be a half."""
    kept_by_sender = [one for one in of_otel(11) if is_kept(one, 0.5)]
    arrived = [replace(one, sampling_probability=0.5) for one in kept_by_sender]
    kept = sum(is_kept(one, 0.5) for one in arrived)
    assert kept / COUNT == pytest.approx(0.25, abs=4 * (0.25 * 0.75 / COUNT) ** 0.5)


def test_the_same_id_of_another_tenant_is_another_trace() -> None:
    mine, theirs = of_a_counter(1000), [replace(one, tenant="other") for one in of_a_counter(1000)]
    both = sum(is_kept(a, 0.5) and is_kept(b, 0.5) for a, b in zip(mine, theirs, strict=True))
    assert 180 < both < 320


def test_the_first_rule_that_covers_a_trace_counts() -> None:
    rules = [
        KeepingRule(tenant="city", service="help-desk", environment="staging", probability=1.0),
        KeepingRule(service="help-desk", probability=0.5),
        KeepingRule(tenant="city", probability=0.2),
    ]

    def asked(**changes: str) -> float:
        return keeping_probability(trace("t", **changes), rules, 0.01)

    assert asked(environment="staging") == 1.0
    assert asked() == 0.5
    assert asked(service="search") == 0.2
    assert asked(tenant="acme") == 0.5
    assert asked(tenant="acme", service="search") == 0.01
