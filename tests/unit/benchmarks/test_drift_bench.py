"""The drift benchmark: its streams repeat, its oracle is what theory says, its figures are counted right."""

import json
import xml.etree.ElementTree as ET
from dataclasses import replace

import numpy as np
import pytest

from monitor.benchmarks.cusum import OracleCusum
from monitor.benchmarks.drift_bench import Plan, measure, steps
from monitor.benchmarks.drift_report import as_markdown, as_svg
from monitor.benchmarks.drift_streams import CONTESTANTS, ORACLE, OURS, Shape

SMALL = Plan(
    average_run_length=500,
    runs=10,
    baselines=(0.1,),
    rises=(3.0,),
    learned_from=(200,),
    stationary=400,
    quiet=50,
    longest=600,
    ramp=300,
)


def test_streams_repeat_and_runs_differ() -> None:
    shape = Shape(0.1, 0.3, 200, 100, 400)
    one, again, other = shape.draw(1, 0), shape.draw(1, 0), shape.draw(1, 1)
    assert np.array_equal(one.watched, again.watched)
    assert not np.array_equal(one.watched, other.watched)
    assert (len(one.reference), len(one.watched), one.quiet) == (200, 500, 100)


def test_a_ramp_reaches_the_rate_at_its_end() -> None:
    shape = Shape(0.0, 1.0, 10, 100, 2000, ramp=1000)
    watched = shape.draw(1, 0).watched
    assert not watched[:100].any()
    assert watched[1100:].all()
    assert 0.4 < watched[100:1100].mean() < 0.6


def test_the_oracles_run_length_is_what_simulation_finds() -> None:
    cusum = OracleCusum(0.1, 0.3, 300)
    assert 300 <= cusum.average_run_length < 400
    rng = np.random.default_rng(2)
    lengths = [(cusum.first_alarm(rng.random(20_000) < 0.1) or 20_000) + 1 for _ in range(400)]
    assert np.mean(lengths) == pytest.approx(cusum.average_run_length, rel=0.15)


def test_the_oracle_sees_a_doubling_as_soon_as_theory_says() -> None:
    # Run length 20,000 at 0.05: 228 verdicts to see 0.10 from a standing start (docs/drift.md).
    cusum = OracleCusum(0.05, 0.10, 20_000)
    rng = np.random.default_rng(3)
    delays = [(cusum.first_alarm(rng.random(20_000) < 0.1) or 0) + 1 for _ in range(400)]
    assert 210 < np.mean(delays) < 260


@pytest.mark.parametrize(("before", "after"), [(0.2, 0.1), (0.0, 0.1), (0.5, 1.0)])
def test_rates_that_make_no_rise_are_refused(before: float, after: float) -> None:
    with pytest.raises(ValueError, match="no rates before and after"):
        OracleCusum(before, after, 1000)


def test_figures_of_a_small_run() -> None:
    ticks = []
    figures = measure(SMALL, processes=1, tick=lambda: ticks.append(1))
    assert len(ticks) == steps(SMALL)
    assert {one.detector for one in figures.quiet} == set(CONTESTANTS)
    for one in figures.quiet:
        assert 0 <= one.early <= one.alarmed <= 1
    jump = {one.detector: one for one in figures.delays if not one.ramp}
    ours, oracle = jump[OURS].mean, jump[ORACLE].mean
    assert ours is not None
    assert oracle is not None
    assert oracle <= ours * 1.2
    assert jump[OURS].missed == 0
    assert 0 < ours < 150
    slow = {one.detector: one for one in figures.delays if one.ramp}
    assert ORACLE not in slow
    later = slow[OURS].mean
    assert later is not None
    assert later > ours
    assert measure(SMALL, processes=2) == figures
    json.dumps(figures.to_json(), allow_nan=False)
    assert as_markdown(figures).count("| groundwatch |") == 3
    ET.fromstring(as_svg(figures))


def test_a_detector_that_always_cries_too_soon_has_no_delay_and_json_all_the_same() -> None:
    figures = measure(replace(SMALL, quiet=0, longest=1), processes=1)
    unseen = replace(figures.delays[0], mean=None, p90=None, early=1.0)
    shown = replace(figures, delays=(unseen, replace(unseen, ramp=300)))
    json.dumps(shown.to_json(), allow_nan=False)
    assert "| - | - |" in as_markdown(shown)
    ET.fromstring(as_svg(shown))
