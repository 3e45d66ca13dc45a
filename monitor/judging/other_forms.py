"""Words that documents hold in another form: `American` for `America`, `NFL` for its name, `October` for 2004-10-02.

Meant to spare an answer that says the same in other letters; whether it says the same *about* the same is for other
evidence. Only missing words are looked for, and each look-up is linear in the documents, whatever they hold.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import groupby

from monitor.judging.quantities import ORDINALS, SCALES, Quantities
from monitor.judging.text import Word, stem
from monitor.judging.words import MONTHS, SAME_WORDS, UNIT_SYMBOLS

_MONTHS = {stem(name): number for name, number in MONTHS.items()}
_SAME = {stem(one): frozenset(map(stem, same)) for same in SAME_WORDS for one in same}
_SYMBOLS = {stem(name): symbol for name, symbol in UNIT_SYMBOLS.items()}
_SCALES = {stem(name): value for name, value in SCALES.items()}

_ROOT_SHARE = 0.6
"""Two words are related when they share this much of the longer one, from its beginning …"""

_ROOT = 4
"""… and so many letters at least: `develop` and `development`, but not `Austria` and `Australia`."""

_SHORTEST_ACRONYM, _LONGEST_ACRONYM = 2, 6
_SHORTEST_EXPANDED = 3
_CONNECTORS = frozenset({"of", "the", "and", "for", "in", "on", "de"})
_LETTERS = re.compile(r"[^\W\d_]++|[.!?;:\n]")
_DOTTED = re.compile(r"(?<![A-Za-z])(?:[A-Z]\.){2,6}")
_ISO_DATE = re.compile(r"(?<!\d)\d{4}-(\d\d)-\d\d(?!\d)")


class OtherForms:
    """What documents hold, looked up by meaning rather than by letter.

    Args:
        documents: their texts.
        vocabulary: the stems of all their words.
    """

    def __init__(self, documents: Sequence[str], vocabulary: Collection[str]) -> None:
        self._documents = documents
        self._vocabulary = vocabulary

    def find(self, answer: str, missing: Sequence[Word]) -> frozenset[int]:
        """Starts of those words that are there in another form.

        Args:
            answer: the text that the words are from.
            missing: words whose stems no document holds.
        """
        roots = self._roots({word.stem[:_ROOT] for word in missing})
        found = {word.start for word in missing if self._holds(answer, word, roots)}
        return frozenset(found.union(self._expanded(answer, missing)))

    def _holds(self, answer: str, word: Word, roots: Collection[str]) -> bool:
        if word.is_number:
            return self._quantities.hold(answer, word) or self._has_ordinal(word.stem)
        key = word.stem
        return (
            any(prefix in roots for prefix in _prefixes(key))
            or not _SAME.get(key, frozenset()).isdisjoint(self._vocabulary)
            or self._measured(key)
            or (word.text.isupper() and word.text in self._acronyms)
        )

    def _measured(self, key: str) -> bool:
        """Words that stand beside numbers: scales, ordinals, months, and units that have a sign."""
        if key in _SCALES:
            return self._quantities.reach(_SCALES[key])
        if key in ORDINALS:
            return self._quantities.holds(ORDINALS[key])
        if key in _MONTHS:
            return _MONTHS[key] in self._months
        symbol = _SYMBOLS.get(key)
        return symbol is not None and any(symbol in document for document in self._documents)

    def _has_ordinal(self, digits: str) -> bool:
        return any(name in self._vocabulary for name, value in ORDINALS.items() if digits == f"{value:.0f}")

    def _roots(self, beginnings: Collection[str]) -> frozenset[str]:
        known = (each for each in self._vocabulary if each[:_ROOT] in beginnings)
        return frozenset(prefix for each in known for prefix in _prefixes(each))

    def _expanded(self, answer: str, missing: Sequence[Word]) -> Iterator[int]:
        """Missing words of names that the documents abbreviate."""
        for run in _capitalised_runs(answer, missing):
            initials = "".join(word.text[0] for word in run).lower()
            if len(initials) >= _SHORTEST_EXPANDED and stem(initials) in self._vocabulary:
                yield from (word.start for word in run)

    @cached_property
    def _quantities(self) -> Quantities:
        return Quantities(self._documents)

    @cached_property
    def _months(self) -> frozenset[str]:
        return frozenset(month for document in self._documents for month in _ISO_DATE.findall(document))

    @cached_property
    def _acronyms(self) -> frozenset[str]:
        return frozenset(acronym for document in self._documents for acronym in _acronyms(document))


def _prefixes(word: str) -> Iterator[str]:
    """What a related word must begin with, one of them: two words share such a prefix exactly when they are related."""
    shortest = max(_ROOT, -int(-len(word) * _ROOT_SHARE // 1))
    return (word[:length] for length in range(shortest, len(word) + 1))


def _acronyms(text: str) -> Iterator[str]:
    """Initials of neighbouring capitalised words, and what is written with dots."""
    yield from (match.replace(".", "") for match in _DOTTED.findall(text))
    for initials in "".join(map(_initial, _LETTERS.findall(text))).split():
        for length in range(_SHORTEST_ACRONYM, _LONGEST_ACRONYM + 1):
            yield from (initials[start : start + length] for start in range(len(initials) - length + 1))


def _initial(word: str) -> str:
    if word[0].isupper():
        return word[0]
    return "" if word in _CONNECTORS else " "


def _capitalised_runs(answer: str, words: Iterable[Word]) -> Iterator[list[Word]]:
    """Capitalised words with nothing but a space or a connector between them."""
    capitalised = [word for word in words if word.text[0].isupper()]
    number = 0
    labelled = []
    for place, word in enumerate(capitalised):
        between = answer[capitalised[place - 1].end : word.start] if place else ""
        if place and not all(part in _CONNECTORS for part in between.split()):
            number += 1
        labelled.append((number, word))
    for _, run in groupby(labelled, key=lambda pair: pair[0]):
        yield [word for _, word in run]
