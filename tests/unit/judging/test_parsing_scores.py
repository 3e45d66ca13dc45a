"""Levels, shares and preferences: tolerant of form, and nothing off the scale is ever moved onto it."""

import pytest

from monitor.judging.parsing import Preference, parse_level, parse_preference, parse_share

LEVEL = ("FEEDBACK", "RESULT")
SHARE = ("JUSTIFICATION", "SCORE")
WINNER = ("JUSTIFICATION", "WINNER")


@pytest.mark.parametrize(
    ("reply", "level", "why"),
    [
        ('{"FEEDBACK": "Good.", "RESULT": 4}', 4, "Good."),
        ('{"RESULT": "4", "FEEDBACK": ["Good.", "Short."]}', 4, "Good.\nShort."),
        ("RESULT: 4.0", 4, None),
        ("**RESULT**: 4/5", 4, None),
        ("RESULT: 4 out of 5.", 4, None),
        ("Feedback: good. [RESULT] 3", 3, "good."),
        ("So so.\n**[RESULT]** (2)", 2, "So so."),
        ('It says "[RESULT] 5".\n[RESULT] 1', 1, 'It says "[RESULT] 5".'),
        ('{"RESULT": 2, "FEEDBACK": "It says RESULT: 5"}', 2, "It says RESULT: 5"),
    ],
)
def test_levels(reply: str, level: int, why: str | None) -> None:
    said = parse_level(reply, LEVEL)
    assert said is not None
    assert (said.value, said.justification) == (level, why)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "4",
        *(
            f"RESULT: {value}"
            for value in ("0", "6", "-1", "4.5", "45", "10", "4/10", "four", "4 or 5", "4-5", "1e0", "٤")
        ),
        *(f"[RESULT] {value}" for value in ("0", "6", "", "good")),
        '{"FEEDBACK": "[RESULT] 5',
        '{"FEEDBACK": "x", "RESULT": null}',
        '{"FEEDBACK": "x", "RESULT": {"value": 4}}',
        '{"FEEDBACK": "x", "RESULT": 4}\n{"RESULT": 7}',
    ],
)
def test_no_level(reply: str) -> None:
    assert parse_level(reply, LEVEL) is None


@pytest.mark.parametrize(
    ("reply", "share"),
    [
        ('{"JUSTIFICATION": "x", "SCORE": 0.75}', 0.75),
        ('{"SCORE": 0, "JUSTIFICATION": "x"}', 0.0),
        ('{"SCORE": "1.0"}', 1.0),
        ("SCORE: .5", 0.5),
        ("SCORE: 1.", 1.0),
        ("SCORE: 0.3/1", 0.3),
    ],
)
def test_shares(reply: str, share: float) -> None:
    said = parse_share(reply, SHARE)
    assert said is not None
    assert said.value == share


@pytest.mark.parametrize(
    "value", ["1.01", "2", "-0.1", "0,7", "70%", "7/10", "nan", "inf", "1e-3", "high", "0.5 to 0.7", "0.5.1", "true"]
)
def test_no_share(value: str) -> None:
    assert parse_share(f"SCORE: {value}", SHARE) is None
    assert parse_share(f'{{"JUSTIFICATION": "x", "SCORE": {value}}}', SHARE) is None


@pytest.mark.parametrize(
    ("reply", "winner"),
    [
        ('{"JUSTIFICATION": "x", "WINNER": "A"}', Preference.A),
        ('{"WINNER": "Response B"}', Preference.B),
        ("WINNER: [[a]]", Preference.A),
        ("WINNER: tie.", Preference.TIE),
        ("WINNER: **B**", Preference.B),
    ],
)
def test_preferences(reply: str, winner: Preference) -> None:
    said = parse_preference(reply, WINNER)
    assert said is not None
    assert said.value is winner


@pytest.mark.parametrize("value", ["C", "A or B", "A/B", "Apple", "both", "", "A, B", "AB", "[[C]]"])
def test_no_preference(value: str) -> None:
    assert parse_preference(f"WINNER: {value}", WINNER) is None
