"""What the documents say about the words of one answer: the index that features and evidence are read from.

Only the answer's own words are looked for, so documents of megabytes cost one linear scan and little memory.
"""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np

from monitor.judging.other_forms import OtherForms
from monitor.judging.text import Word, sentences, stem, stems, words
from monitor.judging.words import NEGATIONS, SOURCE_WORDS, STOP_WORDS

_STOP_STEMS = frozenset(map(stem, STOP_WORDS | SOURCE_WORDS))
_NEGATION_STEMS = frozenset(map(stem, NEGATIONS))
_ELSEWHERE = -1
_NEAR = 3

NEIGHBOURHOOD = 3
"""Passages that are read as one when support may be spread over neighbouring sentences."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One sentence of the answer, in words.

    Attributes:
        start, end: character offsets in the answer.
        words: all its words, in order; never empty.
        content: its distinct content words by stem, each at its first place.
    """

    start: int
    end: int
    words: tuple[Word, ...]
    content: dict[str, Word]

    @property
    def negated(self) -> bool:
        """Whether it holds a negation."""
        return any(word.stem in _NEGATION_STEMS for word in self.words)


@dataclass(frozen=True, slots=True)
class Passage:
    """One sentence of one document; offsets are characters of that document, `place` its number in the index."""

    place: int
    document: int
    start: int
    end: int
    negated: bool


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of one claim's content the best passage holds, and the best neighbourhood of passages.

    Attributes:
        passage: the best passage, None when no passage holds any content word of the claim.
        single, neighbourhood: shares of the claim's distinct content words, 0 to 1.
    """

    passage: Passage | None
    single: float
    neighbourhood: float


def is_content(word: Word) -> bool:
    """Whether a word carries a claim of its own, rather than grammar."""
    return word.stem not in _STOP_STEMS


class Support:
    """An answer's words, looked up in its documents.

    Args:
        documents: the texts, as the generator saw them.
        answer: the text whose claims are to be supported.
    """

    def __init__(self, documents: Sequence[str], answer: str) -> None:
        self._documents = documents
        self._answer = answer
        self.claims = tuple(_claims(answer))
        self.words = [word for claim in self.claims for word in claim.words]
        self.ids: dict[str, int] = {}
        for word in self.words:
            self.ids.setdefault(word.stem, len(self.ids))
        self.passages: dict[int, Passage] = {}
        self._next_place = 0
        self._places: list[list[int]] = [[] for _ in self.ids]
        self._sequence: list[int] = []
        self._content_sequence: list[int] = []
        self._vocabulary: set[str] = set()
        for number, document in enumerate(documents):
            self._read(number, document)
        self.found = {stem for stem, number in self.ids.items() if self._places[number]}

    def _read(self, document: int, text: str) -> None:
        look_up = self.ids.get
        for start, end in sentences(text):
            stemmed = stems(text[start:end])
            if not stemmed:
                continue
            ids = [look_up(each, _ELSEWHERE) for each in stemmed]
            self._vocabulary.update(stemmed)
            place = self._next_place
            self._next_place += 1
            for number in set(ids):
                if number != _ELSEWHERE:
                    self._places[number].append(place)
            self._sequence += ids
            self._content_sequence += [n for n, each in zip(ids, stemmed, strict=True) if each not in _STOP_STEMS]
            self.passages[place] = Passage(place, document, start, end, not _NEGATION_STEMS.isdisjoint(stemmed))
        # Neither words nor neighbourhoods run on from one document into the next.
        self._next_place += NEIGHBOURHOOD
        self._sequence += [_ELSEWHERE] * _NEAR
        self._content_sequence += [_ELSEWHERE] * _NEAR

    def has(self, word: Word) -> bool:
        """Whether any document holds the word."""
        return word.stem in self.found

    def holds(self, word: Word) -> bool:
        """Whether any document holds the word, in this or in another form (see `OtherForms`)."""
        return word.stem in self.found or word.start in self._in_other_forms

    def passage_has(self, passage: Passage, word: Word) -> bool:
        """Whether this passage holds the word."""
        places = self._places[self.ids[word.stem]]
        found = bisect_left(places, passage.place)
        return found < len(places) and places[found] == passage.place

    @cached_property
    def _in_other_forms(self) -> frozenset[int]:
        missing = [word for word in self.words if word.stem not in self.found and is_content(word)]
        return OtherForms(self._documents, self._vocabulary).find(self._answer, missing) if missing else frozenset()

    def copied(self, length: int) -> list[bool]:
        """For each run of `length` words of the answer, in order, whether some document holds it too."""
        held = set(zip(*(self._sequence[shift:] for shift in range(length)), strict=False))
        ids = [self.ids[word.stem] for word in self.words]
        return [run in held for run in zip(*(ids[shift:] for shift in range(length)), strict=False)]

    def content_pairs(self) -> list[tuple[int, int, bool]]:
        """Neighbouring content words of each claim, as ids, and whether a document has them close by, in that order."""
        near = self._near_pairs()
        pairs = []
        for claim in self.claims:
            content = [self.ids[word.stem] for word in claim.words if is_content(word)]
            pairs += [(first, second, (first, second) in near) for first, second in pairwise(content)]
        return pairs

    def _near_pairs(self) -> set[tuple[int, int]]:
        known = [(place, number) for place, number in enumerate(self._content_sequence) if number != _ELSEWHERE]
        return {
            (number, after)
            for gap in range(1, _NEAR + 1)
            for (place, number), (later, after) in zip(known, known[gap:], strict=False)
            if later - place <= _NEAR
        }

    def is_found(self, number: int) -> bool:
        """Whether any document holds the word with this id."""
        return bool(self._places[number])

    @cached_property
    def coverage(self) -> tuple[Coverage, ...]:
        """For each claim, how much of its content the best passage and the best neighbourhood hold."""
        seen: dict[frozenset[str], Coverage] = {}
        for claim in self.claims:
            content = frozenset(claim.content)
            if content not in seen:
                seen[content] = self._cover(content)
        return tuple(seen[frozenset(claim.content)] for claim in self.claims)

    def _cover(self, content: frozenset[str]) -> Coverage:
        places = [self._places[self.ids[each]] for each in content]
        flat = np.fromiter((place for held in places for place in held), dtype=np.intp)
        if not flat.size:
            return Coverage(None, 0.0, 0.0)
        counts = np.bincount(flat)
        best = int(counts.argmax())
        wide = np.fromiter((place for held in places for place in _widened(held)), dtype=np.intp)
        total = len(content)
        return Coverage(self.passages[best], float(counts[best]) / total, float(np.bincount(wide).max()) / total)


def _widened(places: list[int]) -> set[int]:
    return {place + shift for place in places for shift in range(NEIGHBOURHOOD)}


def _claims(answer: str) -> list[Claim]:
    claims = []
    for start, end in sentences(answer):
        found = tuple(words(answer, start, end))
        if found:
            content: dict[str, Word] = {}
            for word in found:
                if is_content(word):
                    content.setdefault(word.stem, word)
            claims.append(Claim(start, end, found, content))
    return claims
