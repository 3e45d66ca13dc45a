"""What one detector watches, and how the tables name it."""

from dataclasses import dataclass

from sqlalchemy import RowMapping, Table, and_
from sqlalchemy.sql.elements import ColumnElement

from monitor.domain.trace import Segment

KEY_COLUMNS = ("tenant", "service", "environment", "evaluator", "judge_version")


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentKey:
    """What one detector watches: a change of judge version is a new detector, not a change of the rate."""

    segment: Segment
    evaluator: str
    judge_version: str

    def columns(self) -> dict[str, str]:
        """The key's columns, as the tables name them."""
        return {
            "tenant": self.segment.tenant,
            "service": self.segment.service,
            "environment": self.segment.environment,
            "evaluator": self.evaluator,
            "judge_version": self.judge_version,
        }


def key_of(row: RowMapping) -> SegmentKey:
    """The key that a row belongs to."""
    return SegmentKey(
        segment=Segment(tenant=row["tenant"], service=row["service"], environment=row["environment"]),
        evaluator=row["evaluator"],
        judge_version=row["judge_version"],
    )


def is_of(table: Table, key: SegmentKey) -> ColumnElement[bool]:
    """Rows of this key."""
    return and_(*[table.c[name] == value for name, value in key.columns().items()])


def same_key(left: Table, right: Table) -> ColumnElement[bool]:
    """Rows of two tables with the same key."""
    return and_(*[left.c[name] == right.c[name] for name in KEY_COLUMNS])
