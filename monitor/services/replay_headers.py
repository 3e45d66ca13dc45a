"""What a record of the replays topic carries beside its trace: of which replay it is, and who is to judge it.

The value is a trace as on the traces topic. Headers, because the trace is what it was.
"""

from collections.abc import Mapping

from monitor.streaming.consume import Record

_REPLAY = "groundwatch-replay"
_VERSION = "groundwatch-judge-version"
_MOST_DIGITS = 18

NO_REPLAY = 0
"""Stands for the replay of a record that names none: put there by other hands, it is judged all the same."""


def headers(replay_id: int, judge_version: str) -> Mapping[str, bytes]:
    """Those of a record that `judge_version` is to judge."""
    return {_REPLAY: str(replay_id).encode(), _VERSION: judge_version.encode()}


def wanted_version(record: Record) -> str | None:
    """The judge version that is to judge the record; None where it names none, and whoever reads it may."""
    return record.headers.get(_VERSION, b"").decode(errors="replace") or None


def replay_of(record: Record) -> int:
    """The id of the replay that sent the record."""
    named = record.headers.get(_REPLAY, b"")
    return int(named) if named.isdigit() and len(named) <= _MOST_DIGITS else NO_REPLAY
