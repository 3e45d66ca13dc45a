"""Rates over a real ledger: what Postgres sums up is what the estimators' own sums say, and what people see of it."""

import json
import random
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import typer
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from monitor.cli import rates
from monitor.config import RateSettings
from monitor.domain.rate import NoRate, Rate
from monitor.drift.corrected import Share, corrected_rate
from monitor.drift.powered import Seen, powered_rate, sums
from monitor.services.rate_metrics import RateMetrics
from monitor.services.rates import SegmentRates, segment_rates
from monitor.storage.engine import transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.ledger import Ledger
from monitor.storage.rates import Bucket, count_rates
from monitor.storage.recount import recount
from monitor.storage.weighing import weigh_rollups
from monitor.telemetry.instruments import Instruments
from tests.examples.assessments import NOON, POOL, assessment, judgement, verdict

TRACES = 1200
AUDITED = 0.25
WINDOW = {"since": NOON, "until": NOON + timedelta(hours=3)}


@pytest.fixture(scope="module")
def truth() -> list[tuple[bool, bool, bool]]:
    """Of each trace: hallucinated, called so by the local judges (0.8 and 0.9 of the time rightly), audited."""
    draw = random.Random(4)
    made = []
    for _ in range(TRACES):
        hallucinated = draw.random() < 0.15
        called = draw.random() < (0.8 if hallucinated else 0.1)
        made.append((hallucinated, called, draw.random() < AUDITED))
    return made


@pytest.fixture
def audited(engine: Engine, ledger: Ledger, truth: list[tuple[bool, bool, bool]]) -> None:
    """Two hours of one service; the pool judged a quarter, and one trace could not be judged at all."""
    ledger.record(
        [
            assessment(
                number,
                probability=0.9 if called else 0.1,
                escalated=audit,
                seconds_past_noon=number * 6,
                chance=AUDITED,
            )
            for number, (_, called, audit) in enumerate(truth)
        ]
        + [assessment(TRACES, probability=None, seconds_past_noon=60, chance=AUDITED)]
    )
    queue = EscalationQueue(engine)
    while claimed := queue.claim(100, lease_seconds=60):
        for escalation in claimed:
            hallucinated = truth[escalation.assessment.origin.offset][0]
            said = judgement(POOL, probability=0.95 if hallucinated else 0.05)
            assert queue.complete(escalation, said, verdict(said.probability or 0, by=POOL), at=NOON)


def found(engine: Engine, **changes: object) -> list[SegmentRates]:
    return segment_rates(engine, **{**WINDOW, "skill_since": NOON - timedelta(days=1), **changes})


def test_postgres_sums_up_what_the_estimators_would(
    engine: Engine, audited: None, truth: list[tuple[bool, bool, bool]]
) -> None:
    (counted,) = count_rates(engine, **WINDOW)
    expected = sums(
        Seen(predicted=float(called), trusted=hallucinated if audit else None, inclusion=AUDITED)
        for hallucinated, called, audit in truth
    )
    assert (counted.sums.n, counted.sums.audits) == (expected.n, expected.audits)
    assert asdict(counted.sums) == pytest.approx(asdict(expected))
    of_pool = [(hallucinated, called) for hallucinated, called, audit in truth if audit]
    positives = [called for hallucinated, called in of_pool if hallucinated]
    assert (counted.sensitivity.hits, counted.sensitivity.n) == pytest.approx((sum(positives), len(positives)))
    negatives = [not called for hallucinated, called in of_pool if not hallucinated]
    assert (counted.specificity.hits, counted.specificity.n) == pytest.approx((sum(negatives), len(negatives)))


def test_the_honest_rates_hold_the_truth_and_the_raw_one_does_not(
    engine: Engine, audited: None, truth: list[tuple[bool, bool, bool]]
) -> None:
    (rates,) = found(engine)
    share = sum(hallucinated for hallucinated, *_ in truth) / TRACES
    assert isinstance(rates.corrected, Rate)
    assert isinstance(rates.powered, Rate)
    assert rates.corrected.low < share < rates.corrected.high
    assert rates.powered.low < share < rates.powered.high
    assert rates.raw.low > share
    assert (rates.verdicts, rates.audits) == (TRACES, sum(audit for *_, audit in truth))


