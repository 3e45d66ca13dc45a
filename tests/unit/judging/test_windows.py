from datetime import UTC, datetime
from itertools import pairwise

import pytest

from monitor.domain.trace import Document, Trace
from monitor.judging.windows import as_windows, combined, plan_windows


def trace(*documents, answer="Ada was born in London. She died in Rome."):
    return Trace(
        trace_id="t",
        event_time=datetime(2026, 1, 1, tzinfo=UTC),
        tenant="a",
        service="b",
        environment="c",
        question="?",
        documents=tuple(Document(id=f"d{place}", text=text) for place, text in enumerate(documents)),
        answer=answer,
    )


def words(text):
    return len(text.split())


FILLER = " ".join(f"Report number {number} says nothing new today." for number in range(100))
LONG = trace(FILLER, f"Ada was born in London. {FILLER}", f"{FILLER} Ada died in Rome.")


def covered(one, plan):
    places = {
        (passage.document_id, place) for window in plan for passage in window.passages
        for place in range(passage.start, passage.end)
    }  # fmt: skip
    return all(
        (document.id, place) in places
        for document in one.documents
        for place, character in enumerate(document.text)
        if not character.isspace()
    )


@pytest.mark.parametrize("room", [12, 40, 200, 5000])
def test_windows_hold_every_word_and_none_is_larger_than_the_room(room):
    plan = plan_windows(LONG, room=room, measure=words)
    assert covered(LONG, plan)
    assert all(words(window.text) <= room for window in plan)


def test_the_gathered_window_holds_what_lies_far_apart_and_is_read_first():
    plan = plan_windows(LONG, room=60, measure=words, most=2)
    assert [window.read for window in plan].count(True) == 2
    assert plan[0].read
    assert "Ada was born in London." in plan[0].text
    assert "Ada died in Rome." in plan[0].text
    assert {passage.document_id for passage in plan[0].passages} >= {"d1", "d2"}


def test_windows_that_hold_most_of_the_answer_are_read():
    plan = plan_windows(LONG, room=60, measure=words, most=3)
    read = [window.text for window in plan[1:] if window.read]
    assert any("born in London" in text for text in read)
    assert any("died in Rome" in text for text in read)


def test_neighbours_share_sentences():
    plan = plan_windows(trace(FILLER), room=60, measure=words, most=100, overlap=2)
    for one, other in pairwise(plan[1:]):
        assert other.passages[0].start < one.passages[-1].end


def test_what_fits_is_one_window():
    (only,) = plan_windows(trace("Ada was born in London.", "She died."), room=50, measure=words)
    assert only.text == "Ada was born in London.\n\nShe died."
    assert only.read


def test_a_sentence_longer_than_the_room_is_cut():
    blob = "x" * 10_000
    plan = plan_windows(trace(blob), room=100, measure=len, most=3)
    assert covered(trace(blob), plan)
    assert all(len(window.text) <= 100 for window in plan)


@pytest.mark.parametrize("documents", [(), ("",), ("  \n ", "\t")])
def test_nothing_makes_no_window(documents):
    assert plan_windows(trace(*documents), room=50, measure=words) == ()


def test_one_supporting_window_suffices():
    assert combined([2.0, -1.0, 3.0]) == -1.0
    plan = plan_windows(LONG, room=200, measure=words, most=1)
    said = as_windows(plan, [0.25])
    assert [window.raw_score for window in said if window.raw_score is not None] == [0.25]
    assert len(said) == len(plan) > 2
