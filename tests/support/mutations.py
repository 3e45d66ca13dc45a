"""Exports that nobody should send: recorded ones, spoilt in many ways, and the same for the same seed.

Each has the statuses that are right for it. Two where chance decides whether what is left can be read: 200
(perhaps with `partial_success`) and 400.
"""

import gzip
import json
import random
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from opentelemetry.proto.common.v1.common_pb2 import AnyValue

from tests.support.dear_mutations import DEAR
from tests.support.exports import (
    EITHER,
    READ,
    REFUSED,
    TRACE_ID_BYTES,
    Made,
    as_json,
    as_protobuf,
    field,
    one_trace,
    spans_of,
    trace_bytes,
    trace_json,
)


@dataclass(frozen=True, kw_only=True, slots=True)
class Mutant:
    """One request to `/v1/traces`, and the statuses that are right for it."""

    kind: str
    body: bytes
    headers: Mapping[str, str]
    statuses: frozenset[int]


def mutants(seed: int, number: int, *, max_bytes: int) -> Iterator[Mutant]:
    """So many, of all kinds in turn but for the dear ones, which come once in a while.

    Args:
        seed: the same gives the same.
        number: how many.
        max_bytes: the receiver's limit for one request.
    """
    dice = random.Random(seed)
    cheap, dear = list(_KINDS), list(DEAR)
    for at in range(number):
        if at % 100 == 99:
            kind = dear[(at // 100) % len(dear)]
            body, headers, statuses = DEAR[kind](dice, max_bytes)
        else:
            kind = cheap[at % len(cheap)]
            body, headers, statuses = _KINDS[kind](dice)
        yield Mutant(kind=kind, body=body, headers=headers, statuses=statuses)


def _cut(dice: random.Random, raw: bytes) -> bytes:
    return raw[: dice.randrange(1, len(raw))]


def _flipped(dice: random.Random, raw: bytes) -> bytes:
    changed = bytearray(raw)
    for _ in range(dice.choice((1, 1, 2, 8, 64))):
        changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
    return bytes(changed)


def _spliced(dice: random.Random, raw: bytes) -> bytes:
    """A piece taken out, repeated elsewhere, and noise."""
    start = dice.randrange(len(raw))
    piece = raw[start : start + dice.randrange(1, 300)]
    place = dice.randrange(len(raw))
    return raw[:place] + piece * dice.randrange(1, 4) + dice.randbytes(dice.randrange(8)) + raw[place:]


def _nested(dice: random.Random) -> Made:
    """A value within values, up to ten thousand deep: protobuf's own limit is a hundred."""
    deep = AnyValue(string_value="deep").SerializeToString()
    for _ in range(dice.choice((5, 30, 60, 90, 200, 1000, 10_000))):
        inner = field(1, deep)
        deep = field(5, inner) if dice.random() < 0.5 else field(6, field(1, field(1, b"k") + field(2, deep)))
    request = one_trace(dice)
    attribute = field(1, b"output.value") + field(2, deep)
    span = field(1, dice.randbytes(TRACE_ID_BYTES)) + field(2, dice.randbytes(8)) + field(9, attribute)
    return as_protobuf(request.SerializeToString() + field(1, field(2, field(2, span))))


def _nested_json(dice: random.Random) -> Made:
    depth = dice.choice((10, 40, 300, 900, 5_000, 50_000))
    open_ones, close = dice.choice(
        (('{"arrayValue":{"values":[', "]}}"), ('{"kvlistValue":{"values":[{"key":"k","value":', "}]}}"))
    )
    value = open_ones * depth + '{"stringValue":"deep"}' + close * depth
    span = json.dumps({"traceId": dice.randbytes(16).hex(), "spanId": dice.randbytes(8).hex(), "name": "n"})
    span = span[:-1] + ', "attributes": [{"key": "output.value", "value": ' + value + "}]}"
    return as_json(('{"resourceSpans": [{"scopeSpans": [{"spans": [' + span + "]}]}]}").encode())


def _brackets(dice: random.Random) -> Made:
    return as_json(dice.choice((b"[", b'{"a":', b'{"resourceSpans":[')) * dice.randrange(1, 50_000), REFUSED)


def _invalid_utf8(dice: random.Random) -> Made:
    raw = bytearray(trace_bytes(dice))
    for _ in range(dice.randrange(1, 6)):
        raw[dice.randrange(len(raw))] = dice.choice((0x80, 0xC0, 0xED, 0xF8, 0xFF))
    return as_protobuf(bytes(raw))


def _invalid_utf8_name(dice: random.Random) -> Made:
    """Nothing is wrong with it but the text of one attribute."""
    bad = dice.choice((b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xc0\xaf"))
    attribute = field(1, b"input.value") + field(2, field(1, b"text " + bad))
    span = field(1, dice.randbytes(16)) + field(2, dice.randbytes(8)) + field(9, attribute)
    return as_protobuf(field(1, field(2, field(2, span))))


def _invalid_utf8_json(dice: random.Random) -> Made:
    raw = bytearray(json.dumps(trace_json(dice)).encode())
    place = raw.index(b"stringValue")
    # Half a surrogate pair, the last, is read: it becomes U+FFFD on its way to a trace.
    bad = dice.choice((b"\xff", b"\xc3\x28", b"\xed\xa0\x80"))
    raw[place : place + 1] = bad
    return as_json(bytes(raw), READ if bad == b"\xed\xa0\x80" else REFUSED)


_ODD: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**64, 10**400, 1e308, "", "0x", "\x00", "\ud800", "😀" * 50, [], {}, [[]], [None]),
    *({"key": None}, {"stringValue": 7}, {"intValue": "9" * 5000}, {"doubleValue": "NaN"}, {"arrayValue": None}),
    *({"kvlistValue": {"values": [{"key": "k"}]}}, {"bytesValue": "%%%"}, {"boolValue": "yes"}),
)


def _wrong_types(dice: random.Random) -> Made:
    """Values replaced by others of any type, anywhere; what is left is JSON."""
    export = trace_json(dice)
    for _ in range(dice.randrange(1, 12)):
        at: Any = export
        while isinstance(at, list | dict) and at:
            key = dice.choice(list(at)) if isinstance(at, dict) else dice.randrange(len(at))
            if dice.random() < 0.15 or not isinstance(at[key], list | dict) or not at[key]:
                at[key] = deepcopy(dice.choice(_ODD))
                break
            at = at[key]
    return as_json(export)


def _loose_json(dice: random.Random) -> Made:
    """JSON in other clothes: encodings, marks, numbers that JSON does not have, keys twice."""
    text = json.dumps(trace_json(dice))
    made = (
        text.encode("utf-16"),
        text.encode("utf-32-be"),
        b"\xef\xbb\xbf" + text.encode(),
        text.replace('"kind"', '"name": NaN, "kind"', 1).encode(),
        text.replace('"startTimeUnixNano":', '"startTimeUnixNano": 1e999, "startTimeUnixNano":').encode(),
        text.replace('"startTimeUnixNano"', '"startTimeUnixNano": ' + "9" * 6000 + ', "x"', 1).encode(),
        (text + " " * dice.randrange(2000)).encode(),
        (text + text).encode(),
        text.replace(":", "=").encode(),
        dice.choice(
            (b"null", b"0", b'""', b"[]", b"{}", b"", b" ", b'{"resourceSpans": {}}', b'{"resourceSpans": null}')
        ),
    )
    return as_json(dice.choice(made))


def _odd_spans(dice: random.Random) -> Made:
    """Well-formed, and nonsense: ids of the wrong length, of zeros, one's own parent, times at the ends of time."""
    request = one_trace(dice)
    for span in spans_of(request):
        match dice.randrange(8):
            case 0:
                span.trace_id = dice.choice((b"", bytes(16), dice.randbytes(15), dice.randbytes(300)))
            case 1:
                span.span_id = dice.choice((b"", bytes(8), dice.randbytes(9)))
            case 2:
                span.parent_span_id = dice.choice((span.span_id, dice.randbytes(8), dice.randbytes(3), bytes(8)))
            case 3:
                span.start_time_unix_nano, span.end_time_unix_nano = 2**64 - 1, dice.choice((0, 1, 2**63))
            case 4:
                span.dropped_attributes_count = 2**32 - 1
            case 5:
                number = dice.choice((0, 7, 999_999, 10**30))
                span.attributes.add(key=f"retrieval.documents.{number}.document.content").value.string_value = "text"
            case 6:
                span.attributes.add(key=".".join(["llm.input_messages"] + ["0"] * dice.randrange(400)))
            case _:
                span.attributes.add(key="input.value").value.string_value = "\x00\u202e" * dice.randrange(50)
    return as_protobuf(request.SerializeToString(), READ)


def _mislabelled(dice: random.Random) -> Made:
    """A content type that OTLP does not have."""
    kind = dice.choice(
        ("", "text/plain", "application/grpc", "application/x-protobuf2", "multipart/form-data", "application/json,")
    )
    return trace_bytes(dice), {"content-type": kind} if kind else {}, frozenset({415})


def _swapped(dice: random.Random) -> Made:
    """The one encoding under the other's name."""
    if dice.random() < 0.5:
        return as_protobuf(json.dumps(trace_json(dice)).encode())
    return as_json(trace_bytes(dice), REFUSED)


def _other_coding(dice: random.Random) -> Made:
    coding = dice.choice(("br", "deflate", "zstd", "gzip, gzip", "snappy"))
    return as_protobuf(trace_bytes(dice), frozenset({415}), content_encoding=coding)


def _broken_gzip(dice: random.Random) -> Made:
    """Cut short, followed by more, twice over, flipped, or not gzip at all."""
    raw = trace_bytes(dice)
    packed = gzip.compress(raw)
    match dice.randrange(5):
        case 0:
            return as_protobuf(_cut(dice, packed), REFUSED, content_encoding="gzip")
        case 1:
            return as_protobuf(packed + dice.randbytes(20), REFUSED, content_encoding="gzip")
        case 2:
            return as_protobuf(gzip.compress(packed), REFUSED, content_encoding="gzip")
        case 3:
            return as_protobuf(raw, REFUSED, content_encoding="gzip")
        case _:
            # A flip in the header's name of the system or the time harms nobody.
            return as_protobuf(_flipped(dice, packed), EITHER, content_encoding="gzip")


_KINDS: Mapping[str, Callable[[random.Random], Made]] = {
    "whole": lambda dice: as_protobuf(trace_bytes(dice), READ),
    "whole, JSON": lambda dice: as_json(trace_json(dice), READ),
    "whole, gzip": lambda dice: as_protobuf(gzip.compress(trace_bytes(dice)), READ, content_encoding="gzip"),
    "cut short": lambda dice: as_protobuf(_cut(dice, trace_bytes(dice))),
    "cut short, JSON": lambda dice: as_json(_cut(dice, json.dumps(trace_json(dice)).encode()), REFUSED),
    "bits flipped": lambda dice: as_protobuf(_flipped(dice, trace_bytes(dice))),
    "bits flipped, JSON": lambda dice: as_json(_flipped(dice, json.dumps(trace_json(dice)).encode())),
    "spliced": lambda dice: as_protobuf(_spliced(dice, trace_bytes(dice))),
    "noise": lambda dice: as_protobuf(dice.randbytes(dice.randrange(1, 3000))),
    "nested values": _nested,
    "nested values, JSON": _nested_json,
    "brackets without end": _brackets,
    "bytes that are no text": _invalid_utf8,
    "one text that is none": _invalid_utf8_name,
    "no text, JSON": _invalid_utf8_json,
    "values of other types": _wrong_types,
    "JSON in other clothes": _loose_json,
    "spans that cannot be": _odd_spans,
    "content type unknown": _mislabelled,
    "content type of the other": _swapped,
    "coding unknown": _other_coding,
    "gzip broken": _broken_gzip,
}
