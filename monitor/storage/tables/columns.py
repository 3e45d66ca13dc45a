"""What the tables have in common: metadata, names of constraints, kinds of columns."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import BigInteger, CheckConstraint, Column, DateTime, Integer, MetaData, Text, func, text
from sqlalchemy.dialects.postgresql.base import ischema_names
from sqlalchemy.sql.elements import ColumnElement
from sqlalchemy.types import UserDefinedType

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
    }
)

# Rows that are updated again and again leave room on their page, so that an update touches no index.
UPDATED_IN_PLACE = {"fillfactor": 70}

SEGMENT_WORDS = ("tenant", "service", "environment", "evaluator", "judge_version")


class XID8(UserDefinedType[str]):
    """Postgres's 64-bit transaction id, as text."""

    cache_ok = True

    def get_col_spec(self, **_: Any) -> str:
        """Its name."""
        return "xid8"


# So that tables with such a column can be read from a database's catalogue.
ischema_names["xid8"] = XID8


def one_of(column: str, values: Sequence[str], name: str) -> CheckConstraint:
    """The column holds one of these words."""
    listed = ", ".join(f"'{value}'" for value in values)
    return CheckConstraint(f"{column} in ({listed})", name=name)


def share(column: str) -> CheckConstraint:
    """The column lies between 0 and 1."""
    return CheckConstraint(f"{column} between 0 and 1", name=column)


def key(*names: str) -> list[Column[Any]]:
    """Columns of text that make up the primary key."""
    return [Column(name, Text, primary_key=True) for name in names]


def moment(name: str, *, nullable: bool = False) -> Column[Any]:
    """A time with its zone."""
    return Column(name, DateTime(timezone=True), nullable=nullable)


def segment() -> list[Column[Any]]:
    """The columns of a segment."""
    return [Column(name, Text, nullable=False) for name in ("tenant", "service", "environment")]


def counter(name: str) -> Column[Any]:
    """A count that begins at 0."""
    return Column(name, BigInteger, nullable=False, server_default=text("0"))


def position(*, primary_key: bool) -> list[Column[Any]]:
    """A place in a topic."""
    return [
        Column("topic", Text, primary_key=primary_key, nullable=False),
        Column("partition", Integer, primary_key=primary_key, nullable=False, autoincrement=False),
        Column("offset", BigInteger, primary_key=primary_key, nullable=False, autoincrement=False),
    ]


def in_seconds(seconds: float) -> ColumnElement[Any]:
    """That many seconds from now, by the database's clock: the workers' clocks need not agree."""
    return func.now() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)
