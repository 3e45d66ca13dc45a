"""Prediction-powered rates: unbiased, covering, and no wider than the trusted labels alone."""

from dataclasses import asdict, replace

import numpy as np
import pytest

from monitor.domain.rate import NoRate, Rate, wilson
from monitor.drift.powered import FEWEST_AUDITS, Seen, Sums, powered_rate, sums

RUNS = 2000


def window(draw: np.random.Generator, traces: int, truth: float, inclusion: float) -> tuple[Sums, Rate]:
    """A window under a judge of sensitivity 0.8 and specificity 0.9, and the rate of its audited traces alone.

    Counted by cell (what is so, what the judge says, whether it was audited), for thousands of windows are needed.
    """
    hallucinated = int(draw.binomial(traces, truth))
    found, false = int(draw.binomial(hallucinated, 0.8)), int(draw.binomial(traces - hallucinated, 0.1))
    cells = {
        (1.0, True): found,
        (0.0, True): hallucinated - found,
        (1.0, False): false,
        (0.0, False): traces - hallucinated - false,
    }
    total, positives, audited = Sums(), 0, 0
    for (predicted, trusted), count in cells.items():
        drawn = int(draw.binomial(count, inclusion))
        total += times(Seen(predicted=predicted, trusted=trusted, inclusion=inclusion), drawn)
        total += times(Seen(predicted=predicted), count - drawn)
        positives, audited = positives + drawn * trusted, audited + drawn
    alone = wilson(positives, audited)
    assert alone is not None
    return total, alone


def times(trace: Seen, count: int) -> Sums:
    one = sums([trace])
    return Sums(**{name: value * count for name, value in asdict(one).items()})


@pytest.mark.parametrize("truth", [0.02, 0.05, 0.1, 0.2, 0.4])
@pytest.mark.parametrize(("traces", "inclusion"), [(5000, 0.1), (20_000, 0.05)])
def test_the_interval_covers_the_truth_and_is_narrower_than_the_audits_alone(
    truth: float, traces: int, inclusion: float
) -> None:
    draw = np.random.default_rng(11)
    covered, widths, widths_alone, values = 0, 0.0, 0.0, 0.0
    for _ in range(RUNS):
        seen, alone = window(draw, traces, truth, inclusion)
        rate = powered_rate(seen)
        assert isinstance(rate, Rate)
        covered += rate.low <= truth <= rate.high
        widths += rate.high - rate.low
        widths_alone += alone.high - alone.low
        values += rate.value
    assert 0.93 <= covered / RUNS <= 0.97
    assert widths < widths_alone
    assert values / RUNS == pytest.approx(truth, rel=0.03)


def test_traces_that_were_likelier_to_be_audited_do_not_pull_the_rate() -> None:
    """Uncertain traces go to the pool always, the rest one time in ten: without weights the rate would double."""
    draw = np.random.default_rng(3)
    traces = []
    for unsure in draw.random(20_000) < 0.2:
        truth, inclusion = (0.4, 1.0) if unsure else (0.05, 0.1)
        trusted = bool(draw.random() < truth) if draw.random() < inclusion else None
        traces.append(Seen(predicted=truth, trusted=trusted, inclusion=inclusion))
    rate = powered_rate(sums(traces))
    assert isinstance(rate, Rate)
    audited = [trace for trace in traces if trace.trusted is not None]
    assert sum(bool(trace.trusted) for trace in audited) / len(audited) > 0.25
    assert rate.low < 0.2 * 0.4 + 0.8 * 0.05 < rate.high
    assert rate.high - rate.low < 0.03


def test_a_judge_without_information_costs_nothing() -> None:
    draw = np.random.default_rng(5)
    traces = [
        Seen(predicted=float(draw.random()), trusted=bool(draw.random() < 0.3) if place < 300 else None, inclusion=0.1)
        for place in range(3000)
    ]
    rate, alone = powered_rate(sums(traces)), wilson(sum(bool(each.trusted) for each in traces[:300]), 300)
    assert isinstance(rate, Rate)
    assert alone is not None
    assert rate.high - rate.low == pytest.approx(alone.high - alone.low, rel=0.05)


def test_all_labelled_is_the_plain_rate() -> None:
    rate = powered_rate(sums(Seen(predicted=0.5, trusted=place < 60) for place in range(300)))
    assert isinstance(rate, Rate)
    plain = wilson(60, 300)
    assert plain is not None
    assert (rate.value, rate.low, rate.high) == pytest.approx((plain.value, plain.low, plain.high), abs=1e-3)


def test_windows_add_up() -> None:
    draw = np.random.default_rng(9)
    traces = [
        Seen(predicted=float(draw.random()), trusted=None if place % 5 else place % 3 == 0, inclusion=0.2)
        for place in range(500)
    ]
    one, other = powered_rate(sums(traces)), powered_rate(sums(traces[:123]) + sums(traces[123:]))
    assert isinstance(one, Rate)
    assert isinstance(other, Rate)
    assert (one.value, one.low, one.high) == pytest.approx((other.value, other.low, other.high))


@pytest.mark.parametrize("said", [False, True])
def test_audits_that_all_agree_leave_room_for_doubt(said: bool) -> None:  # noqa: FBT001 - what the audits say
    traces = [Seen(predicted=float(said), trusted=said if place < 50 else None, inclusion=0.1) for place in range(500)]
    rate = powered_rate(sums(traces))
    assert isinstance(rate, Rate)
    assert rate.value == float(said)
    assert rate.high - rate.low > 0.05


