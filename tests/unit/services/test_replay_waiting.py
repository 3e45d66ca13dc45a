from datetime import UTC, datetime
from typing import Any

import pytest

from monitor.services.replay_waiting import Positions, lags
from monitor.storage.replays import Kind, Replay, ReplayState, Selection

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ONE, TWO = "cascade@000000000001", "cascade@000000000002"


def replay(**changes: Any) -> Replay:
    fields = {
        "replay_id": 1,
        "created_at": NOW,
        "actor": "ada",
        "selection": Selection(kind=Kind.TRACES, until=NOW),
        "judge_version": ONE,
        "state": ReplayState.SENT,
        "cursor": None,
        "sent": 8,
        "refused": 0,
        "updated_at": NOW,
        "finished_at": NOW,
        "places": {"0": [10, 15], "2": [0, 3]},
    }
    return Replay(**fields | changes)


def stands(**committed: dict[int, int]) -> Positions:
    by_version = {version: committed.get(name, {}) for name, version in (("one", ONE), ("two", TWO))}
    return Positions(topic="replays", groups={ONE: "g.one", TWO: "g.two"}, committed=by_version)


@pytest.mark.parametrize(
    ("committed", "waiting"),
    [
        ({}, 8),
        # Not yet at the first of its records: what lies before is another replay's.
        ({0: 4}, 8),
        ({0: 12, 2: 1}, 5),
        ({0: 15, 2: 3}, 0),
        ({0: 900, 2: 3}, 0),
    ],
)
def test_what_waits_is_what_lies_between_a_versions_position_and_the_last_record(
    committed: dict[int, int], waiting: int
) -> None:
    assert stands(one=committed).waiting(replay()) == waiting
    assert stands(two=committed).waiting(replay()) == 8


def test_nothing_waits_where_nothing_was_sent_or_live_judges_are_asked() -> None:
    assert stands().waiting(replay(places=None)) == 0
    assert stands().waiting(replay(judge_version=None)) == 0
    assert stands().waiting(replay(judge_version="cascade@ffffffffffff")) == 8


def test_groups_with_nothing_to_do_are_not_listed() -> None:
    others = replay(replay_id=2, judge_version=TWO, places={"0": [15, 20]})
    earlier = replay(replay_id=3, places={"0": [2, 4]})
    found = list(lags(stands(one={0: 15, 2: 3}), [replay(), others, earlier]))
    assert [(group, lag.partition, lag.records) for group, lag in found] == [("g.two", 0, 5)]
    both = list(lags(stands(one={0: 3}, two={0: 20}), [replay(), others, earlier]))
    assert [(group, lag.partition, lag.committed, lag.end) for group, lag in both] == [
        ("g.one", 0, 3, 15),
        ("g.one", 2, 0, 3),
    ]
