"""Receipts: what became of each record, a character an offset, in ranges.

A range begins with an offset of its own and may leave out others (`-`), which other ranges have: what lies near by in
one batch is one row. No offset is in two ranges: who writes holds the lock on the partition's row of `intake`.
"""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import takewhile
from typing import Any, Final, TypeAlias

import psycopg

CODES: Final = {"verdict": "v", "unjudged": "u", "pending": "p", "dead_letter": "d", "duplicate": "x"}
_ABSENT = "-"
MOST = 2048
"""Offsets in one range, at most: so far back must be looked for the range that an offset is in."""

_GAP = 32
"""A longer run of offsets that are not there begins another range."""

PartitionKey: TypeAlias = tuple[int, int]
"""Number of the topic's life, and partition."""

_KNOWN = """
select kept.topic_id, kept.partition, kept.first_offset, kept.outcomes
from unnest(%s::integer[], %s::integer[], %s::bigint[], %s::bigint[]) as wanted (topic_id, partition, low, high)
join receipt_ranges as kept on kept.topic_id = wanted.topic_id and kept.partition = wanted.partition
    and kept.first_offset > wanted.low - 2048 and kept.first_offset <= wanted.high
    and kept.first_offset + length(kept.outcomes) > wanted.low
"""

COPY_RANGES: Final = "copy receipt_ranges (topic_id, partition, first_offset, outcomes) from stdin"


@dataclass(frozen=True, kw_only=True, slots=True)
class Range:
    """What became of the records from `first` on."""

    first: int
    outcomes: str

    @property
    def offsets(self) -> Iterator[int]:
        """Those that there are receipts for."""
        return (self.first + place for place, code in enumerate(self.outcomes) if code != _ABSENT)

    def has(self, offset: int) -> bool:
        """Whether there is a receipt for this offset in it."""
        place = offset - self.first
        return 0 <= place < len(self.outcomes) and self.outcomes[place] != _ABSENT


@dataclass(frozen=True, kw_only=True, slots=True)
class Receipts:
    """The receipts that there are near some offsets."""

    ranges: Mapping[PartitionKey, list[Range]] = field(default_factory=dict)
    """Of each partition, by first offset."""

    def has(self, key: PartitionKey, offset: int) -> bool:
        """Whether this record was taken in before."""
        known = self.ranges.get(key, [])
        end = bisect_right(known, offset, key=lambda each: each.first)
        return any(
            each.has(offset) for each in takewhile(lambda each: each.first > offset - MOST, reversed(known[:end]))
        )


def read_receipts(cursor: psycopg.Cursor[Any], offsets: Mapping[PartitionKey, Iterable[int]]) -> Receipts:
    """The receipts of these records, in a transaction that holds their partitions."""
    bounds = [(*key, low, high) for key, some in offsets.items() for low, high in _stretches(some)]
    if not bounds:
        return Receipts()
    found: dict[PartitionKey, dict[int, Range]] = defaultdict(dict)
    for topic_id, partition, first, outcomes in cursor.execute(
        _KNOWN, [list(column) for column in zip(*bounds, strict=True)]
    ):
        found[topic_id, partition][first] = Range(first=first, outcomes=outcomes)
    return Receipts(ranges={key: [some[first] for first in sorted(some)] for key, some in found.items()})


def _stretches(offsets: Iterable[int]) -> Iterator[tuple[int, int]]:
    """First and last of offsets that lie near by: what lies far between them need not be read."""
    ordered = sorted(offsets)
    low = before = ordered[0]
    for offset in ordered:
        if offset - before > MOST:
            yield low, before
            low = offset
        before = offset
    yield low, before


def ranges(outcomes: Mapping[int, str]) -> Iterator[Range]:
    """New receipts of one partition, by offset, as ranges; outcomes are keys of `CODES`."""
    first, codes = -1, ""
    for offset in sorted(outcomes):
        gap = offset - first - len(codes)
        if codes and (gap > _GAP or offset - first >= MOST):
            yield Range(first=first, outcomes=codes)
            codes = ""
        if not codes:
            first, gap = offset, 0
        codes += _ABSENT * gap + CODES[outcomes[offset]]
    if codes:
        yield Range(first=first, outcomes=codes)
