"""Parameters of queries stand where a value may stand, and nowhere else."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from monitor.domain.errors import InvalidInput
from monitor.storage.asking_saved import Parameter, bind, read_saved, timed


@pytest.mark.parametrize(
    ("sql", "bound"),
    [
        ("select :a", "select $1"),
        ("select :a::int + :a", "select $1::int + $1"),
        ("select ':a', \":a\", 'it''s :a'", "select ':a', \":a\", 'it''s :a'"),
        (r"select E'it\'s :a', :a", r"select E'it\'s :a', $1"),
        ("-- :a\nselect :a /* :a\n:a */", "-- :a\nselect $1 /* :a\n:a */"),
        ("select $$ :a $$, $x$ :a $$ $x$, :a", "select $$ :a $$, $x$ :a $$ $x$, $1"),
        ("select x[1:a], y::a, :ab, :other", "select x[1:a], y::a, :ab, :other"),
        ("select '2026-01-01 12:00'::timestamptz", "select '2026-01-01 12:00'::timestamptz"),
    ],
)
def test_only_places_for_values_are_bound(sql: str, bound: str) -> None:
    assert bind(sql, {"a": "1"})[0] == bound


def test_values_come_in_the_order_of_their_numbers() -> None:
    assert bind("select :b, :a, :b", {"a": "1", "b": None}) == ("select $1, $2, $1", [None, "1"])


def test_a_head_says_what_is_answered_and_asked(tmp_path: Path) -> None:
    file = tmp_path / "mine.sql"
    file.write_text(
        "-- What?\n-- More: of it.\n-- :n = 3: so many: at most\n-- :s = : or none\n-- :t: a trace\n\n-- :x: y\n"
    )
    saved = read_saved(file)
    assert (saved.name, saved.title, saved.meaning) == ("mine", "What?", "More: of it.")
    assert saved.parameters == (
        Parameter(name="n", meaning="so many: at most", required=False, default="3"),
        Parameter(name="s", meaning="or none", required=False),
        Parameter(name="t", meaning="a trace", required=True),
    )
    assert saved.values({"t": "1"}) == {"n": "3", "s": None, "t": "1"}


@pytest.mark.parametrize("written", [b"select 1", b"", b"--\nselect 1", b"-- :a: first\nselect 1", b"-- \xff"])
def test_a_file_without_a_head_is_refused_by_name(tmp_path: Path, written: bytes) -> None:
    file = tmp_path / "bare.sql"
    file.write_bytes(written)
    with pytest.raises(InvalidInput, match=r"bare\.sql"):
        read_saved(file)


NOW = datetime(2026, 3, 2, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "sent"),
    [
        ("24h ago", "2026-03-01T12:00:00+00:00"),
        ("1d12h ago", "2026-03-01T00:00:00+00:00"),
        ("0s ago", "2026-03-02T12:00:00+00:00"),
        ("24h", "24h"),
        ("long ago", "long ago"),
        ("it was 24h ago", "it was 24h ago"),
        ("2026-03-01", "2026-03-01"),
        (None, None),
    ],
)
def test_so_long_ago_is_sent_as_that_time(value: str | None, sent: str | None) -> None:
    assert timed({"since": value}, now=NOW) == {"since": sent}


def test_what_is_before_all_calendars_is_refused_by_name() -> None:
    with pytest.raises(InvalidInput, match="since: '999999d ago'"):
        timed({"since": "999999d ago"}, now=NOW)
