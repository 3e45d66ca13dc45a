"""Windows: how documents that do not fit a judge are read in pieces, the telling ones first, none left out unsaid.

    documents ─▶ sentences ─▶ consecutive windows that overlap ─┐
                      └─▶ one gathered window: for each claim of ├─▶ the `most` best are read, the rest are listed
                          the answer, the passages nearest to it ┘

The answer is judged against each window that is read, and the lowest score stands: it takes one window that supports
the answer, and a window beside the point refutes nothing (the rule of MiniCheck, Tang et al. 2024, and of SummaC,
Laban et al. 2022, for answers as a whole). The gathered window serves answers whose claims find their support in
different places, which no consecutive window holds together.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from monitor.domain.judgement import Passage, Window
from monitor.domain.trace import Trace
from monitor.judging.support import Support, is_content
from monitor.judging.text import sentences, stems

OVERLAP_SENTENCES = 2
"""Sentences that a window repeats of the one before it, so that no thought is cut in two."""

MOST_WINDOWS = 4
"""Windows that are read of one trace, unless told otherwise."""

BETWEEN_DOCUMENTS = "\n\n"
BETWEEN_PASSAGES = "\n"

_SEPARATOR_TOKENS = 2


@dataclass(frozen=True, slots=True)
class _Sentence:
    document: int
    start: int
    end: int
    cost: int


@dataclass(frozen=True, kw_only=True, slots=True)
class PlannedWindow:
    """One window before it is read.

    Attributes:
        passages: what it holds, in the documents' order.
        text: the passages' text.
        read: whether the budget lets it be read.
    """

    passages: tuple[Passage, ...]
    text: str
    read: bool


def plan_windows(
    trace: Trace,
    *,
    room: int,
    measure: Callable[[str], int],
    most: int = MOST_WINDOWS,
    overlap: int = OVERLAP_SENTENCES,
) -> tuple[PlannedWindow, ...]:
    """Cut a trace's documents into windows, and choose which are read.

    Args:
        trace: its answer decides which windows are worth reading.
        room: tokens that a window may have.
        measure: tokens of a text; must not be less for a longer text.
        most: windows that are read, at least 1: the gathered one, then those that hold most of the answer.
        overlap: sentences that consecutive windows share.

    Returns:
        Every window in the documents' order, the gathered one first; together they hold every sentence. Empty where
        no document holds anything. A sentence longer than `room` makes windows of its own, cut at `room`.
    """
    texts = [document.text for document in trace.documents]
    parts = [part for part in _parts(texts, room, measure) if part.cost]
    if not parts:
        return ()
    runs = list(_consecutive(parts, room, overlap))
    chosen = {0}
    if len(runs) > 1:
        support = Support(texts, trace.answer)
        gathered = _gathered(parts, support, room)
        runs = [gathered, *runs] if gathered and gathered not in runs else runs
        chosen = set(_best(runs, texts, support, most))
    return tuple(_window(trace, run, read=number in chosen) for number, run in enumerate(runs))


def as_windows(plan: Sequence[PlannedWindow], scores: Sequence[float]) -> tuple[Window, ...]:
    """What an opinion says of its windows: `scores` are those of the windows that were read, in order."""
    said = iter(scores)
    return tuple(Window(passages=each.passages, raw_score=next(said) if each.read else None) for each in plan)


def combined(scores: Sequence[float]) -> float:
    """The score of an answer from its scores over the windows: the lowest, for one supporting window suffices."""
    return min(scores)


def _parts(texts: Sequence[str], room: int, measure: Callable[[str], int]) -> Iterator[_Sentence]:
    for number, text in enumerate(texts):
        for start, end in sentences(text):
            cost = measure(text[start:end]) + _SEPARATOR_TOKENS
            if cost <= room:
                yield _Sentence(number, start, end, cost)
                continue
            # Data rather than language: cut into pieces that fit by halving.
            yield from _halved(text, _Sentence(number, start, end, cost), room, measure)


def _halved(text: str, part: _Sentence, room: int, measure: Callable[[str], int]) -> Iterator[_Sentence]:
    if part.cost <= room or part.end - part.start <= 1:
        yield replace(part, cost=min(part.cost, room))
        return
    middle = (part.start + part.end) // 2
    for start, end in ((part.start, middle), (middle, part.end)):
        cost = measure(text[start:end]) + _SEPARATOR_TOKENS
        yield from _halved(text, _Sentence(part.document, start, end, cost), room, measure)


def _consecutive(parts: Sequence[_Sentence], room: int, overlap: int) -> Iterator[list[_Sentence]]:
    begin = 0
    while begin < len(parts):
        end, cost = begin, 0
        while end < len(parts) and cost + parts[end].cost <= room:
            cost += parts[end].cost
            end += 1
        end = max(end, begin + 1)
        yield list(parts[begin:end])
        if end == len(parts):
            return
        # At least one new sentence in each window, or the cutting would not come to an end.
        begin = max(end - overlap, begin + 1)


def _gathered(parts: Sequence[_Sentence], support: Support, room: int) -> list[_Sentence]:
    """Each claim's nearest passage first, then what stands around those, as far as there is room."""
    place = {(part.document, part.start): number for number, part in enumerate(parts)}
    nearest = [
        place[passage.document, passage.start]
        for passage in (coverage.passage for coverage in support.coverage)
        if passage is not None and (passage.document, passage.start) in place
    ]
    taken: dict[int, int] = {}
    left = room
    for distance in range(len(parts)):
        around = [number + side for number in nearest for side in {-distance, distance}]
        fitting = False
        for number in around:
            if not 0 <= number < len(parts) or number in taken or parts[number].cost > left:
                continue
            taken[number] = parts[number].cost
            left -= parts[number].cost
            fitting = True
        if not fitting and distance:
            break
    return [parts[number] for number in sorted(taken)]


def _best(runs: Sequence[list[_Sentence]], texts: Sequence[str], support: Support, most: int) -> list[int]:
    """The gathered window, then one by one the window that adds most of the answer's words to those chosen before."""
    if len(runs) <= most:
        return list(range(len(runs)))
    wanted = {word.stem for word in support.words if is_content(word)} or set(support.ids)
    held = [
        wanted.intersection(stems(" ".join(texts[part.document][part.start : part.end] for part in run)))
        for run in runs
    ]
    # The gathered window holds something of everything: what counts is what the others hold together.
    chosen, left = [0], set(range(1, len(runs)))
    covered: set[str] = set()
    while left and len(chosen) < most:
        best = min(left, key=lambda number: (-len(held[number] - covered), -len(held[number]), number))
        covered |= held[best]
        left.remove(best)
        chosen.append(best)
    return chosen


def _window(trace: Trace, run: Sequence[_Sentence], *, read: bool) -> PlannedWindow:
    merged: list[_Sentence] = []
    for part in run:
        last = merged[-1] if merged else None
        if (
            last
            and last.document == part.document
            and not trace.documents[part.document].text[last.end : part.start].strip()
        ):
            merged[-1] = _Sentence(last.document, last.start, part.end, last.cost + part.cost)
        else:
            merged.append(part)
    pieces: list[str] = []
    for before, part in zip([None, *merged], merged, strict=False):
        if before is not None:
            pieces.append(BETWEEN_PASSAGES if before.document == part.document else BETWEEN_DOCUMENTS)
        pieces.append(trace.documents[part.document].text[part.start : part.end])
    passages = tuple(
        Passage(document_id=trace.documents[part.document].id, start=part.start, end=part.end) for part in merged
    )
    return PlannedWindow(passages=passages, text="".join(pieces), read=read)
