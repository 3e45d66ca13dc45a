"""Where an answer goes beyond its documents, and where in them the nearest support lies."""

from collections.abc import Iterator
from itertools import pairwise
from typing import TypedDict

from monitor.domain.judgement import UnsupportedSpan
from monitor.domain.trace import Trace
from monitor.judging.support import Claim, Coverage, Support, is_content
from monitor.judging.text import Word

MOSTLY_MISSING = 0.5
"""From this share of missing content words on, the whole claim is the span."""

SPREAD_TOO_THIN = 0.6
"""A claim whose words are all in the documents, but of which no neighbourhood of passages holds this share, is
pieced together: it is a span with a lower score."""

MOST_SPANS = 64
"""The worst spans are kept: evidence is for a reader, and travels with every judgement."""


class _Nearest(TypedDict, total=False):
    document_id: str
    document_start: int
    document_end: int


def unsupported_spans(trace: Trace) -> tuple[UnsupportedSpan, ...]:
    """The stretches of the answer that no document supports, in the answer's order.

    A span is a run of words that no document holds in any form, with the function words between them, or a whole
    sentence when half of its content is missing. Its score is the share of its content words that the documents
    lack; for a sentence, the mean of that and of the share that no three passages in a row hold. Lexical evidence
    only: a paraphrase may be named although it is supported, and a sentence whose words are all there but wrongly
    put together is not seen.
    """
    return spans_from(trace, Support([document.text for document in trace.documents], trace.answer))


def spans_from(trace: Trace, support: Support) -> tuple[UnsupportedSpan, ...]:
    """`unsupported_spans`, for an answer that has been looked up in its documents already."""
    found = [
        span
        for claim, coverage in zip(support.claims, support.coverage, strict=True)
        if claim.content
        for span in _of_claim(trace, support, claim, coverage)
    ]
    worst = sorted(found, key=lambda span: -span.score)[:MOST_SPANS]
    return tuple(sorted(worst, key=lambda span: span.start))


def _of_claim(trace: Trace, support: Support, claim: Claim, coverage: Coverage) -> Iterator[UnsupportedSpan]:
    nearest = _nearest(trace, coverage)
    missing = _share_missing(support, tuple(claim.content.values()))
    if missing >= MOSTLY_MISSING or coverage.neighbourhood < SPREAD_TOO_THIN:
        score = (missing + 1.0 - coverage.neighbourhood) / 2.0
        yield UnsupportedSpan(start=claim.start, end=claim.end, score=score, **nearest)
        return
    for run in _missing_runs(support, claim.words):
        yield UnsupportedSpan(start=run[0].start, end=run[-1].end, score=_share_missing(support, run), **nearest)


def _share_missing(support: Support, words: tuple[Word, ...]) -> float:
    content = [word for word in words if is_content(word)]
    return sum(not support.holds(word) for word in content) / len(content)


def _missing_runs(support: Support, words: tuple[Word, ...]) -> Iterator[tuple[Word, ...]]:
    """Runs that begin and end with a missing content word and hold no content word that is there."""
    places = [place for place, word in enumerate(words) if is_content(word) and not support.holds(word)]
    if not places:
        return
    first = places[0]
    for place, following in pairwise([*places, len(words)]):
        between = words[place + 1 : following]
        if following == len(words) or any(is_content(word) for word in between):
            yield words[first : place + 1]
            first = following


def _nearest(trace: Trace, coverage: Coverage) -> _Nearest:
    passage = coverage.passage
    if passage is None:
        return {}
    return {
        "document_id": trace.documents[passage.document].id,
        "document_start": passage.start,
        "document_end": passage.end,
    }
