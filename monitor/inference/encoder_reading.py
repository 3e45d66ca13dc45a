"""How an encoder reads one trace: pieces of the answer against windows of the documents, and back to an opinion.

    answer ─▶ pieces (sentences, or the whole) ─┐
                                                ├─▶ inputs ─▶ log-odds ─▶ lowest over windows ─▶ highest over pieces
    documents ─▶ all of them, or windows ───────┘

One window that supports a claim suffices, and one unsupported claim makes an answer hallucinated.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import ParamSpec, TypeVar

from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.trace import Trace
from monitor.inference.encoder_manifest import Manifest
from monitor.inference.encoder_tokens import Encoded, Tokens
from monitor.judging.judgeable import why_unjudgeable
from monitor.judging.text import sentences
from monitor.judging.windows import BETWEEN_DOCUMENTS, PlannedWindow, plan_windows

LONGEST_TOKEN = 32
"""Characters a token, beyond which documents are not even tried whole: what is denser is data, not language."""

MOST_INPUTS = 2048
"""Inputs that one trace may make: what bounds its memory. No deadline leaves time for more."""

_SPARE_TOKENS = 8
"""Room left for what joining texts adds to the sum of their tokens."""

_TRIES = 3

Piece = tuple[int, int]
P = ParamSpec("P")
R = TypeVar("R")


class TooLateError(Exception):
    """The deadline passed while a trace was being read."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """One trace, ready for the model.

    Attributes:
        pieces: character offsets of the answer's pieces, in order.
        plan: how the documents are cut; empty where they are read whole.
        inputs: for each piece, one input for each window that is read.
    """

    trace: Trace
    pieces: tuple[Piece, ...]
    plan: tuple[PlannedWindow, ...]
    inputs: tuple[Encoded, ...]

    @property
    def windows(self) -> int:
        """Windows that are read, at least 1."""
        return len(self.inputs) // len(self.pieces)

    @property
    def tokens(self) -> int:
        """Tokens of all inputs together."""
        return sum(len(one.ids) for one in self.inputs)


class Reader:
    """Cuts traces into inputs of at most `max_tokens`; nothing is cut off unsaid.

    Args:
        tokens: the model's tokenizer and templates.
        manifest: how answers and documents are cut.
        max_tokens: the longest input.
        most_windows: windows that are read of one trace.
    """

    def __init__(self, tokens: Tokens, manifest: Manifest, *, max_tokens: int, most_windows: int) -> None:
        self._tokens = tokens
        self._manifest = manifest
        self._max_tokens = max_tokens
        self._most_windows = most_windows

    def read(self, trace: Trace, *, late: Callable[[], bool] = lambda: False) -> Reading | CouldNotJudge:
        """Read one trace; raises TooLateError once `late` says so."""
        barred = why_unjudgeable(trace)
        if barred is not None:
            return barred
        question = trace.question if self._manifest.input.asks_question else ""
        taken = self._tokens.overhead + self._tokens.count(question)
        if taken > self._max_tokens // 2:
            detail = f"the question alone takes {taken} of the model's {self._max_tokens} tokens"
            return CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail=detail)
        measure = _until(late, self._tokens.count)
        pieces = tuple(self._pieces(trace.answer, (self._max_tokens - taken) // 2, measure))
        if not pieces:
            return CouldNotJudge(reason=Unjudgeable.EMPTY_ANSWER, detail="the answer holds no word or number")
        if len(pieces) * self._most_windows > MOST_INPUTS:
            detail = f"{len(pieces)} pieces of the answer by {self._most_windows} windows are over {MOST_INPUTS} inputs"
            return CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail=detail)
        return self._whole(trace, pieces, question, late) or self._in_windows(trace, pieces, question, taken, late)

    def _whole(
        self, trace: Trace, pieces: tuple[Piece, ...], question: str, late: Callable[[], bool]
    ) -> Reading | None:
        texts = [document.text for document in trace.documents if document.text.strip()]
        if sum(map(len, texts)) > self._max_tokens * LONGEST_TOKEN:
            return None
        longest = max(pieces, key=lambda piece: self._tokens.count(trace.answer[slice(*piece)]))
        # The longest piece first: where that does not fit, the others need not be tried.
        contexts = [BETWEEN_DOCUMENTS.join(texts)]
        if self._excess(self._inputs(trace, (longest,), question, contexts, late)) > 0:
            return None
        inputs = self._inputs(trace, pieces, question, contexts, late)
        return Reading(trace=trace, pieces=pieces, plan=(), inputs=inputs) if self._excess(inputs) <= 0 else None

    def _in_windows(
        self, trace: Trace, pieces: tuple[Piece, ...], question: str, taken: int, late: Callable[[], bool]
    ) -> Reading | CouldNotJudge:
        measure = _until(late, self._tokens.count)
        longest = max(measure(trace.answer[slice(*piece)]) for piece in pieces)
        room = self._max_tokens - taken - longest - _SPARE_TOKENS
        # Texts joined may have more tokens than apart, by a few; then with that much less room.
        for _ in range(_TRIES):
            if room <= 0:
                break
            plan = plan_windows(
                trace, room=room, measure=measure, most=self._most_windows, overlap=self._manifest.overlap_sentences
            )
            if not plan:
                return CouldNotJudge(reason=Unjudgeable.NO_DOCUMENTS, detail="no document holds a word or number")
            contexts = [window.text for window in plan if window.read]
            inputs = self._inputs(trace, pieces, question, contexts, late)
            excess = self._excess(inputs)
            if excess <= 0:
                return Reading(trace=trace, pieces=pieces, plan=plan, inputs=inputs)
            room -= excess + _SPARE_TOKENS
        detail = f"no window of the documents fits beside the answer into {self._max_tokens} tokens"
        return CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail=detail)

    def _inputs(
        self,
        trace: Trace,
        pieces: Sequence[Piece],
        question: str,
        contexts: Sequence[str],
        late: Callable[[], bool],
    ) -> tuple[Encoded, ...]:
        encode = _until(late, self._tokens.encode)
        return tuple(
            encode(question=question, context=context, answer=trace.answer[start:end])
            for start, end in pieces
            for context in contexts
        )

    def _excess(self, inputs: Sequence[Encoded]) -> int:
        return max(len(one.ids) for one in inputs) - self._max_tokens

    def _pieces(self, answer: str, room: int, measure: Callable[[str], int]) -> Iterator[Piece]:
        """The answer's pieces that hold a word or number, none of more than `room` tokens."""
        by_sentence = self._manifest.kind == "pair" and self._manifest.answers == "sentences"
        parts = (fitting for start, end in sentences(answer) for fitting in _halved(answer, start, end, room, measure))
        pieces = parts if by_sentence else _grouped(answer, parts, room, measure)
        return ((start, end) for start, end in pieces if any(map(str.isalnum, answer[start:end])))


def _until(late: Callable[[], bool], function: Callable[P, R]) -> Callable[P, R]:
    def watched(*args: P.args, **kwargs: P.kwargs) -> R:
        if late():
            raise TooLateError
        return function(*args, **kwargs)

    return watched


def _halved(answer: str, start: int, end: int, room: int, measure: Callable[[str], int]) -> Iterator[Piece]:
    if end - start <= 1 or measure(answer[start:end]) <= room:
        yield start, end
        return
    middle = (start + end) // 2
    yield from _halved(answer, start, middle, room, measure)
    yield from _halved(answer, middle, end, room, measure)


def _grouped(answer: str, parts: Iterator[Piece], room: int, measure: Callable[[str], int]) -> Iterator[Piece]:
    """Join neighbours as far as there is room: a whole answer is one piece unless it is very long."""
    begin, last, cost = -1, -1, 0
    for start, end in parts:
        own = measure(answer[start:end]) + 1
        if begin >= 0 and cost + own > room:
            yield begin, last
            begin, cost = -1, 0
        begin = start if begin < 0 else begin
        last = end
        cost += own
    if begin >= 0:
        yield begin, last