def test_too_few_audits_are_refused_with_how_many_are_needed() -> None:
    traces = [Seen(predicted=0.1, trusted=False if place < FEWEST_AUDITS - 1 else None) for place in range(500)]
    refused = powered_rate(sums(traces))
    assert isinstance(refused, NoRate)
    assert refused.reason == "29 answers of the window have a trusted label; 30 are needed"
    assert isinstance(powered_rate(sums([])), NoRate)


@pytest.mark.parametrize(("predicted", "inclusion"), [(1.1, 1.0), (-0.1, 1.0), (0.5, 0.0), (0.5, 1.5)])
def test_what_is_no_probability_is_refused(predicted: float, inclusion: float) -> None:
    with pytest.raises(ValueError, match="is no trace with a probability"):
        sums([Seen(predicted=predicted, inclusion=inclusion)])


UNSURE, SURE = (0.2, 0.4, 0.8), (0.8, 0.05, 0.2)
"""Share of the traffic, its true rate, and the probability with which it is sampled."""
TRUTH = 0.2 * 0.4 + 0.8 * 0.05


def sampled_window(draw: np.random.Generator, traffic: int) -> Sums:
    """What sampling leaves of a window, a quarter of it audited, under a judge of 0.8 and 0.9; counted by cell."""
    total = Sums()
    of_unsure = int(draw.binomial(traffic, UNSURE[0]))
    for (_, rate, sampling), traces in ((UNSURE, of_unsure), (SURE, traffic - of_unsure)):
        kept = int(draw.binomial(traces, sampling))
        hallucinated = int(draw.binomial(kept, rate))
        found, false = int(draw.binomial(hallucinated, 0.8)), int(draw.binomial(kept - hallucinated, 0.1))
        for predicted, trusted, count in (
            (1.0, True, found),
            (0.0, True, hallucinated - found),
            (1.0, False, false),
            (0.0, False, kept - hallucinated - false),
        ):
            drawn = int(draw.binomial(count, 0.25))
            one = Seen(predicted=predicted, sampling=sampling)
            total += times(replace(one, trusted=trusted, inclusion=0.25), drawn) + times(one, count - drawn)
    return total


def test_traces_that_were_likelier_to_be_sampled_do_not_pull_the_rate() -> None:
    draw = np.random.default_rng(17)
    covered, values, estimates = 0, 0.0, 0.0
    for _ in range(RUNS):
        seen = sampled_window(draw, 4000)
        rate = powered_rate(seen)
        assert isinstance(rate, Rate)
        covered += rate.low <= TRUTH <= rate.high
        values += rate.value
        estimates += seen.weights
    assert 0.935 <= covered / RUNS <= 0.965
    assert values / RUNS == pytest.approx(TRUTH, rel=0.01)
    assert estimates / RUNS == pytest.approx(4000, rel=0.01)


def test_the_raw_rate_with_a_mix_of_sampling_probabilities_covers_what_the_judge_would_have_said_of_all() -> None:
    draw = np.random.default_rng(19)
    seen_of_all = TRUTH * 0.8 + (1 - TRUTH) * 0.1
    covered = 0
    for _ in range(RUNS):
        weights = squares = hits = 0.0
        of_unsure = int(draw.binomial(4000, UNSURE[0]))
        for (_, rate, sampling), traces in ((UNSURE, of_unsure), (SURE, 4000 - of_unsure)):
            kept = int(draw.binomial(traces, sampling))
            called = int(draw.binomial(kept, rate * 0.8 + (1 - rate) * 0.1))
            weights, squares, hits = weights + kept / sampling, squares + kept / sampling**2, hits + called / sampling
        told = wilson(weights * hits / squares, weights**2 / squares)
        assert told is not None
        covered += told.low <= seen_of_all <= told.high
    assert 0.935 <= covered / RUNS <= 0.965


@pytest.mark.parametrize("sampling", [0.5, 0.1, 0.003])
def test_one_sampling_probability_for_all_changes_nothing(sampling: float) -> None:
    draw = np.random.default_rng(23)
    traces = [
        Seen(
            predicted=float(draw.random() < 0.2),
            trusted=bool(draw.random() < 0.1) if draw.random() < 0.3 else None,
            inclusion=0.3,
        )
        for _ in range(1000)
    ]
    whole, thinned = (powered_rate(sums(replace(one, sampling=s) for one in traces)) for s in (1.0, sampling))
    assert isinstance(whole, Rate)
    assert isinstance(thinned, Rate)
    assert asdict(thinned) == pytest.approx(asdict(whole))
    assert thinned.n == 1000


def test_a_trace_that_stands_for_nearly_all_makes_the_interval_wide() -> None:
    draw = np.random.default_rng(29)
    ordinary = [Seen(predicted=0.0, trusted=bool(draw.random() < 0.1), inclusion=1.0) for _ in range(1000)]
    mixed = powered_rate(sums([*ordinary, Seen(predicted=0.0, trusted=True, sampling=1e-4)]))
    assert isinstance(mixed, Rate)
    assert mixed.value > 0.9
    assert mixed.high - mixed.low > 0.6


@pytest.mark.parametrize("sampling", [0.0, -0.5, 1.5])
def test_a_sampling_probability_that_is_none_is_refused(sampling: float) -> None:
    with pytest.raises(ValueError, match="no trace"):
        sums([Seen(predicted=0.5, sampling=sampling)])
