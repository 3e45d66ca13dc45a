"""Reading a level, a share or a preference. What is off its scale is no score: nothing is clamped or guessed."""

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

from monitor.judging.parsing.places import value_place
from monitor.judging.parsing.verdicts import MAX_REPLY_CHARACTERS, as_text, reading_at

Value = TypeVar("Value")

# What ends a score: a quote, a bracket, a comma with the next key behind it (`0,7` is not 0), a line's end or the
# reply's.
_END = r"""["'*`]*+\s*+(?=[\n}\])]|,\s*+(?:["'}]|\w+\s*+:|$)|\.?\s*+$)"""
_BEGINNING = r"""\s*+[\[(]?\s*+["'*`]*+"""
_LEVEL = re.compile(rf"{_BEGINNING}([0-9]{{1,3}})(?:\.0{{1,3}})?(?:\s?(?:/|out of)\s?5)?{_END}")
_SHARE = re.compile(rf"{_BEGINNING}([0-9]{{1,3}}(?:\.[0-9]{{0,20}})?|\.[0-9]{{1,20}})(?:\s?(?:/|out of)\s?1)?{_END}")
_WINNER = re.compile(
    rf"{_BEGINNING}\[?\[?(?:(?:response|answer)\s)?(A|B|TIE)\]?\]?{_END}",
    re.IGNORECASE,
)
# Prometheus's own mark, where a fine-tuned model writes it in spite of the form that it was asked for.
_MARK = "RESULT"
_MARK_ENDS = re.compile(r"\]\**\s*+[:(]?")
_LINE_BEGINS = re.compile(r"\s*(?:\*\*)?\s*(?:Feedback\s*:)?\s*", re.IGNORECASE)


class Preference(StrEnum):
    """The better one of two answers."""

    A = "A"
    B = "B"
    TIE = "tie"


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedScore(Generic[Value]):
    """What a reply says: the score on its own scale, and why, where that can be read."""

    value: Value
    justification: str | None


def parse_level(reply: str, keys: tuple[str, str], *, lowest: int = 1, highest: int = 5) -> ParsedScore[int] | None:
    """Read a whole number from `lowest` to `highest`, in JSON or behind Prometheus's `[RESULT]`; None without one.

    `4`, `"4"`, `4.0` and `4/5` are the level 4; `4.5`, `0` and `6` are none.
    """
    tail = reply[-MAX_REPLY_CHARACTERS:]
    place, justification = value_place(tail, keys[1]), as_text(reading_at(tail, keys[0]))
    if place is None and (place := value_place(tail, _MARK, _MARK_ENDS)) is not None:
        justification = _before(tail[:place])
    found = _LEVEL.match(tail, place) if place is not None else None
    if found is None or not lowest <= int(found[1]) <= highest:
        return None
    return ParsedScore(value=int(found[1]), justification=justification)


def parse_share(reply: str, keys: tuple[str, str]) -> ParsedScore[float] | None:
    """Read a number from 0 to 1; None without one. `7/10` and `70 %` are other scales, and none."""
    tail = reply[-MAX_REPLY_CHARACTERS:]
    place = value_place(tail, keys[1])
    found = _SHARE.match(tail, place) if place is not None else None
    if found is None or not 0.0 <= float(found[1]) <= 1.0:
        return None
    return ParsedScore(value=float(found[1]), justification=as_text(reading_at(tail, keys[0])))


def parse_preference(reply: str, keys: tuple[str, str]) -> ParsedScore[Preference] | None:
    """Read A, B or TIE, also as `Response A` or `[[A]]`; None without one, and for `A or B`."""
    tail = reply[-MAX_REPLY_CHARACTERS:]
    place = value_place(tail, keys[1])
    found = _WINNER.match(tail, place) if place is not None else None
    if found is None:
        return None
    word = found[1].upper()
    value = Preference.TIE if word == "TIE" else Preference(word)
    return ParsedScore(value=value, justification=as_text(reading_at(tail, keys[0])))


def _before(reply: str) -> str | None:
    """The feedback that Prometheus writes before its mark, with which `reply` ends."""
    begins = _LINE_BEGINS.match(reply)
    end = reply.rindex("]") - len(_MARK)
    return reply[begins.end() if begins else 0 : end].rstrip(" \n\t*[") or None
