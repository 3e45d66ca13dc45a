"""How one trace is put to a model: in one prompt where it fits, else window by window."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from monitor.domain.judgement import CouldNotJudge, Unjudgeable, UnsupportedSpan, Window
from monitor.domain.trace import Trace
from monitor.inference.gguf.chat import ChatFrame
from monitor.inference.gguf.context import Tokens
from monitor.inference.gguf.model import Model
from monitor.judging.fusion import sigmoid
from monitor.judging.neutralise import neutralise
from monitor.judging.prompts import PromptFamily
from monitor.judging.text import sentences
from monitor.judging.windows import PlannedWindow, as_windows, combined, plan_windows

REVISION = 2
"""Raised with every change after which the same model gives the same prompt another score: a calibration is of one.
1 shared a cache among sequences; since 2 each has cells of its own (docs/decisions/0007)."""

MOST_STATEMENTS = 16
"""Statements of an answer that are asked about one by one; of a longer answer, neighbours are asked about together."""

_MOST_BYTES_PER_TOKEN = 32
"""A text longer than this for each token of the context cannot fit; it is not even tokenised."""

_LEAST_ROOM = 64
"""With less room than this many tokens for documents, an answer cannot be judged against anything."""


@dataclass(frozen=True, slots=True)
class Statement:
    """A stretch of the answer that is asked about by itself."""

    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """The prompts for one trace: for each window that is read, one a statement.

    Attributes:
        prompts: window after window, so that neighbours share their documents.
        windows: how the documents were cut; empty where they fit whole.
        statements: what of the answer is asked about; one that spans it, for judges of whole answers.
    """

    prompts: tuple[Tokens, ...]
    windows: tuple[PlannedWindow, ...]
    statements: tuple[Statement, ...]

    @property
    def tokens(self) -> int:
        """Tokens of all prompts, as a server would count them."""
        return sum(map(len, self.prompts))

    def score(self, log_odds: Sequence[float]) -> float:
        """The answer's score from the prompts': its worst statement in the light of the best window."""
        return max(self._by_statement(log_odds))

    def spans(self, log_odds: Sequence[float]) -> tuple[UnsupportedSpan, ...]:
        """The statements that no window supports; none for judges of whole answers, who name none."""
        if len(self.statements) == 1:
            return ()
        scores = zip(self.statements, self._by_statement(log_odds), strict=True)
        return tuple(
            UnsupportedSpan(start=each.start, end=each.end, score=sigmoid(score)) for each, score in scores if score > 0
        )

    def read_windows(self, log_odds: Sequence[float]) -> tuple[Window, ...]:
        """The windows as an opinion lists them."""
        each = len(self.statements)
        scores = [max(log_odds[place : place + each]) for place in range(0, len(log_odds), each)]
        return as_windows(self.windows, scores) if self.windows else ()

    def _by_statement(self, log_odds: Sequence[float]) -> list[float]:
        each = len(self.statements)
        return [combined(log_odds[place::each]) for place in range(each)]


def reading_digest(prompt: PromptFamily, cache_type: str) -> str:
    """SHA-256, in hex, of how a trace is put to a model, what it is read in, and how the reply is heard."""
    return hashlib.sha256(f"{prompt.digest}\x1freading {REVISION}\x1f{cache_type}".encode()).hexdigest()


class Reader:
    """Makes prompts for one model and one prompt family.

    Args:
        model: whose tokens.
        frame: its chat template.
        prompt: how to ask.
        forced: tokens of the reply that stand before the verdict.
        context_tokens: the window, reserve for writing included.
        reserve: tokens kept for what is written.
        most_windows: windows that are read of one trace.
    """

    def __init__(
        self,
        model: Model,
        frame: ChatFrame,
        prompt: PromptFamily,
        *,
        forced: Sequence[int],
        context_tokens: int,
        reserve: int,
        most_windows: int,
    ) -> None:
        self._model = model
        self._frame = frame
        self._prompt = prompt
        self._forced = tuple(forced)
        self._context = context_tokens
        self._room = context_tokens - reserve
        self._most_windows = most_windows

    def plan(self, trace: Trace) -> Plan | CouldNotJudge:
        """The prompts for one trace, or TOO_LONG where question and answer leave no room for documents."""
        own = len(trace.question.encode(errors="replace")) + len(trace.answer.encode(errors="replace"))
        if own > self._context * _MOST_BYTES_PER_TOKEN:
            return _too_long(f"question and answer have {own} bytes")
        asked = self._statements(trace)
        if (whole := self._whole(trace, asked)) is not None:
            return whole
        # The longest statement leaves the least room.
        frame = max(len(self.tokens(_part(trace, each), "")) for each in asked)
        room = self._room - frame
        if room < _LEAST_ROOM:
            return _too_long(f"question and answer take {frame} of {self._room} tokens")
        windows = plan_windows(trace, room=room, measure=self._measure, most=self._most_windows)
        prompts = tuple(
            self.tokens(_part(trace, each), window.text) for window in windows if window.read for each in asked
        )
        if (longest := max(map(len, prompts), default=0)) > self._room:
            return _too_long(f"a window takes {longest} of {self._room} tokens")
        return Plan(prompts=prompts, windows=windows, statements=asked)

    def tokens(self, trace: Trace, context: str | None = None) -> Tokens:
        """One prompt; with `context` in the place of the trace's documents."""
        return self._frame.around(self._model, self._prompt.render(trace, context), self._forced)

    def _whole(self, trace: Trace, asked: Sequence[Statement]) -> Plan | None:
        size = sum(len(document.text.encode(errors="replace")) for document in trace.documents)
        if size > self._context * _MOST_BYTES_PER_TOKEN:
            return None
        prompts = tuple(self.tokens(_part(trace, each)) for each in asked)
        fits = max(map(len, prompts)) <= self._room
        return Plan(prompts=prompts, windows=(), statements=tuple(asked)) if fits else None

    def _measure(self, text: str) -> int:
        # As the model will see it: broken marks have more tokens than whole ones.
        return len(self._model.tokens(neutralise(text)))

    def _statements(self, trace: Trace) -> tuple[Statement, ...]:
        whole = Statement(0, len(trace.answer))
        if not self._prompt.by_sentence:
            return (whole,)
        found = list(sentences(trace.answer))
        return tuple(_grouped(found)) or (whole,)


def _grouped(found: Sequence[tuple[int, int]]) -> Iterator[Statement]:
    size = -(-len(found) // MOST_STATEMENTS)
    for place in range(0, len(found), size or 1):
        group = found[place : place + size]
        yield Statement(group[0][0], group[-1][1])


def _part(trace: Trace, statement: Statement) -> Trace:
    if statement.start == 0 and statement.end == len(trace.answer):
        return trace
    return replace(trace, answer=trace.answer[statement.start : statement.end])


def _too_long(detail: str) -> CouldNotJudge:
    return CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail=f"{detail}; see gguf.context_tokens")
