"""Reading PASS or FAIL: tolerant of form, strict about the verdict."""

import json
import re
from dataclasses import dataclass
from typing import Any

from monitor.domain.verdict import Label
from monitor.judging.parsing.claims import ClaimVerdict, as_claims
from monitor.judging.parsing.places import value_place
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
        claims: the answer's claims and what was said of each, where the family asks for them.
    """

    label: Label
    reasoning: str | None
    score_start: int
    claims: tuple[ClaimVerdict, ...] = ()


def parse_reply(reply: str, family: PromptFamily) -> ParsedReply | None:
    """Read a verdict, or None when there is none.

    The last verdict wins: a model that thinks aloud corrects itself at the end. Where a bare word is due the first
    one wins, for nothing may come before it. A verdict inside a quotation is none. A score that is neither of the
    family's two words, or that was cut off, makes the reply unparseable even when an earlier one was whole: the
    model took that one back. So does a PASS beside a claim that the same reply calls unsupported.
    """
    offset = max(0, len(reply) - MAX_REPLY_CHARACTERS)
    tail = reply[offset:]
    found = _score(tail, family.json_keys[1]) if family.json_keys else _bare_word(tail, family)
    if found is None:
        return None
    word, start = found
    labels = {family.faithful.upper(): Label.FAITHFUL, family.hallucinated.upper(): Label.HALLUCINATED}
    label = labels.get(word.upper())
    if label is None:
        return None
    said = reading_at(tail, family.json_keys[0]) if family.json_keys else None
    claims = as_claims(said) if family.by_claim else ()
    if label is Label.FAITHFUL and any(not claim.supported for claim in claims):
        return None
    reasoning = "\n".join(map(str, claims)) or None if family.by_claim else as_text(said)
    return ParsedReply(label=label, reasoning=reasoning, score_start=offset + start, claims=claims)


# The word ends at a closing quote, a brace, a comma, a line's end or the reply's: `PASSABLE` is not `PASS`, and
# `"PASS or FAIL"` is neither.
_VALUE = re.compile(
    r"""\s*[\[]?\s*(?P<quote>["'*]*)(?P<word>[^"'*\n,}\]]{0,40}?)\s*(?:(?P=quote)|(?=["'*\n,}\]]))\s*(?=[\n,}\]]|$)"""
)
_DECODER = json.JSONDecoder(strict=False)
_BLANK = re.compile(r"\s*+")

# A bare verdict is the reply's first word, but for what chat models put before it. Later words are explanation, and
# may quote the judged text.
_BEFORE_A_WORD = (
    r"\s*+(?:<think>\s*+</think>)?+\W*+(?:(?:the\s++)?(?:final\s++)?(?:answer|verdict)(?:\s++is)?\s*+[:=]?)?+\W*+"
)


def _score(reply: str, key: str) -> tuple[str, int] | None:
    place = value_place(reply, key)
    value = _VALUE.match(reply, place) if place is not None else None
    return (value["word"].strip(), value.start("word")) if value else None


def _bare_word(reply: str, family: PromptFamily) -> tuple[str, int] | None:
    words = "|".join(re.escape(word) for word in (family.faithful, family.hallucinated))
    found = re.match(rf"{_BEFORE_A_WORD}\b({words})\b(?!\s*(?:/|or\b)\s*(?:{words})\b)", reply, re.IGNORECASE)
    return (found[1], found.start(1)) if found else None


def reading_at(reply: str, key: str) -> Any:
    """A key's value as JSON; None where it is absent or no JSON."""
    place = value_place(reply, key)
    if place is None:
        return None
    blank = _BLANK.match(reply, place)
    try:
        value, _ = _DECODER.raw_decode(reply, blank.end() if blank else place)
    except (ValueError, RecursionError):  # not only JSONDecodeError: a number may have too many digits for Python
        return None
    return value


def as_text(value: Any) -> str | None:
    """Reasoning as text, a line per point; None where it holds none."""
    lines = value if isinstance(value, list) else [value]
    texts = [str(line).strip() for line in lines if isinstance(line, str | int | float)]
    return "\n".join(text for text in texts if text) or None
