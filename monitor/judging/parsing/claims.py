"""Claims of an answer, each with its verdict, and where in the answer they stand."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from monitor.domain.judgement import UnsupportedSpan
from monitor.judging.text import sentences, stems

MOST_CLAIMS = 64
"""Claims of one reply that are read."""

_LEAST_OVERLAP = 0.6
"""A claim in other words belongs to the sentence that holds this share of its words, or to none."""

_AROUND_A_QUOTE = " \t\r\n\"'.\u2018\u2019\u201c\u201d"
_SUPPORTED = frozenset({"SUPPORTED"})
_UNSUPPORTED = frozenset({"UNSUPPORTED", "NOT SUPPORTED", "CONTRADICTED", "NOT_SUPPORTED"})
_AS_LINE = re.compile(r"\W*(SUPPORTED|UNSUPPORTED|NOT[ _]SUPPORTED|CONTRADICTED)\W*[:\u2013\u2014-]\s*(.+)", re.DOTALL)


@dataclass(frozen=True, kw_only=True, slots=True)
class ClaimVerdict:
    """One claim of an answer, in the judge's words or the answer's own."""

    text: str
    supported: bool

    def __str__(self) -> str:
        return f"{'SUPPORTED' if self.supported else 'UNSUPPORTED'}: {self.text}"


def as_claims(value: Any) -> tuple[ClaimVerdict, ...]:
    """The claims in a reply's JSON value, at most `MOST_CLAIMS`; one without a verdict that was offered is left out.

    Args:
        value: a list of `{"CLAIM": …, "VERDICT": …}`, or of lines such as `SUPPORTED: …`.
    """
    if not isinstance(value, list):
        return ()
    read = (_as_claim(item) for item in value[:MOST_CLAIMS])
    return tuple(claim for claim in read if claim is not None)


def _as_claim(item: Any) -> ClaimVerdict | None:
    if isinstance(item, dict):
        keys = {str(key).upper(): said for key, said in item.items()}
        text, verdict = keys.get("CLAIM"), keys.get("VERDICT")
    elif isinstance(item, str) and (line := _AS_LINE.match(item)):
        verdict, text = line[1], line[2]
    else:
        return None
    if not isinstance(text, str) or not isinstance(verdict, str) or not text.strip():
        return None
    word = verdict.strip().upper()
    if word not in _SUPPORTED | _UNSUPPORTED:
        return None
    return ClaimVerdict(text=text.strip(), supported=word in _SUPPORTED)


def unsupported_claims(answer: str, claims: Sequence[ClaimVerdict]) -> tuple[UnsupportedSpan, ...]:
    """The unsupported claims as spans of the answer, in its order; one that cannot be found there is left out.

    A claim is looked for word for word, then without regard to case and white space, then as the sentence that holds
    most of its words. What a supported claim quotes too is not excused: a judge that says both is taken at its worse
    word.
    """
    unsupported = [claim.text for claim in claims if not claim.supported]
    found = {place for place in _located(answer, unsupported) if place is not None}
    return tuple(UnsupportedSpan(start=start, end=end, score=1.0) for start, end in _merged(sorted(found)))


def _located(answer: str, claims: Sequence[str]) -> Iterator[tuple[int, int] | None]:
    words = _Words(answer)
    parts = [(start, end, frozenset(stems(answer[start:end]))) for start, end in sentences(answer)]
    for claim in claims:
        yield words.find(claim) or _nearest(parts, claim)


class _Words:
    """A text with one space between words and in lower case, and the way back to its own offsets."""

    def __init__(self, text: str) -> None:
        self._starts: list[int] = []
        self._offsets: list[int] = []
        pieces: list[str] = []
        length = 0
        for word in re.finditer(r"\S+", text):
            lower = _lower(word[0])
            self._starts.append(length)
            self._offsets.append(word.start())
            pieces.append(lower)
            length += len(lower) + 1
        self._text = " ".join(pieces)

    def find(self, quoted: str) -> tuple[int, int] | None:
        wanted = " ".join(map(_lower, quoted.strip(_AROUND_A_QUOTE).split()))
        start = self._text.find(wanted) if wanted else -1
        return (self._offset(start), self._offset(start + len(wanted) - 1) + 1) if start >= 0 else None

    def _offset(self, place: int) -> int:
        word = bisect_right(self._starts, place) - 1
        return self._offsets[word] + place - self._starts[word]


def _lower(word: str) -> str:
    lower = word.lower()
    return lower if len(lower) == len(word) else word


def _nearest(parts: Sequence[tuple[int, int, frozenset[str]]], claim: str) -> tuple[int, int] | None:
    wanted = frozenset(stems(claim))
    if not wanted or not parts:
        return None
    start, end, held = max(parts, key=lambda part: len(wanted & part[2]))
    return (start, end) if len(wanted & held) >= _LEAST_OVERLAP * len(wanted) else None


def _merged(places: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    merged: list[tuple[int, int]] = []
    for start, end in places:
        if merged and start < merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return merged
