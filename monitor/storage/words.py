"""Numbers for words that repeat in every row: of segments, of decisions, of judges and why they were asked, of topics.

They are looked up in the transaction that writes the rows, so that a number never means other words than those that
this transaction sees; new words get theirs by the same transaction.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import psycopg

Words = tuple[Any, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class Dictionary:
    """A table of words and their numbers.

    Attributes:
        table, number: its name, and that of the column with the numbers.
        words: its other columns; those of `lists` hold text[], all others text.
    """

    table: str
    number: str
    words: tuple[str, ...]
    lists: tuple[str, ...] = ()

    @property
    def _wanted(self) -> str:
        given = ", ".join("%s::text[]" for _ in self.words)
        return f"unnest({given}) with ordinality as given ({', '.join((*self.words, 'place'))})"

    def _word(self, name: str) -> str:
        return f"given.{name}::text[]" if name in self.lists else f"given.{name}"

    @property
    def look_up(self) -> str:
        """Statement: place in the arrays that are given, and number."""
        same = " and ".join(f"known.{name} = {self._word(name)}" for name in self.words)
        return f"select place, known.{self.number} from {self._wanted} join {self.table} as known on {same}"  # noqa: S608 - constants of this module are put in

    @property
    def add(self) -> str:
        """Statement: give numbers to words that have none."""
        words = ", ".join(self._word(name) for name in self.words)
        return f"insert into {self.table} ({', '.join(self.words)}) select {words} from {self._wanted} order by place on conflict do nothing"  # noqa: E501, S608 - likewise


SEGMENTS: Final = Dictionary(
    table="segments",
    number="segment_id",
    words=("tenant", "service", "environment", "evaluator", "judge_version"),
)
DECISIONS: Final = Dictionary(
    table="decisions", number="decision_id", words=("action", "reason", "decided_by"), lists=("decided_by",)
)
CHOICES: Final = Dictionary(table="choices", number="choice_id", words=("judge", "chosen_because"))
TOPICS: Final = Dictionary(table="topics", number="topic_id", words=("topic",))


def numbers(cursor: psycopg.Cursor[Any], dictionary: Dictionary, wanted: Iterable[Words]) -> dict[Words, int]:
    """The number of each of these words; in one order, whoever asks, so that no two wait for one another in a ring."""
    words = sorted(set(wanted))
    if not words:
        return {}
    found = _found(cursor, dictionary, words)
    if len(found) < len(words):
        cursor.execute(dictionary.add, _columns(dictionary, [one for one in words if one not in found]))
        found = _found(cursor, dictionary, words)
    return found


def _found(cursor: psycopg.Cursor[Any], dictionary: Dictionary, words: list[Words]) -> dict[Words, int]:
    rows = cursor.execute(dictionary.look_up, _columns(dictionary, words))
    return {words[place - 1]: number for place, number in rows}


def _columns(dictionary: Dictionary, words: list[Words]) -> list[list[str]]:
    columns = zip(dictionary.words, zip(*words, strict=True), strict=True)
    return [
        [_literal(value) for value in column] if name in dictionary.lists else list(column) for name, column in columns
    ]


def _literal(items: Iterable[str]) -> str:
    """A text[] as Postgres reads it (its manual, "Array Input and Output Syntax")."""
    quoted = (item.replace("\\", "\\\\").replace('"', '\\"') for item in items)
    return "{" + ",".join(f'"{item}"' for item in quoted) + "}"
