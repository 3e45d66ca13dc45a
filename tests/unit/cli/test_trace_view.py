"""What of a lineage depends on no ledger: evidence in the answer, JSON that is safe to print."""

import io
import json
from datetime import UTC, datetime

import pytest
from rich.console import Console

from monitor.cli.safe_json import safe_json
from monitor.cli.trace_view import print_lineage
from monitor.storage.lineage import Happening, Step, TraceKey


def shown(answer: str, *places: tuple[int, int]) -> str:
    """The line with the answer, of a verdict with unsupported spans at these places."""
    spans = [
        {"start": start, "end": end, "score": 0.5, "document_id": None, "text": answer[start:end], "support": ""}
        for start, end in places
    ]
    facts = {
        "outcome": "verdict",
        "label": "hallucinated",
        "probability": 0.9,
        "reason": None,
        "detail": None,
        "reasoning": None,
        "decided_by": [],
        "replay_id": None,
        "unsupported": spans,
        "answer": answer,
    }
    output = io.StringIO()
    console = Console(width=5000, file=output)
    print_lineage(
        console,
        TraceKey(tenant="city", trace_id="t"),
        [
            Step(
                happening=Happening.ANSWERED, at=None, facts={"texts_kept": False, "service": "s", "environment": "e"}
            ),
            Step(happening=Happening.VERDICT, at=None, facts=facts),
        ],
    )
    return next(line for line in output.getvalue().splitlines() if "answer:" in line).split("answer:  ")[1].rstrip()


@pytest.mark.parametrize(
    ("places", "expected"),
    [
        (((0, 2),), "⟦ab⟧cdef"),
        (((4, 6),), "abcd⟦ef⟧"),
        (((0, 6),), "⟦abcdef⟧"),
        (((0, 1), (3, 4)), "⟦a⟧bc⟦d⟧ef"),
        (((1, 4), (2, 5)), "a⟦b⟧⟦cd⟧⟦e⟧f"),
        (((2, 60),), "ab⟦cdef⟧"),
    ],
)
def test_what_is_unsupported_is_marked_in_the_answer(places: tuple[tuple[int, int], ...], expected: str) -> None:
    assert shown("abcdef", *places) == expected


@pytest.mark.parametrize("width", [60, 79, 80, 100])
def test_nothing_is_wider_than_the_terminal_and_nothing_is_left_out(width: int) -> None:
    facts = {"topic": "rag.traces.v1", "partition": 0, "offset": 7, "replay_id": None, "outcome": "z" * 150}
    at = datetime(2026, 3, 1, 12, tzinfo=UTC)
    key = TraceKey(tenant="city", trace_id="t" * 90)
    segment = {"texts_kept": False, "service": "s", "environment": "e"}
    steps = [
        Step(happening=Happening.ANSWERED, at=at, facts=segment),
        Step(happening=Happening.RECEIVED, at=None, facts=facts),
    ]
    output = io.StringIO()
    print_lineage(Console(width=width, file=output), key, steps)
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert output.getvalue().count("z") == 150
    assert [line.rstrip() for line in lines if "2026" in line] == ["2026-03-01"]
    # Under its step where there is little room, beside it elsewhere.
    [step] = [line.rstrip() for line in lines if "received" in line]
    assert (step.strip() == "received") is (width < 80)


def test_a_long_answer_is_cut_and_says_how_long_it_is() -> None:
    line = shown("a" * 2500, (1990, 2100))
    assert line == f"{'a' * 1990}⟦{'a' * 10}⟧… (2,500 characters)"


def test_json_that_is_safe_to_print_says_the_same() -> None:
    value = {"é\x9b": "\u202e☂\x7f𝄞\U000e0001\r\n"}
    line = safe_json(value)
    assert json.loads(line) == value
    assert line.isprintable()
    assert "é" in line
    assert "𝄞" in line
    indented = safe_json(value, indent=2)
    assert json.loads(indented) == value
    assert all(map(str.isprintable, indented.split("\n")))
