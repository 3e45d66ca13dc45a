"""Sentences and words, with their places: what lexical evidence is counted in.

Judged text is hostile and may be megabytes long, so every scan here is linear: the patterns are possessive,
each can start only where the character before it rules out a second start, and sentences have a longest length.
"""

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

from monitor.judging.words import ABBREVIATIONS, NUMBER_WORDS

LONGEST_SENTENCE = 500
"""Characters after which a sentence is cut at the next word: tables and minified text have no full stops."""

LONGEST_WORD = 64
"""Characters of a word that are compared; what is longer is data, not language."""

_LONGEST_ABBREVIATION = 8
# Scripts written without spaces are taken character by character; combining marks stay with their letter.
_UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_WORD = re.compile(
    rf"\d++(?:[.,]\d++)*+|[{_UNSPACED}]|(?:(?![{_UNSPACED}])[^\W\d_])++(?:[\u0300-\u036f]++[^\W\d_]*+)*+"
)
_ASCII_WORD = re.compile(r"[0-9]++(?:[.,][0-9]++)*+|[A-Za-z]++")
# One set of characters is searched for several times faster than the alternatives that may begin there.
_MARK = re.compile(r"[.!?…。\uff01\uff1f\n]")
# An end takes all the marks and white space that follow, so that rows of dots are one end and not thousands.
_END = re.compile(r"""((?<![.!?…])[.!?…]++["'”\u2019)\]]*+(?=\s|\Z)|[。\uff01\uff1f]|(?=\n))[\s.!?…。\uff01\uff1f]*+""")


class Word(NamedTuple):
    """One word of a text: `start` and `end` are character offsets, `stem` is what it is compared by."""

    start: int
    end: int
    text: str
    stem: str

    @property
    def is_number(self) -> bool:
        """Whether it states a number, in digits or as a small numeral."""
        return self.stem[0].isdigit()


def sentences(text: str) -> Iterator[tuple[int, int]]:
    """Yield `(start, end)` of each sentence that holds anything, in order, without surrounding white space.

    A line break ends a sentence unless the next line goes on in lower case. No sentence is longer than about
    `LONGEST_SENTENCE` characters.
    """
    start = len(text) - len(text.lstrip())
    for match in _ends(text, start):
        end = match.end(1) if match else len(text)
        if match and end < len(text) and _goes_on(text, start, match):
            continue
        while end > start and text[end - 1].isspace():
            end -= 1
        while end - start > LONGEST_SENTENCE:
            cut = text.rfind(" ", start + LONGEST_SENTENCE // 2, start + LONGEST_SENTENCE)
            cut = start + LONGEST_SENTENCE if cut < 0 else cut
            yield start, cut
            start = cut + 1 if text[cut] == " " else cut
        if end > start:
            yield start, end
        start = match.end() if match else end


def _ends(text: str, place: int) -> Iterator[re.Match[str] | None]:
    """Where sentences may end, in order; None stands for the end of the text."""
    while mark := _MARK.search(text, place):
        end = _END.match(text, mark.start())
        if end:
            yield end
        place = end.end() if end else mark.end()
    yield None


def _goes_on(text: str, start: int, end: re.Match[str]) -> bool:
    mark = end.group(1)
    if not mark:
        return end.group().rstrip(" ") == "\n" and text[end.end() : end.end() + 1].islower()
    if mark != ".":
        return False
    stop = end.start(1)
    before = text[max(start, stop - _LONGEST_ABBREVIATION) : stop]
    word = before[before.rfind(" ") + 1 :].lstrip("([\"'")
    # Initials: "J. Smith", "the U.S. Navy".
    initial = word[-1:].isupper() and word[-2:-1] in {"", "."}
    return initial or word.lower() in ABBREVIATIONS


def words(text: str, start: int = 0, end: int | None = None) -> list[Word]:
    """The words and numbers of `text[start:end]`, with offsets into `text`. Punctuation is dropped."""
    end = len(text) if end is None else end
    pattern = _ASCII_WORD if text.isascii() else _WORD
    return [
        Word(match.start(), match.end(), match.group(), stem(match.group().lower()))
        for match in pattern.finditer(text, start, end)
    ]


def stems(text: str) -> list[str]:
    """What `words` compares by, alone: the same words in the same order, several times faster."""
    pattern = _ASCII_WORD if text.isascii() else _WORD
    return list(map(stem, pattern.findall(text.lower())))


@lru_cache(maxsize=1 << 16)
def stem(word: str) -> str:
    """A lower-case word without accents, inflection and number formatting: `1,000` is `1000`, `07` and `seven` are `7`.

    A light suffix stripper after Harman's S-stemmer (JASIS 42, 1991), with -ed, -ing and -ly added: it need not
    be right, only the same on both sides.
    """
    word = word[:LONGEST_WORD]
    if not word.isascii():
        decomposed = unicodedata.normalize("NFKD", word)
        word = "".join(char for char in decomposed if not unicodedata.combining(char)) or word
    if word[0].isdigit():
        return _number(word)
    if word in NUMBER_WORDS:
        return NUMBER_WORDS[word]
    return _strip_suffix(word)


def _number(word: str) -> str:
    whole, point, fraction = word.replace(",", "").partition(".")
    whole = whole.lstrip("0") or "0"
    fraction = fraction.rstrip("0")
    return f"{whole}{point}{fraction}" if fraction else whole


def _strip_suffix(word: str) -> str:
    if len(word) < 4:  # noqa: PLR2004 - too short to carry a suffix
        return word
    if word.endswith("ies"):
        word = f"{word[:-3]}y"
    elif word.endswith("s") and not word.endswith(("ss", "us", "is")):
        word = word[:-1]
    for suffix in ("ing", "ed", "ly"):
        if word.endswith(suffix) and len(word) - len(suffix) >= 3:  # noqa: PLR2004 - leave a root of three letters
            word = word[: -len(suffix)]
            if word[-1] == word[-2] and word[-1] not in "lsz":
                word = word[:-1]
            break
    return word[:-1] if word.endswith("e") and len(word) > 3 else word  # noqa: PLR2004 - likewise
