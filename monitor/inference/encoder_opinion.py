"""An encoder's numbers as an opinion: the answer's score, its unsupported spans, and what each window said."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from monitor.domain.judgement import CouldNotJudge, Opinion, Passage, Unjudgeable, UnsupportedSpan, Usage
from monitor.inference.encoder_manifest import Manifest
from monitor.inference.encoder_reading import Reading
from monitor.inference.encoder_tokens import Encoded
from monitor.judging.odds import logit, sigmoid
from monitor.judging.text import sentences
from monitor.judging.windows import as_windows

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, slots=True)
class _Stretches:
    """Log-odds of the answer's sentences or tokens under each window.

    Attributes:
        starts, ends: their characters in the answer, in order.
        odds: `[windows, stretches]`.
    """

    starts: Ints
    ends: Ints
    odds: Floats


def opinion_of(reading: Reading, odds: Sequence[Floats], manifest: Manifest) -> Opinion | CouldNotJudge:
    """What the model's log-odds, one array an input of the reading, say about the trace."""
    if not all(np.isfinite(one).all() for one in odds):
        return CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail="the model's output is not finite")
    found = _sentences(reading, odds) if manifest.kind == "pair" else _tokens(reading, odds)
    if not found.starts.size:
        return CouldNotJudge(reason=Unjudgeable.EMPTY_ANSWER, detail="the tokenizer reads nothing in the answer")
    by_window = [_score(row, found, reading, manifest) for row in found.odds]
    return Opinion(
        raw_score=_score(found.odds.min(axis=0), found, reading, manifest),
        unsupported=tuple(_spans(reading, found, manifest)),
        usage=Usage(prompt_tokens=reading.tokens),
        windows=as_windows(reading.plan, by_window) if reading.plan else (),
    )


def _sentences(reading: Reading, odds: Sequence[Floats]) -> _Stretches:
    places = np.array(reading.pieces, dtype=np.int64)
    grid = np.array(odds, dtype=np.float32).reshape(len(reading.pieces), reading.windows)
    return _Stretches(starts=places[:, 0], ends=places[:, 1], odds=grid.T)


def _tokens(reading: Reading, odds: Sequence[Floats]) -> _Stretches:
    starts, ends, columns = [], [], []
    for number, (begin, _) in enumerate(reading.pieces):
        own = slice(number * reading.windows, (number + 1) * reading.windows)
        inputs, scores = reading.inputs[own], odds[own]
        first = inputs[0]
        starts.append(first.starts + begin)
        ends.append(first.ends + begin)
        columns.append(np.stack([_as_tokens_of(first, one, each) for one, each in zip(inputs, scores, strict=True)]))
    return _Stretches(starts=np.concatenate(starts), ends=np.concatenate(ends), odds=np.concatenate(columns, axis=1))


def _as_tokens_of(wanted: Encoded, own: Encoded, odds: Floats) -> Floats:
    """The scores of one input's answer tokens, as scores of another's.

    The same text is the same tokens in every window, but where a tokenizer joins its border to what stands beside.
    """
    if np.array_equal(wanted.starts, own.starts) and np.array_equal(wanted.ends, own.ends):
        return odds
    if not odds.size:
        return np.zeros(wanted.starts.shape, dtype=np.float32)
    overlap = (own.starts < wanted.ends[:, None]) & (own.ends > wanted.starts[:, None])
    highest = np.where(overlap, odds, -np.inf).max(axis=1)
    shared: Floats = np.where(np.isfinite(highest), highest, odds.min()).astype(np.float32)
    return shared


def _score(odds: Floats, found: _Stretches, reading: Reading, manifest: Manifest) -> float:
    """One window's, or the combined, log-odds of the answer."""
    if manifest.kind == "pair" or manifest.answer_score == "max":
        return float(odds.max())
    if manifest.answer_score == "mean":
        return float(odds.mean())
    own = [odds[(found.starts >= start) & (found.starts < end)] for start, end in sentences(reading.trace.answer)]
    return float(max((each.mean() for each in own if each.size), default=odds.mean()))


def _spans(reading: Reading, found: _Stretches, manifest: Manifest) -> list[UnsupportedSpan]:
    if manifest.kind == "pair" and manifest.answers == "whole":
        # The whole answer is no place in the answer.
        return []
    over = found.odds.min(axis=0) >= logit(manifest.span_threshold)
    groups = (
        _runs(over) if manifest.kind == "token" else [(place, place + 1) for place in map(int, np.flatnonzero(over))]
    )
    return [_span(reading, found, first, last) for first, last in groups]


def _runs(over: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches of neighbours that are true, as half-open ranges of places."""
    edges = np.flatnonzero(np.diff(np.concatenate([[False], over, [False]]).astype(np.int8)))
    return [(int(first), int(last)) for first, last in edges.reshape(-1, 2)]


def _span(reading: Reading, found: _Stretches, first: int, last: int) -> UnsupportedSpan:
    odds = found.odds[:, first:last]
    nearest = _named(reading, int(odds.max(axis=1).argmin()))
    return UnsupportedSpan(
        start=int(found.starts[first]),
        end=int(found.ends[first:last].max()),
        score=sigmoid(float(odds.min(axis=0).max())),
        document_id=nearest.document_id if nearest else None,
        document_start=nearest.start if nearest and reading.plan else None,
        document_end=nearest.end if nearest and reading.plan else None,
    )


def _named(reading: Reading, window: int) -> Passage | None:
    """The one passage that a window consists of, or None where it has several."""
    if not reading.plan:
        only = [document for document in reading.trace.documents if document.text.strip()]
        return Passage(document_id=only[0].id, start=0, end=len(only[0].text)) if len(only) == 1 else None
    read = [planned for planned in reading.plan if planned.read]
    passages = read[window].passages
    return passages[0] if len(passages) == 1 else None
