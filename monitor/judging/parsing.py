"""Reading a language model's reply: tolerant of form, strict about the verdict.

Small and quantised models wrap JSON in prose or fences, drop quotes, write a list where a string was asked for
and run out of tokens. A reply without one of the offered verdicts, at its proper key, is no verdict at all.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from monitor.domain.verdict import Label
from monitor.judging.prompts import PromptFamily

MAX_REPLY_CHARACTERS = 100_000
"""A longer reply is read from its end, where the verdict is."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ParsedReply:
    """What a reply says.

    Attributes:
        label: the verdict.
        reasoning: the reasoning as text, a line per point, or None when the reply gives none that can be read.
        score_start: character offset in the reply of the verdict's word, for finding its token.
    """

    label: Label
    reasoning: str | None
    score_start: int


def parse_reply(reply: str, family: PromptFamily) -> ParsedReply | None:
    """Read a verdict, or None when there is none.

    The last verdict wins: a model that thinks aloud corrects itself at the end. Where a bare word is due the first
    one wins, for nothing may come before it. A verdict inside a JSON string is a quotation and none. A score that is
    neither of the family's two words, or that was cut off, makes the reply unparseable even when an earlier one was
    whole: the model took that one back.
    """
    offset = max(0, len(reply) - MAX_REPLY_CHARACTERS)
    tail = reply[offset:]
    found = _last_json_score(tail, family) if family.json_keys else _bare_word(tail, family)
    if found is None:
        return None
    word, start = found
    labels = {family.faithful.upper(): Label.FAITHFUL, family.hallucinated.upper(): Label.HALLUCINATED}
    label = labels.get(word.upper())
    if label is None:
        return None
    reasoning = _reasoning(tail, family.json_keys[0]) if family.json_keys else None
    return ParsedReply(label=label, reasoning=reasoning, score_start=offset + start)


# The word ends at a closing quote, a brace, a comma, a line's end or the reply's: `PASSABLE` is not `PASS`, and
# `"PASS or FAIL"` is neither.
_VALUE = re.compile(
    r"""\s*[\[]?\s*(?P<quote>["'*]*)(?P<word>[^"'*\n,}\]]{0,40}?)\s*(?:(?P=quote)|(?=["'*\n,}\]]))\s*(?=[\n,}\]]|$)"""
)
_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)("|\\?\Z)', re.DOTALL)
_MOST_OBJECTS = 16
_DECODER = json.JSONDecoder(strict=False)

# A bare verdict is the reply's first word, but for what chat models put before it. Later words are explanation, and
# may quote the judged text.
_BEFORE_A_WORD = (
    r"\s*+(?:<think>\s*+</think>)?+\W*+(?:(?:the\s++)?(?:final\s++)?(?:answer|verdict)(?:\s++is)?\s*+[:=]?)?+\W*+"
)


def _last_json_score(reply: str, family: PromptFamily) -> tuple[str, int] | None:
    """The last whole object's score; that of loose text only where no object is whole, or a later one was begun.

    What stands inside an object's strings is the model's prose and may quote a forged verdict: it is never read.
    """
    assert family.json_keys is not None
    start, end = _last_object(reply, family.json_keys)
    begun = reply.find("{", end)
    if begun < 0:
        begun = len(reply) if end else 0
    loose, found = _score_in(reply, begun, len(reply), family)
    return found if loose or not end else _score_in(reply, start, end, family)[1]


def _last_object(reply: str, keys: tuple[str, str]) -> tuple[int, int]:
    """Start and end of the last whole JSON object that begins with a reply key; 0 and 0 when there is none."""
    first_key = re.compile(rf"""\{{\s*"(?:{"|".join(map(re.escape, keys))})"\s*:""", re.IGNORECASE)
    start = end = 0
    for match in list(first_key.finditer(reply))[-_MOST_OBJECTS:]:
        if match.start() >= end:
            try:
                _, end_ = _DECODER.raw_decode(reply, match.start())
            except (json.JSONDecodeError, RecursionError):
                continue
            start, end = match.start(), end_
    return start, end


def _score_in(reply: str, start: int, end: int, family: PromptFamily) -> tuple[bool, tuple[str, int] | None]:
    """Whether `reply[start:end]` holds a score key outside of strings, and the last one's word and its offset."""
    assert family.json_keys is not None
    text = reply[start:end]
    if text.startswith("{"):
        kept = {word.upper() for word in (*family.json_keys, family.faithful, family.hallucinated)}
        text = _STRING.sub(lambda string: string[0] if string[1].strip().upper() in kept else _blank(string), text)
    key = re.compile(rf"""\b{re.escape(family.json_keys[1])}\b["'*]*\s*[:=]""", re.IGNORECASE)
    keys = list(key.finditer(text))
    value = _VALUE.match(text, keys[-1].end()) if keys else None
    return bool(keys), (value["word"].strip(), start + value.start("word")) if value else None


def _blank(string: re.Match[str]) -> str:
    return f'"{"_" * len(string[1])}{string[2]}'


def _bare_word(reply: str, family: PromptFamily) -> tuple[str, int] | None:
    words = "|".join(re.escape(word) for word in (family.faithful, family.hallucinated))
    found = re.match(rf"{_BEFORE_A_WORD}\b({words})\b(?!\s*(?:/|or\b)\s*(?:{words})\b)", reply, re.IGNORECASE)
    return (found[1], found.start(1)) if found else None


def _reasoning(reply: str, key: str) -> str | None:
    decoder = json.JSONDecoder(strict=False)
    for match in reversed(list(re.finditer(rf"""["']{re.escape(key)}["']\s*:\s*""", reply, re.IGNORECASE))):
        try:
            value, _ = decoder.raw_decode(reply, match.end())
        except (json.JSONDecodeError, RecursionError):
            continue
        return _as_text(value)
    return None


def _as_text(value: Any) -> str | None:
    lines = value if isinstance(value, list) else [value]
    texts = [str(line).strip() for line in lines if isinstance(line, str | int | float)]
    return "\n".join(text for text in texts if text) or None
