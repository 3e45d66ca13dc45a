"""Spoilt exports that cost their receiver, or its sender, much: too large, or larger than they look."""

import gzip
import random
from collections.abc import Callable, Mapping
from functools import cache

from tests.support.exports import EITHER, JSON, READ, Made, as_protobuf, field, one_trace, spans_of


def _bomb(dice: random.Random, max_bytes: int) -> Made:
    """Zeros in gzip, ten to sixty times the limit once unpacked."""
    return as_protobuf(_zeros(max_bytes * dice.choice((10, 60))), frozenset({413}), content_encoding="gzip")


@cache
def _zeros(size: int) -> bytes:
    return gzip.compress(bytes(size))


def _shell_bomb(dice: random.Random, max_bytes: int) -> Made:
    """Within the limit as bytes, and millions of empty spans, resources, attributes or objects once parsed."""
    size = max_bytes - 100
    bodies = (
        lambda: as_protobuf(gzip.compress(b"\x0a\x00" * (size // 2)), EITHER, content_encoding="gzip"),
        lambda: as_protobuf(
            gzip.compress(field(1, field(2, b"\x12\x00" * (size // 2)))), EITHER, content_encoding="gzip"
        ),
        lambda: as_protobuf(
            gzip.compress(field(1, field(2, field(2, b"\x4a\x00" * (size // 2))))), EITHER, content_encoding="gzip"
        ),
        lambda: (
            gzip.compress(b'{"resourceSpans":[' + b"{}," * (size // 3 - 10) + b"{}]}"),
            {"content-type": JSON, "content-encoding": "gzip"},
            EITHER,
        ),
    )
    return dice.choice(bodies)()


def _huge_attribute(dice: random.Random, max_bytes: int) -> Made:
    request = one_trace(dice)
    text = dice.choice(("a", "Sentence. ", "ÿ", "{")) * (max_bytes // dice.choice((2, 4, 40)) // 10)
    dice.choice(spans_of(request)).attributes.add(key="output.value").value.string_value = text
    return as_protobuf(request.SerializeToString(), READ)


def _many_attributes(dice: random.Random, max_bytes: int) -> Made:
    request = one_trace(dice)
    span = dice.choice(spans_of(request))
    for number in range(min(20_000, max_bytes // 100)):
        span.attributes.add(key=f"retrieval.documents.{number}.document.content").value.string_value = "Text."
    return as_protobuf(request.SerializeToString(), READ)


def _too_large(dice: random.Random, max_bytes: int) -> Made:
    return as_protobuf(bytes(max_bytes + dice.randrange(1, 100)), frozenset({413}))


def _chain_of_spans(dice: random.Random, _: int) -> Made:
    """Two thousand spans, each the parent of the next; sometimes in a circle."""
    request = one_trace(dice)
    template = spans_of(request)[0]
    ids = [dice.randbytes(8) for _ in range(2000)]
    circle = dice.random() < 0.5
    for number, span_id in enumerate(ids):
        span = spans_of(request).add()
        span.CopyFrom(template)
        span.span_id = span_id
        span.parent_span_id = ids[number - 1] if number or circle else b""
    return as_protobuf(request.SerializeToString(), READ)


DEAR: Mapping[str, Callable[[random.Random, int], Made]] = {
    "gzip bomb": _bomb,
    "millions of empty parts": _shell_bomb,
    "huge attribute": _huge_attribute,
    "many attributes": _many_attributes,
    "too large": _too_large,
    "chain of spans": _chain_of_spans,
}
"""By kind; each is told the receiver's limit for one request."""
