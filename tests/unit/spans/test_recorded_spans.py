"""Real output of four instrumentations: every trace is understood to the letter, in whatever order its spans come."""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence

import pytest

from monitor.spans.assembling import Assembled, assemble
from monitor.spans.span import Span
from tests.examples.spans import FILES, FORMS, answers, recorded

ORDERS = 20


def by_trace(spans: Iterable[Span]) -> dict[str, list[Span]]:
    found: dict[str, list[Span]] = defaultdict(list)
    for span in spans:
        found[span.trace_id].append(span)
    return found


def check(assembled: Sequence[Assembled], answer: dict[str, object]) -> None:
    (one,) = assembled
    assert (one.question, one.answer) == (answer["question"], answer["answer"])
    assert [document.text for document in one.documents] == answer["documents"]
    assert one.problems == ()
    assert set(one.sources) == {"question", "documents", "answer"}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", FILES)
def test_every_trace_is_understood(file: str, form: str) -> None:
    traces = by_trace(recorded(file, form))
    expected = answers(file)
    assert traces.keys() == expected.keys()
    assert len(traces) == 40
    for trace_id, answer in expected.items():
        check(assemble(traces[trace_id]), answer)


@pytest.mark.parametrize("file", FILES)
def test_protobuf_and_json_say_the_same(file: str) -> None:
    assert recorded(file, "pb") == recorded(file, "json")


@pytest.mark.parametrize("seed", range(ORDERS))
@pytest.mark.parametrize("file", FILES)
def test_the_order_does_not_matter_and_repeated_spans_make_no_second_trace(file: str, seed: int) -> None:
    dice = random.Random(seed)
    spans = list(recorded(file))
    spans += dice.sample(spans, len(spans) // 10)
    dice.shuffle(spans)
    traces = by_trace(spans)
    for trace_id, answer in answers(file).items():
        check(assemble(traces[trace_id]), answer)


@pytest.mark.parametrize("file", FILES)
def test_what_a_lost_span_takes_away_is_never_guessed(file: str) -> None:
    """Any one span of a trace may be lost: what is still said is right."""
    trace_id, answer = next(iter(answers(file).items()))
    spans = by_trace(recorded(file))[trace_id]
    for lost in spans:
        for one in assemble(span for span in spans if span is not lost):
            assert one.question in {answer["question"], None}, lost.name
            assert one.answer in {answer["answer"], None}, lost.name
