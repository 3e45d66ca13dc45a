"""An export, as what it holds: spans that can be read, and those that cannot."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from monitor.spans.span import Span
from monitor.weight import MOST_PARTS

DEEPEST = 32
"""Levels of nested values that are read."""

TRACE_ID_BYTES, SPAN_ID_BYTES = 16, 8
TENANT = "groundwatch.tenant"
"""Resource attribute by which a sender says whose its spans are."""
TOO_MANY = f"OTLP: more than {MOST_PARTS} spans, attributes and values in one export: send smaller ones"


@dataclass(frozen=True, kw_only=True, slots=True)
class Export:
    """One export: spans that can be read, and how many cannot, with the first reason."""

    spans: tuple[Span, ...]
    rejected: int = 0
    reason: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Inspected:
    """How many spans of an export can be read, and how many cannot, with the first reason; tenants that it names."""

    spans: int
    rejected: int = 0
    reason: str | None = None
    tenants: frozenset[str] = frozenset()


def named(values: Iterable[Any]) -> frozenset[str]:
    """The tenants that values of the resource attribute name; one without a value names none."""
    return frozenset(str(value) for value in values if value not in (None, ""))


class Rejected(Exception):
    """One span that cannot be read; the others can."""


def exported(spans: Iterator[Span | Rejected]) -> Export:
    """What was read, and what was not."""
    read: list[Span] = []
    rejected = 0
    reason = None
    for one in spans:
        if isinstance(one, Span):
            read.append(one)
        else:  # counted and let go: there may be very many
            rejected += 1
            reason = reason or str(one)
    return Export(spans=tuple(read), rejected=rejected, reason=reason)


def checked_id(value: bytes, length: int, name: str) -> str:
    """An id in hexadecimal; raises Rejected where it is none."""
    if len(value) != length or not any(value):
        raise Rejected(f"{name}: should be {length} bytes, not all zero")
    return value.hex()