def test_a_window_is_divided_and_its_parts_add_up(engine: Engine, audited: None) -> None:
    hours = found(engine, bucket=Bucket.HOUR)
    assert [one.start for one in hours] == [NOON, NOON + timedelta(hours=1)]
    (whole,) = count_rates(engine, **WINDOW)
    first, second = count_rates(engine, **WINDOW, bucket=Bucket.HOUR)
    one, other = powered_rate(first.sums + second.sums), powered_rate(whole.sums)
    assert isinstance(one, Rate)
    assert isinstance(other, Rate)
    assert (one.value, one.low) == pytest.approx((other.value, other.low))


def test_without_a_chance_of_an_audit_there_is_no_powered_rate(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(number, seconds_past_noon=number, chance=0.0) for number in range(40)])
    (rates,) = found(engine)
    assert rates.raw == Rate(value=0.0, low=0.0, high=rates.raw.high, n=40)
    assert isinstance(rates.powered, NoRate)
    assert "100% of the traces could never be audited" in rates.powered.reason
    assert isinstance(rates.corrected, NoRate)
    assert "0 hallucinated answers are labelled" in rates.corrected.reason
    assert found(engine, tenant="nobody") == []
    assert found(engine, since=NOON + timedelta(hours=2)) == []


def test_the_rates_are_told_as_metrics_of_the_newest_judge(engine: Engine, audited: None, ledger: Ledger) -> None:
    newer = [
        replace(
            assessment(TRACES + 1 + number, probability=0.9, seconds_past_noon=8000, chance=0.0), judge_version="v2"
        )
        for number in range(4)
    ]
    ledger.record(
        [*newer, replace(assessment(TRACES + 9, probability=None, seconds_past_noon=8000), judge_version="v2")]
    )
    reader = InMemoryMetricReader()
    instruments = Instruments(MeterProvider([reader], shutdown_on_exit=False).get_meter("test"))
    settings = RateSettings(window_seconds=7200)

    def told_at(now: datetime) -> dict[str, dict[str | None, float]]:
        RateMetrics(engine, settings, instruments, clock=lambda: now).step()
        data: Any = reader.get_metrics_data()
        return {
            metric.name.removeprefix("groundwatch."): {
                point.attributes.get("groundwatch.rate.method"): point.value for point in metric.data.data_points
            }
            for metric in data.resource_metrics[0].scope_metrics[0].metrics
        }

    before = told_at(NOON + timedelta(hours=2))
    with transaction(engine) as connection:
        hours = connection.execute(text("select distinct hour from trusted_hours order by hour")).scalars().all()
    assert hours == [NOON, NOON + timedelta(hours=1)]
    assert set(before["hallucination.rate"]) == {"raw", "corrected", "powered"}
    for method, rate in before["hallucination.rate"].items():
        assert before["hallucination.rate.low"][method] < rate < before["hallucination.rate.high"][method]
    assert before["coverage"] == {None: pytest.approx(TRACES / (TRACES + 1))}
    assert 0.2 < before["escalation.share"][None] < 0.3
    after = told_at(NOON + timedelta(hours=3))
    assert after["hallucination.rate"] == {"raw": 1.0}
    assert (after["coverage"], after["escalation.share"]) == ({None: 0.8}, {None: 0.0})


COLUMNS = ("verdicts", "audits", "raw", "raw_low", "raw_high")
HONEST = ("corrected", "corrected_low", "corrected_high", "powered", "powered_low", "powered_high")


def in_sql(engine: Engine, **asked: object) -> list[dict[str, Any]]:
    question = "select * from report.hallucination_rates(:since, :until, :bucket, :trust, :skill_since)"
    values = {**WINDOW, "bucket": None, "trust": "pool", "skill_since": NOON - timedelta(days=1), **asked}
    with transaction(engine) as connection:
        return [dict(row) for row in connection.execute(text(question), values).mappings()]


def flat(rates: SegmentRates) -> list[float | None]:
    told: list[float | None] = [rates.verdicts, rates.audits]
    for rate in (rates.raw, rates.corrected, rates.powered):
        told += [rate.value, rate.low, rate.high] if isinstance(rate, Rate) else [None] * 3
    return told


@pytest.mark.parametrize("bucket", [None, Bucket.HOUR])
def test_sql_says_what_the_command_says(engine: Engine, audited: None, bucket: Bucket | None) -> None:
    expected = found(engine, bucket=bucket)
    rows = in_sql(engine, bucket=bucket)
    assert len(rows) == len(expected) > 0
    for row, one in zip(rows, expected, strict=True):
        assert row["start"] == one.start
        assert [row[name] for name in (*COLUMNS, *HONEST)] == pytest.approx(flat(one), abs=1e-9)


