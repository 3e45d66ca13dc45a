"""Replaces what patterns find, in text and in JSON values, also where a text is JSON that hides it behind escapes."""

import hashlib
import hmac
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from copy import copy
from functools import lru_cache
from typing import Any

from monitor.redaction.pattern import Pattern, always
from monitor.redaction.unique import unique

_HASH_CHARACTERS = 12
_ESCAPE = re.compile(r"\\u([0-9a-fA-F]{4})|\\(.)", re.DOTALL)
# Python warns of these.
_FOREIGN_ESCAPE = re.compile(r"\\(?<!\\\\)(?:\\\\)*+(?:[^\\'\"abfnrtvxuUN0-7\n]|[4-7][0-7]{2})")
# All that can hide from the built-in patterns: slashes and ASCII; and the spaces and dashes that may stand between
# groups of digits, behind one or within another escape.
_HIDING_ESCAPE = re.compile(
    r"\\(?:/|u(?:00[0-7]|(?:(?<=[0-9]\\u)|(?<=[0-9][ .-]\\u)|(?<=[0-9][ .-]{2}\\u)|(?<=\\\\u))"
    r"(?:00[aA]0|20(?:0[79]|1[0-3]|2[fF])|2212)))"
)
_ANY_ESCAPE = re.compile(r"\\")
_SHORT_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
_SHORT, _REMEMBERED, _SUBSETS = 64, 4096, 16
_OPENING = ("{", "[")
_TOO_LARGE = 10**20
_WITHIN = 4
"""JSON within JSON within …: so often."""

Marker = Callable[[Pattern, str], str]
"""What stands in the place of what a pattern found."""


def mask(pattern: Pattern, _: str) -> str:
    """`[EMAIL]`: nothing of it is left."""
    return f"[{pattern.label}]"


def hashed(key: bytes) -> Marker:
    """`[EMAIL:9f2c1a…]`: the same value gives the same mark, and without the key no value can be guessed from it.

    HMAC-SHA-256 (RFC 2104), of which 48 bits are kept: two values of a million share a mark with probability 0.002.
    """

    def mark(pattern: Pattern, found: str) -> str:
        digest = hmac.new(key, found.encode(errors="surrogatepass"), hashlib.sha256).hexdigest()
        return f"[{pattern.label}:{digest[:_HASH_CHARACTERS]}]"

    return mark


