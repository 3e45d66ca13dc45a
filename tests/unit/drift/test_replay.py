"""Backtests: recorded rows in any order, and files that are not what they should be."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from monitor.domain.errors import InvalidInput
from monitor.drift.recorded import LABELS, PROBABILITY, read_rows
from monitor.drift.replay import Backtest, ReplayedAlarm, Row
from monitor.drift.second_opinion import changes

START = datetime(2026, 1, 1, tzinfo=UTC)
HEADER = "event_time,segment,label"


def recorded(seed: int = 1) -> list[Row]:
    rng = random.Random(seed)
    return [
        Row(START + timedelta(seconds=index), segment, rng.random() < (0.4 if rises and index >= 1500 else 0.1))
        for index in range(2000)
        for segment, rises in (("a/qa/prod", True), ("a/chat/prod", False))
    ]


def replay(rows: list[Row], *, average_run_length: float = 20_000, baseline_verdicts: int = 500) -> list[ReplayedAlarm]:
    return Backtest(average_run_length=average_run_length, baseline_verdicts=baseline_verdicts).run(rows)


def test_only_the_segment_that_rose_is_named() -> None:
    (raised,) = replay(recorded())
    assert raised.segment == "a/qa/prod"
    assert 1500 <= (raised.alarm.event_time - START).total_seconds() < 1600


def test_the_order_of_rows_does_not_matter() -> None:
    rows = recorded()
    shuffled = random.Random(2).sample(rows, len(rows))
    assert replay(rows) == replay(shuffled)


def test_a_replay_repeats_itself() -> None:
    first = replay(recorded(), average_run_length=500, baseline_verdicts=100)
    assert len(first) > 1
    assert first == replay(recorded(), average_run_length=500, baseline_verdicts=100)
    assert [raised.alarm.event_time for raised in first] == sorted(raised.alarm.event_time for raised in first)


@pytest.mark.parametrize("label", [form for word in LABELS for form in (word, word.upper(), f" {word} ")])
def test_every_spelling_of_a_label(label: str) -> None:
    (row,) = read_rows([HEADER, f"2026-01-01T00:00:00Z,s,{label}"])
    assert row == (START, "s", LABELS[label.strip().lower()])


@pytest.mark.parametrize(
    "when", ["2026-01-01", "2026-01-01 00:00:00", "2026-01-01T00:00:00Z", "2026-01-01T02:00:00+02:00", " 2026-01-01 "]
)
def test_every_form_of_a_time(when: str) -> None:
    (row,) = read_rows([HEADER, f"{when},s,1"])
    assert row.event_time == START


def test_columns_in_any_order_and_more_of_them() -> None:
    lines = ["\ufeffp,Label,segment,event_time", "0.3,PASS,s,2026-01-01", "", "0.9,FAIL,s,2026-01-02"]
    assert [row.hallucinated for row in read_rows(lines)] == [0, 1]
    assert [row.hallucinated for row in read_rows(lines, verdict=PROBABILITY)] == [0.3, 0.9]


def test_probabilities_raise_alarms_as_labels_do() -> None:
    rng = random.Random(3)
    rows = [
        Row(START + timedelta(seconds=index), "s", rng.betavariate(4, 6) if index >= 1500 else rng.betavariate(1, 9))
        for index in range(2000)
    ]
    (raised,) = replay(rows)
    assert 1500 <= (raised.alarm.event_time - START).total_seconds() < 1600
    assert raised.alarm.rate_before == pytest.approx(0.1, abs=0.02)
    assert raised.second_opinion is None


def test_the_second_opinion_is_given_where_it_is_asked_for() -> None:
    plan = Backtest(average_run_length=20_000, baseline_verdicts=500, second_opinion=True)
    (raised,) = plan.run(recorded())
    assert raised.second_opinion is not None
    assert 1500 <= (raised.second_opinion - START).total_seconds() < 2000


def test_batches_give_the_second_opinion_the_same_verdicts_each_time() -> None:
    minutes = [(START + timedelta(minutes=place), 50, 5.0 if place < 40 else 25.0) for place in range(80)]
    seen = list(changes(minutes))
    assert seen == list(changes(minutes))
    assert START + timedelta(minutes=40) <= seen[0] < START + timedelta(minutes=50)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "line 1: no column 'event_time'; the header names nothing"),
        (["when,segment,label"], "line 1: no column 'event_time'; the header names 'when', 'segment', 'label'"),
        ([HEADER, "2026-01-01,s,1", "2026-13-01,s,1"], "line 3, column event_time: '2026-13-01' is no ISO 8601 time"),
        ([HEADER, "2026-01-01,s,maybe"], "line 2, column label: 'maybe' is none of 1, fail"),
        ([HEADER, "2026-01-01,s,"], "line 2, column label: '' is none of"),
        ([HEADER, "2026-01-01,,1"], "line 2, column segment: '' is empty"),
        ([HEADER, "2026-01-01,s"], "line 2: 2 columns; 3 are needed"),
        ([HEADER, '2026-01-01,"s"x,1'], "line 2: not CSV"),
        ([HEADER, f"2026-01-01,s,{'x' * 1000}"], "line 2, column label: 'xxxxx"),
    ],
)
def test_a_bad_file_is_refused_with_its_place(lines: list[str], message: str) -> None:
    with pytest.raises(InvalidInput) as refusal:
        list(read_rows(lines))
    assert str(refusal.value).startswith(message)
    assert len(str(refusal.value)) < 200


@pytest.mark.parametrize("text", ["", "x", "1.1", "-0.1", "nan"])
def test_a_probability_that_is_none_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InvalidInput, match="line 2, column p: "):
        list(read_rows(["event_time,segment,p", f"2026-01-01,s,{text}"], verdict=PROBABILITY))
