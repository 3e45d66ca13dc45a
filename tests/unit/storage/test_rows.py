"""The last door before Postgres: what it cannot store does not get through."""

import json

import pytest

from monitor.storage.engine import LedgerRefused
from monitor.storage.rows import escalation_row, judgement_columns, outcome_columns
from monitor.storage.storable import storable, storable_json
from tests.examples.assessments import EDGE, assessment, judgement, verdict


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        ("plain", "plain"),
        ("a\x00b", "a\N{REPLACEMENT CHARACTER}b"),
        ("a\ud800b", "a?b"),
        ("\U0001f600é", "\U0001f600é"),
        ("\\u0000", "\\u0000"),
    ],
)
def test_text_keeps_its_length_and_loses_what_cannot_be_stored(text: str, stored: str) -> None:
    assert storable(text) == stored
    assert len(storable(text)) == len(text)


def test_json_is_clean_in_keys_and_depth() -> None:
    value = {"k\x00": [{"deep\ud800": "v\x00"}, 1.5, None, True]}
    assert json.loads(storable_json(value)) == {
        "k\N{REPLACEMENT CHARACTER}": [{"deep?": "v\N{REPLACEMENT CHARACTER}"}, 1.5, None, True]
    }


def test_a_written_escape_is_not_a_nul() -> None:
    assert json.loads(storable_json(["\\u0000"])) == ["\\u0000"]


@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_numbers_that_are_no_json_are_refused(number: float) -> None:
    with pytest.raises(LedgerRefused, match="not JSON"):
        storable_json({"score": number})


def test_a_judgement_is_a_score_or_a_reason() -> None:
    spoke, failed = judgement_columns(judgement()), judgement_columns(judgement(EDGE, probability=None))
    assert (spoke.raw_score, spoke.reason) == (0.5, None)
    assert (failed.raw_score, failed.reason, failed.unsupported) == (None, "unparseable", None)


@pytest.mark.parametrize(("escalated", "outcome"), [(True, "p"), (False, "u")])
def test_no_verdict_is_pending_while_the_pool_may_still_judge(*, escalated: bool, outcome: str) -> None:
    said = assessment(0, probability=None).outcome
    assert outcome_columns(said, escalated=escalated).outcome == outcome
    assert outcome_columns(verdict(0.5), escalated=escalated).outcome == "v"


def test_an_escalation_carries_its_assessment() -> None:
    whole = [value for value in escalation_row(assessment(0, escalated=True)) if str(value).startswith('{"schema"')]
    assert len(whole) == 1


def test_a_text_may_say_nan() -> None:
    assert json.loads(storable_json({"said": "NaN, Infinity"})) == {"said": "NaN, Infinity"}