class Redactor:
    """Patterns, in their order, with one way to mark. Safe for several threads.

    Args:
        patterns: what to replace.
        marker: by what.
    """

    def __init__(self, patterns: Sequence[Pattern], marker: Marker) -> None:
        self._marker = marker
        labels = "|".join({pattern.label for pattern in patterns})
        self._marks = re.compile(rf"\[(?:{labels})(?::[0-9a-f]{{{_HASH_CHARACTERS}}})?\]")
        self._choose(patterns)

    def narrowed(self, raw: bytes) -> "Redactor | None":
        """With those patterns only that UTF-8 text, or a message that holds such, can hold; None where none. Cheap."""
        shown = [pattern.possible(raw) for pattern in self._patterns]
        if b"\\" in raw:
            for text in self._unhidden(raw.decode("latin-1"), _WITHIN):
                plain = text.encode(errors="surrogatepass")
                shown = [seen or pattern.possible(plain) for pattern, seen in zip(self._patterns, shown, strict=True)]
        return self._only(tuple(shown)) if any(shown) else None

    def _of(self, shown: tuple[bool, ...]) -> "Redactor":
        if all(shown):
            return self
        other = copy(self)
        other._choose([pattern for pattern, seen in zip(self._patterns, shown, strict=True) if seen])  # noqa: SLF001 - its own kind
        return other

    def _choose(self, patterns: Sequence[Pattern]) -> None:
        self._patterns = tuple(patterns)
        self._in_numbers = tuple(pattern for pattern in patterns if pattern.in_numbers)
        all_built_in = all(pattern.possible is not always for pattern in patterns)
        self._hiding = _HIDING_ESCAPE if all_built_in else _ANY_ESCAPE
        self._clean = lru_cache(_REMEMBERED)(self._has_nothing)
        self._only = lru_cache(_SUBSETS)(self._of)

    def text(self, text: str, counts: Counter[str]) -> str:
        """The text without what the patterns find; adds to `counts` by pattern's name."""
        return self._text(text, counts, _WITHIN)

    def value(self, value: Any, counts: Counter[str]) -> Any:
        """The same for every text and number of a JSON value, keys too. Lists and objects are changed in place."""
        return self._value(value, counts, _WITHIN)

    def number(self, number: float, counts: Counter[str]) -> str | None:
        """What stands in the place of a number that is one to hide, as a whole; else None."""
        if isinstance(number, bool) or number != number // 1 or not 0 <= number < _TOO_LARGE:
            return None
        digits = str(int(number))
        for pattern in self._in_numbers:
            if pattern.is_all_of(digits):
                counts[pattern.name] += 1
                return self._marker(pattern, digits)
        return None

    def _text(self, text: str, counts: Counter[str], within: int) -> str:
        # Keys and names come again and again.
        if len(text) <= _SHORT and self._clean(text):
            return text
        if within and self._may_hide(text):
            text = self._escaped(text, counts, within - 1)
        if within and text.lstrip()[:1] in _OPENING:
            text = self._with_numbers(text, counts)
        raw = text.encode(errors="surrogatepass")
        for pattern in self._patterns:
            if pattern.possible(raw):
                text = self._marked(text, pattern, counts)
        return text

    def _escaped(self, text: str, counts: Counter[str], within: int) -> str:
        """Without what escapes hide: JSON text by text; what is none (it may be cut short) as if they were undone."""
        shown = self._found(text)
        hiding = next((plain for plain in self._unhidden(text, within + 1) if self._found(plain) - shown), None)
        if hiding is None:
            return text
        if text.lstrip()[:1] in (*_OPENING, '"'):
            with suppress(ValueError, RecursionError):
                return json.dumps(self._value(json.loads(text), counts, within), ensure_ascii=False)
        return self._text(hiding, counts, 0)

    def _with_numbers(self, text: str, counts: Counter[str]) -> str:
        """JSON text in which the numbers to hide are texts: a mark in the place of a number is no JSON."""
        raw = text.encode(errors="surrogatepass")
        if not any(pattern.possible(raw) and any(pattern.places(text)) for pattern in self._in_numbers):
            return text
        found: Counter[str] = Counter()
        with suppress(ValueError, RecursionError):
            holder = [json.loads(text)]
            for inside, place, child in _inner(holder):
                if isinstance(child, int | float) and (mark := self.number(child, found)) is not None:
                    inside[place] = mark
            text = json.dumps(holder[0], ensure_ascii=False) if found else text
            counts.update(found)
        return text

    def _has_nothing(self, text: str) -> bool:
        return not self._may_hide(text) and not any(any(pattern.places(text)) for pattern in self._patterns)

    def _may_hide(self, text: str) -> bool:
        return self._hiding.search(text) is not None

    def _unhidden(self, text: str, times: int) -> Iterator[str]:
        """The text with its escapes undone once, twice, …, for as long as there are any that may hide something."""
        for _ in range(times):
            if not self._may_hide(text):
                return
            text = _undone(text)
            yield text

    def _found(self, text: str) -> Counter[str]:
        counts: Counter[str] = Counter()
        if self._possible_in(text):
            self._text(text, counts, 0)
        return counts

    def _possible_in(self, text: str) -> bool:
        raw = text.encode(errors="surrogatepass")
        return any(pattern.possible(raw) for pattern in self._patterns)

    def _marked(self, text: str, pattern: Pattern, counts: Counter[str]) -> str:
        parts: list[str] = []
        last = 0
        for start, end in pattern.places(text):
            if self._marks.fullmatch(text, start, end):  # what was treated once is treated again behind assembly
                continue
            counts[pattern.name] += 1
            parts += (text[last:start], self._marker(pattern, text[start:end]))
            last = end
        return "".join((*parts, text[last:])) if parts else text

    def _value(self, value: Any, counts: Counter[str], within: int) -> Any:
        holder = [value]
        for inside, place, child in _inner(holder):
            if isinstance(child, str):
                inside[place] = self._text(child, counts, within)
            elif isinstance(child, dict):
                self._keys(child, counts, within)
            elif isinstance(child, int | float) and (mark := self.number(child, counts)) is not None:
                inside[place] = mark
        return holder[0]

    def _keys(self, inside: dict[str, Any], counts: Counter[str], within: int) -> None:
        kept = {key: self._text(key, counts, within) for key in inside}
        if any(key != was for was, key in kept.items()):
            # As they stood; and two that have become alike stay two.
            pairs = [(kept[key], inside[key]) for key in inside]
            inside.clear()
            for key, child in pairs:
                inside[unique(key, inside)] = child


def _inner(holder: Any) -> Iterator[tuple[Any, Any, Any]]:
    """All that lists and objects hold, with its place, outer ones first."""
    # Without recursion: the nesting is the sender's choice.
    waiting: list[Any] = [holder]
    while waiting:
        inside = waiting.pop()
        for place in range(len(inside)) if isinstance(inside, list) else list(inside):
            child = inside[place]
            yield inside, place, child
            if isinstance(child, dict | list):
                waiting.append(child)


def _undone(text: str) -> str:
    # In C, where every escape is one of Python's, too; all of JSON's are, but for the next.
    text = text.replace("\\/", "/")
    if not _FOREIGN_ESCAPE.search(text):
        with suppress(UnicodeDecodeError):
            return text.encode("latin-1", errors="backslashreplace").decode("unicode_escape")
    return _ESCAPE.sub(_one_undone, text)


def _one_undone(match: re.Match[str]) -> str:
    if match[1]:
        return chr(int(match[1], 16))
    return _SHORT_ESCAPES.get(match[2], match[2])
