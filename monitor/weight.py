"""How much a message unfolds into, told before it is parsed: 16 KB of gzip can hold eight million empty spans."""

import re
from functools import cache

from google.protobuf.descriptor import Descriptor

MOST_PARTS = 500_000
"""Messages within messages, objects and lists; an exporter's batch of 512 spans has some ten thousand."""

HARMLESS_BYTES = 1_048_576
"""What is smaller is not counted: it takes no more than some hundred megabytes, whatever it holds."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_LONGEST_VARINT = 10
# Possessive: it never goes back, however long the text.
_TEXTS = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)


def too_many_in_protobuf(raw: bytes, message: Descriptor) -> bool:
    """Whether it unfolds into more than `MOST_PARTS`; what cannot be read is left for the parser to refuse."""
    return len(raw) > HARMLESS_BYTES and _count(raw, message) > MOST_PARTS


def too_many_in_json(raw: bytes) -> bool:
    """Whether its objects and lists are more than `MOST_PARTS`."""
    if len(raw) <= HARMLESS_BYTES or (brackets := _brackets(raw)) <= MOST_PARTS:
        return False
    return brackets - sum(_brackets(text[0]) for text in _TEXTS.finditer(raw)) > MOST_PARTS


def _brackets(raw: bytes) -> int:
    return raw.count(b"{") + raw.count(b"[")


def _count(raw: bytes, message: Descriptor) -> int:
    """Messages within messages; stops counting above `MOST_PARTS`."""
    found = 0
    waiting = [(message, 0, len(raw))]
    while waiting:
        inside, at, end = waiting.pop()
        below = _below(inside)
        while at < end:
            tag, at = _varint(raw, at, end)
            kind = tag & 7
            if kind == _BYTES:
                length, at = _varint(raw, at, end)
                child = below.get(tag >> 3)
                if child is not None:
                    found += 1
                    if found > MOST_PARTS:
                        return found
                    waiting.append((child, at, min(at + length, end)))
                at += length
            elif kind == _VARINT:
                _, at = _varint(raw, at, end)
            elif kind in {_FIXED64, _FIXED32}:
                at += 8 if kind == _FIXED64 else 4
            else:  # groups, which OTLP does not have
                break
    return found


def _varint(raw: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 7 * _LONGEST_VARINT:
        byte = raw[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says that more follow
            break
        shift += 7
    return value, at


@cache
def _below(message: Descriptor) -> dict[int, Descriptor]:
    """The fields that hold messages, and which."""
    return {field.number: field.message_type for field in message.fields if field.message_type is not None}