def test_sql_refuses_what_the_command_refuses(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(number, seconds_past_noon=number, chance=0.0) for number in range(40)])
    (row,) = in_sql(engine)
    assert [row[name] for name in HONEST] == [None] * 6
    assert (row["verdicts"], row["raw"]) == (40, 0.0)


@pytest.mark.parametrize("seed", range(40))
def test_the_powered_rate_in_sql_is_that_of_the_estimator(engine: Engine, seed: int) -> None:
    draw = random.Random(seed)
    # A judge that says one thing only, a perfect one, a useless one; rare and common truths; few and all audited.
    kind = draw.choice(["constant 0", "constant 1", "perfect", "useless", "good"])
    rate, share = draw.choice([0.0, 0.02, 0.3]), draw.choice([0.1, 0.5, 1.0])

    def one() -> Seen:
        true = draw.random() < rate
        said = {"constant 0": 0.0, "constant 1": 1.0, "perfect": float(true), "useless": float(draw.random() < 0.5)}
        said["good"] = float(draw.random() < (0.8 if true else 0.1))
        chance = min(1.0, share * draw.choice([1, 2]))
        trusted = true if draw.random() < chance else None
        return Seen(predicted=said[kind], trusted=trusted, inclusion=chance, sampling=draw.choice(sampled))

    sampled = draw.choice([[1.0], [0.1], [0.01, 0.5, 1.0]])
    window = sums(one() for _ in range(draw.choice([60, 500, 2000])))
    names = ("a", "qa", "b", "qb", "c", "qc", "aa", "ab", "ac", "bb", "bc", "cc")
    question = f"select * from rate_powered(:audits, 0, :weights, :squares, {', '.join(f':{name}' for name in names)})"
    with transaction(engine) as connection:
        row = connection.execute(text(question), asdict(window)).one_or_none()
    expected = powered_rate(window)
    if isinstance(expected, NoRate):
        assert row is None
    else:
        assert row is not None
        assert tuple(row) == pytest.approx((expected.value, expected.low, expected.high), abs=1e-7), kind


@pytest.mark.parametrize("seed", range(40))
def test_the_corrected_rate_in_sql_is_that_of_the_estimator(engine: Engine, seed: int) -> None:
    draw = random.Random(seed)
    n = draw.randint(1, 5000)
    judged = Share(hits=draw.randint(0, n), n=n)
    (positives, found_), (negatives, passed) = (
        (labelled, draw.uniform(draw.choice([0.0, 0.7]), 1) * labelled)
        for labelled in (draw.randint(20, 400) for _ in "ab")
    )
    expected = corrected_rate(
        judged,
        sensitivity=Share(hits=found_, n=positives),
        specificity=Share(hits=passed, n=negatives),
    )
    asked = (float(judged.hits), float(n), found_, positives, positives, passed, negatives, negatives)
    question = "select * from rate_corrected(%s, %s, %s, %s, %s, %s, %s, %s)"
    with transaction(engine) as connection:
        row = connection.exec_driver_sql(question, asked).one_or_none()
    if isinstance(expected, NoRate):
        assert row is None
    else:
        assert row is not None
        assert tuple(row) == pytest.approx((expected.value, expected.low, expected.high), abs=1e-9)


