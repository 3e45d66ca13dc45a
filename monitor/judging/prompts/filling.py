"""What all families share: filling a template with hostile texts, each slot once; and the form of replies."""

import string
from collections.abc import Iterator, Mapping
from typing import Any

from monitor.judging.neutralise import neutralise


def filled(template: str, texts: Mapping[str, str]) -> str:
    """A template with its slots filled.

    Args:
        template: a format string with plain slots such as `{answer}`; `{{` and `}}` stand for braces.
        texts: a text for each slot. They are neutralised, and what looks like a slot inside them stays text.
    """
    pieces = []
    for literal, slot in pieces_of(template):
        pieces.append(literal)
        if slot is not None:
            pieces.append(neutralise(texts[slot]))
    return "".join(pieces)


def pieces_of(template: str) -> Iterator[tuple[str, str | None]]:
    """A template's literal texts, each with the slot that follows it; raises ValueError for unbalanced braces."""
    for literal, slot, _, _ in string.Formatter().parse(template):
        yield literal, slot


def closed_object(properties: Mapping[str, Any]) -> dict[str, Any]:
    """JSON Schema of an object with exactly these keys, in this order."""
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }
