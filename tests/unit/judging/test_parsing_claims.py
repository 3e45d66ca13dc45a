"""Claims: each with its verdict, the unsupported ones found again in the answer."""

import json
from typing import Any

import pytest

from monitor.domain.verdict import Label
from monitor.judging.parsing import ClaimVerdict, parse_reply, unsupported_claims
from monitor.judging.prompts import CLAIMS


def reply(*claims: Any, score: str = "FAIL") -> str:
    return json.dumps({"CLAIMS": list(claims), "SCORE": score})


def claim(text: Any, verdict: Any) -> dict[str, Any]:
    return {"CLAIM": text, "VERDICT": verdict}


def test_claims_come_with_their_verdicts() -> None:
    parsed = parse_reply(reply(claim("Ada wrote it", "SUPPORTED"), claim("in 1900", "UNSUPPORTED")), CLAIMS)
    assert parsed is not None
    assert parsed.label is Label.HALLUCINATED
    assert parsed.claims == (
        ClaimVerdict(text="Ada wrote it", supported=True),
        ClaimVerdict(text="in 1900", supported=False),
    )
    assert parsed.reasoning == "SUPPORTED: Ada wrote it\nUNSUPPORTED: in 1900"


@pytest.mark.parametrize(
    ("item", "supported"),
    [
        (claim("x", "supported"), True),
        (claim("x", " Contradicted "), False),
        (claim("x", "NOT SUPPORTED"), False),
        ("UNSUPPORTED: x", False),
        ("- SUPPORTED - x", True),
    ],
)
def test_forms_of_a_claim(item: Any, supported: bool) -> None:  # noqa: FBT001 - a parameter of the table above
    parsed = parse_reply(reply(item), CLAIMS)
    assert parsed is not None
    assert parsed.claims == (ClaimVerdict(text="x", supported=supported),)


@pytest.mark.parametrize(
    "item", [claim("x", "MAYBE"), claim("x", None), claim(3, "SUPPORTED"), claim(" ", "SUPPORTED"), 3, "x", []]
)
def test_a_claim_without_a_verdict_is_left_out(item: Any) -> None:
    parsed = parse_reply(reply(item), CLAIMS)
    assert parsed is not None
    assert parsed.claims == ()


def test_a_pass_beside_an_unsupported_claim_is_no_verdict() -> None:
    assert parse_reply(reply(claim("x", "UNSUPPORTED"), score="PASS"), CLAIMS) is None
    assert parse_reply(reply(claim("x", "SUPPORTED"), score="PASS"), CLAIMS) is not None


def test_a_claims_verdict_is_not_the_answers() -> None:
    cut_off = reply(claim("x", "UNSUPPORTED"))[: -len(', "SCORE": "FAIL"}')]
    assert parse_reply(cut_off, CLAIMS) is None


ANSWER = "Ada wrote the  first program. She did so in 1843, for\nCharles Babbage. It ran on a  Tuesday."


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("in 1843", "in 1843"),
        ("She did so in 1843, for Charles Babbage.", "She did so in 1843, for\nCharles Babbage"),
        ("ada wrote the first", "Ada wrote the  first"),
        ('"It ran on a Tuesday"', "It ran on a  Tuesday"),
        ("The program ran on a Tuesday", "It ran on a  Tuesday."),
    ],
)
def test_an_unsupported_claim_is_found_in_the_answer(text: str, found: str) -> None:
    (span,) = unsupported_claims(ANSWER, [ClaimVerdict(text=text, supported=False)])
    assert ANSWER[span.start : span.end] == found
    assert span.score == 1.0


def test_what_is_supported_or_not_in_the_answer_gives_no_span() -> None:
    claims = [ClaimVerdict(text="in 1843", supported=True), ClaimVerdict(text="Zeppelins fly high", supported=False)]
    assert unsupported_claims(ANSWER, claims) == ()
    assert unsupported_claims("", [ClaimVerdict(text="x", supported=False)]) == ()


def test_spans_come_in_order_and_do_not_overlap() -> None:
    texts = ("a  Tuesday", "ran on a Tuesday", "in 1843", "In 1843")
    spans = unsupported_claims(ANSWER, [ClaimVerdict(text=text, supported=False) for text in texts])
    assert [ANSWER[span.start : span.end] for span in spans] == ["in 1843", "ran on a  Tuesday"]


@pytest.mark.timeout(20)
def test_long_answers_and_claims_take_bounded_time() -> None:
    claims = [ClaimVerdict(text="a " * 20_000 + str(n), supported=False) for n in range(64)]
    (span,) = unsupported_claims("a " * 50_000 + "0", claims)
    assert (span.start, span.end) == (60_000, 100_001)


def test_letters_that_change_their_length_keep_their_offsets() -> None:
    answer = "İstanbul liegt am Bosporus. Straße und Fluß."
    (span,) = unsupported_claims(answer, [ClaimVerdict(text="am bosporus", supported=False)])
    assert answer[span.start : span.end] == "am Bosporus"