@pytest.fixture
def app(postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> typer.Typer:
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", postgres_url)
    app = typer.Typer()
    app.callback()(lambda: None)
    rates.register(app)
    return app


def hours_since_noon() -> str:
    return str((datetime.now(UTC) - NOON).total_seconds() / 3600 + 1)


def test_the_command_prints_a_table_a_plot_and_json(app: typer.Typer, audited: None) -> None:
    window = ["rates", "--hours", hours_since_noon(), "--skill-days", "9999"]
    table = CliRunner().invoke(app, window).stdout
    assert "city/help-desk/production" in table
    assert "1,200" in table
    plot = CliRunner().invoke(app, [*window, "--by", "hour"]).stdout
    assert plot.count("●") == 2
    assert "powered" in plot
    (line,) = CliRunner().invoke(app, [*window, "--json"]).stdout.splitlines()
    value = json.loads(line)
    assert 0.1 < value["powered"]["low"] < value["powered"]["value"] < value["powered"]["high"] < 0.25
    assert value["service"] == "help-desk"


def test_the_command_says_when_there_is_nothing_and_why_a_rate_is_missing(app: typer.Typer, ledger: Ledger) -> None:
    assert CliRunner().invoke(app, ["rates", "--hours", "1"]).stdout == "no verdicts in the last 1 hours\n"
    ledger.record([assessment(number, chance=0.0) for number in range(3)])
    shown = CliRunner().invoke(app, ["rates", "--hours", hours_since_noon()], env={"COLUMNS": "200"}).stdout
    assert "no powered rate: 100% of the traces could never be audited" in shown


def test_rates_of_a_mix_of_sampling_probabilities_are_weighed_in_sql_and_in_python_alike(
    engine: Engine, ledger: Ledger
) -> None:
    """A sender keeps what its users complain of with 0.8, and the rest with 0.1: as judged, the rate would be false."""
    draw = random.Random(31)
    kept, traffic, hallucinated = [], 6000, 0
    for number in range(traffic):
        complained = draw.random() < 0.1
        true = draw.random() < (0.5 if complained else 0.02)
        hallucinated += true
        sampling = 0.8 if complained else 0.1
        if draw.random() < sampling:
            kept.append((number, true, draw.random() < 0.5, sampling))
    ledger.record(
        [
            assessment(
                number,
                probability=0.9 if true else 0.1,
                escalated=audit,
                seconds_past_noon=number,
                chance=0.5,
                sampling_probability=sampling,
            )
            for number, true, audit, sampling in kept
        ]
    )
    queue = EscalationQueue(engine)
    truths = {number: true for number, true, *_ in kept}
    while claimed := queue.claim(100, lease_seconds=60):
        for escalation in claimed:
            assert escalation.assessment.trace.sampling_probability in (0.1, 0.8)
            said = judgement(POOL, probability=0.95 if truths[escalation.assessment.origin.offset] else 0.05)
            assert queue.complete(escalation, said, verdict(said.probability or 0, by=POOL), at=NOON)
    (rates,) = found(engine)
    share = hallucinated / traffic
    assert sum(true for _, true, *_ in kept) / len(kept) > 2 * share
    for rate in (rates.raw, rates.corrected, rates.powered):
        assert isinstance(rate, Rate)
        assert rate.low < share < rate.high
    assert rates.verdicts == len(kept)
    assert rates.estimated_verdicts == pytest.approx(traffic, rel=0.08)
    (counted,) = count_rates(engine, **WINDOW)
    expected = sums(
        Seen(predicted=float(true), trusted=true if audit else None, inclusion=0.5, sampling=sampling)
        for _, true, audit, sampling in kept
    )
    assert asdict(counted.sums) == pytest.approx(asdict(expected))
    (row,) = in_sql(engine)
    assert [row[name] for name in (*COLUMNS, *HONEST)] == pytest.approx(flat(rates), abs=1e-9)
    assert row["estimated_verdicts"] == pytest.approx(rates.estimated_verdicts)


def test_the_probability_is_kept_with_the_verdict_and_scales_the_traffic(engine: Engine, ledger: Ledger) -> None:
    ledger.record(
        [assessment(number, seconds_past_noon=60 * number, sampling_probability=0.25) for number in range(3)]
        + [assessment(3, probability=None, sampling_probability=1 / 3)]
        + [assessment(4, probability=0.9)]
    )
    ledger.record([assessment(0, sampling_probability=0.25)])  # redelivered: it stands for no more
    with transaction(engine) as connection:

        def asked(question: str) -> list[Any]:
            return [tuple(row) for row in connection.execute(text(question))]

        assert asked("select sampling_probability from report.verdict_history order by trace_id") == [
            (0.25,), (0.25,), (0.25,), (1 / 3,), (1.0,),
        ]  # fmt: skip
        assert asked("select traces, verdicts, estimated_traces from report.rates_per_hour") == [
            (5, 4, pytest.approx(16)),
        ]
        assert asked("select estimated_traces from report.rates_per_minute order by minute") == [
            (pytest.approx(8),), (4.0,), (4.0,),
        ]  # fmt: skip
    assert recount(engine) == []


def test_one_probability_for_all_leaves_every_rate_as_it_is(
    engine: Engine, ledger: Ledger, truth: list[tuple[bool, bool, bool]], audited: None
) -> None:
    (whole,) = found(engine)
    with transaction(engine) as connection:
        connection.execute(text("update verdict_rows set sampling_probability = 0.1"))
        connection.execute(text("update rollups set left_out = 9 * traces, first_weighed = 0"))
    assert weigh_rollups(engine) > 0
    (thinned,) = found(engine)
    assert flat(thinned) == pytest.approx(flat(whole))
    assert thinned.estimated_verdicts == pytest.approx(10 * whole.verdicts)
    (row,) = in_sql(engine)
    assert [row[name] for name in (*COLUMNS, *HONEST)] == pytest.approx(flat(whole))
