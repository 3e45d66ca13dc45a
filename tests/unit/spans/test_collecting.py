"""Waiting for the spans of a trace: not too short, not too long, and never in more memory than allowed."""

from dataclasses import replace

import pytest

from monitor.spans.collecting import Completed, Completion, Patience, SpanCollector
from monitor.spans.span import Span
from tests.examples.spans import span

PATIENCE = Patience(settle=3, idle=30, limit=100)


def collector(max_bytes: int = 1_000_000) -> SpanCollector:
    return SpanCollector(PATIENCE, max_bytes=max_bytes)


def of(trace: int, name: str = "s", parent: str | None = "root") -> Span:
    return span(name, parent=parent, trace_id=f"{trace:032x}")


def told(done: list[Completed]) -> list[tuple[int, int, Completion]]:
    return [(int(one.trace_id, 16), len(one.spans), one.why) for one in done]


def test_a_trace_with_its_root_is_whole_once_nothing_more_comes() -> None:
    spans = collector()
    spans.add(of(1), position=1, size=10, now=0)
    spans.add(of(1, "root", None), position=1, size=10, now=2)
    assert spans.due(4.9) == []
    spans.add(of(1, "late"), position=2, size=10, now=4.9)
    assert spans.due(7.8) == []
    assert told(spans.due(7.9)) == [(1, 3, Completion.ENDED)]
    assert (spans.open, spans.oldest_position) == (0, None)


def test_a_trace_without_its_root_is_waited_for_longer() -> None:
    spans = collector()
    spans.add(of(1), position=1, size=10, now=0)
    assert spans.due(29.9) == []
    assert told(spans.due(30)) == [(1, 1, Completion.IDLE)]


def test_no_trace_is_waited_for_for_ever() -> None:
    spans = collector()
    for second in range(0, 100, 2):
        spans.add(of(1, f"s{second}", None), position=second, size=10, now=second)
        assert spans.due(second) == []
    assert told(spans.due(100)) == [(1, 50, Completion.LIMIT)]


def test_a_late_span_makes_no_second_trace_and_is_counted() -> None:
    spans = collector()
    spans.add(of(1, "root", None), position=1, size=10, now=0)
    spans.due(3)
    spans.add(of(1), position=2, size=10, now=4)
    assert (spans.open, spans.late, spans.due(1000)) == (0, 1, [])


def test_past_the_memory_those_that_were_silent_longest_go_first() -> None:
    spans = collector(max_bytes=25)
    for trace, now in ((1, 0), (2, 1), (3, 2)):
        spans.add(of(trace), position=trace, size=10, now=now)
    spans.add(of(1, "again"), position=4, size=1, now=2.5)
    assert told(spans.due(2.5)) == [(2, 1, Completion.MEMORY)]
    assert spans.open == 2
    spans.add(of(4), position=5, size=1000, now=2.6)
    assert told(spans.due(2.6)) == [(3, 1, Completion.MEMORY), (1, 2, Completion.MEMORY), (4, 1, Completion.MEMORY)]


def test_the_oldest_position_is_that_of_the_first_span_that_waits() -> None:
    spans = collector()
    spans.add(of(1), position=5, size=1, now=0)
    spans.add(of(2, "root", None), position=3, size=1, now=0)
    spans.add(of(2), position=9, size=1, now=0)
    assert spans.oldest_position == 3
    spans.due(3)
    assert spans.oldest_position == 5


@pytest.mark.parametrize("count", [1, 500])
def test_interleaved_traces_are_kept_apart(count: int) -> None:
    spans = collector()
    for name in ("a", "b", "root"):
        for trace in range(count):
            one = of(trace + 1, name, None if name == "root" else "root")
            spans.add(replace(one, start_ns=trace), position=trace, size=1, now=0)
    done = told(spans.due(3))
    assert [(size, why) for _, size, why in done] == [(3, Completion.ENDED)] * count
    assert len({trace for trace, *_ in done}) == count


def test_traces_of_two_owners_are_never_joined() -> None:
    spans = SpanCollector(Patience(), max_bytes=1000)
    spans.add(of(1), owner="acme", position=1, size=10, now=0)
    spans.add(of(1, "root", None), owner="globex", position=2, size=10, now=0)

    done = {completed.owner: len(completed.spans) for completed in spans.due(30)}

    assert done == {"acme": 1, "globex": 1}
