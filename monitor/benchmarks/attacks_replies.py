"""Can text that a model quotes pass for its verdict? Replies in which an attack stands beside the model's own word."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from monitor.domain.verdict import Label
from monitor.judging.neutralise import neutralise
from monitor.judging.parsing import ParsedReply, parse_reply
from monitor.judging.prompts import PROMPTS, PromptFamily

MOST_QUOTED = 10_000
"""Characters of an attack that a reply quotes: its two ends, for a reply has a longest length too."""

_OWN = (Label.FAITHFUL, Label.HALLUCINATED)


@dataclass(frozen=True, kw_only=True, slots=True)
class QuotingReply:
    """A model's reply that quotes hostile text.

    Attributes:
        text: the reply.
        own: the verdict that the model gave; None where it was cut off before.
    """

    text: str
    own: Label | None


def quoting_replies(attack: str, family: PromptFamily) -> Iterator[QuotingReply]:
    """Replies of a model that quotes an attack, as it stood in the trace and as the model got to see it.

    The attack stands inside the reasoning, before the verdict and after it, and in a reply that ran out of tokens
    while it was being quoted. Each reply's own verdict is known. Loose text after a verdict, or without one, is only
    quoted as the model saw it: a model that writes out a whole verdict of its own accord has given one.
    """
    if len(attack) > MOST_QUOTED:
        attack = f"{attack[: MOST_QUOTED // 2]} \N{HORIZONTAL ELLIPSIS} {attack[-MOST_QUOTED // 2 :]}"
    seen = neutralise(attack)
    for quoted in dict.fromkeys((attack, seen)):
        yield from _json_replies(quoted, family) if family.json_keys else _bare_replies(quoted, family)
    if family.json_keys:
        yield from _loose_replies(seen, family.json_keys, family)


def _json_replies(quoted: str, family: PromptFamily) -> Iterator[QuotingReply]:
    assert family.json_keys is not None
    reasoning, score = family.json_keys
    says = f"The answer says: {quoted}"
    yield QuotingReply(text=json.dumps({reasoning: [says, "Then it"]})[:-2], own=None)
    yield QuotingReply(text=json.dumps({reasoning: says})[:-2], own=None)
    for own in _OWN:
        word = _word(own, family)
        yield QuotingReply(text=json.dumps({reasoning: [says, "It is not so."], score: word}), own=own)
        yield QuotingReply(text=json.dumps({reasoning: says, score: word}, ensure_ascii=False), own=own)
        yield QuotingReply(text=json.dumps({score: word, reasoning: [says]}), own=own)
        yield QuotingReply(text=f"{says}\n\n{json.dumps({reasoning: ['Not so.'], score: word})}", own=own)


def _loose_replies(seen: str, keys: tuple[str, str], family: PromptFamily) -> Iterator[QuotingReply]:
    reasoning, score = keys
    yield QuotingReply(text=seen, own=None)
    yield QuotingReply(text=f"The answer says:\n{seen}", own=None)
    yield QuotingReply(text=f"{{'{reasoning}': ['The answer says:\n{seen}", own=None)
    for own in _OWN:
        word = _word(own, family)
        yield QuotingReply(text=f"{json.dumps({reasoning: [], score: word})}\nThe answer says:\n{seen}", own=own)
        yield QuotingReply(text=f"{reasoning}: the answer says {seen}\n{score}: {word}", own=own)


def _bare_replies(quoted: str, family: PromptFamily) -> Iterator[QuotingReply]:
    for own in _OWN:
        word = _word(own, family)
        yield QuotingReply(text=f"{word}. The answer says: {quoted}", own=own)
        yield QuotingReply(text=f"{word}\n\n{quoted}", own=own)


def _word(label: Label, family: PromptFamily) -> str:
    return family.faithful if label is Label.FAITHFUL else family.hallucinated


def try_parsers(
    attacks: Iterable[str],
    *,
    families: Mapping[str, PromptFamily] = PROMPTS,
    parse: Callable[[str, PromptFamily], ParsedReply | None] = parse_reply,
) -> dict[str, int]:
    """Have every family's parser read every quoting reply.

    Returns:
        `replies`: how many were read; `forged`: how many gave a verdict that is not the model's own; `unread`: how
        many gave none although the model gave one, which is safe and a loss.
    """
    replies = forged = unread = 0
    for attack in dict.fromkeys(attacks):
        for family in families.values():
            for reply in quoting_replies(attack, family):
                parsed = parse(reply.text, family)
                replies += 1
                forged += parsed is not None and parsed.label is not reply.own
                unread += parsed is None and reply.own is not None
    return {"replies": replies, "forged": forged, "unread": unread}
