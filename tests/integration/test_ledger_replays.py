"""Replays in the ledger: a second word beside the first, which no detector hears and no count mistakes for traffic."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from monitor.domain.verdict import Assessment
from monitor.storage.accounting import accounting
from monitor.storage.closed_minutes import closed_minutes
from monitor.storage.ledger import Ledger, RecordReport
from monitor.storage.recount import recount
from tests.examples.assessments import VERSION, assessment, dead_letter

OTHER = "cascade@000000000002"


def replayed(offset: int, *, replay_id: int = 7, judge_version: str = OTHER, **changes: Any) -> Assessment:
    """What another version says about the trace that lay at `offset`, read from the topic of replays."""
    said = assessment(offset, judge_version=judge_version, **changes)
    return replace(said, origin=replace(said.origin, topic="rag.replays.v1", replay_id=replay_id))


def rows(engine: Engine, query: str) -> list[tuple[Any, ...]]:
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(query))]


VERDICTS = "select trace_id, judge_version, outcome, probability, replay_id from verdicts order by 1, 2"
OLD = f"select * from verdicts where judge_version = '{VERSION}' order by trace_id"


def test_a_replayed_trace_has_a_verdict_of_each_version(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, probability=0.9), assessment(1, probability=0.1)])
    old, before = rows(engine, OLD), accounting(engine)
    assert ledger.record([replayed(0, probability=0.2)]) == RecordReport(verdicts=1)
    assert rows(engine, VERDICTS) == [
        ("t-0-0", VERSION, "verdict", 0.9, None),
        ("t-0-0", OTHER, "verdict", 0.2, 7),
        ("t-0-1", VERSION, "verdict", 0.1, None),
    ]
    assert rows(engine, OLD) == old
    assert accounting(engine) == before
    assert recount(engine) == []


def test_what_is_replayed_twice_is_written_once(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0)])
    again = replayed(0)
    first = replace(again, origin=replace(again.origin, offset=10))
    assert ledger.record([first, again]) == RecordReport(verdicts=1, duplicates=1)
    assert ledger.record([again]) == RecordReport(redelivered=1)
    late = replace(again, origin=replace(again.origin, offset=11, replay_id=8))
    assert ledger.record([late]) == RecordReport(duplicates=1)
    assert [row[:2] for row in rows(engine, VERDICTS)] == [("t-0-0", VERSION), ("t-0-0", OTHER)]
    assert recount(engine) == []


def test_detectors_hear_nothing_of_replays_and_rates_do(engine: Engine) -> None:
    ledger = Ledger(engine, dimensions=["prompt_version"])
    said = [
        assessment(number, probability=0.9, seconds_past_noon=60 * number, prompt_version="v1") for number in (0, 9)
    ]
    ledger.record(said)
    watched = (
        "select sum(first_total), sum(first_hallucinated) from rollups",
        "select * from slice_rollups order by 1, 2, 3, 4, 5, 6, 7, 8",
        "select * from segment_hours order by 1, 2, 3, 4, 5, 6",
    )
    before = [rows(engine, query) for query in watched]
    closed = closed_minutes(engine, lateness=timedelta(minutes=1))
    ledger.record([replace(replayed(n, probability=0.8), trace=one.trace) for n, one in zip((0, 9), said, strict=True)])
    assert [rows(engine, query) for query in watched] == before
    assert closed_minutes(engine, lateness=timedelta(minutes=1)) == closed
    of_other = f"judge_version = '{OTHER}'"
    counts = f"select sum(traces), sum(total), sum(hallucinated), sum(replayed) from rollups where {of_other}"
    assert rows(engine, counts) == [(2, 2, 2, 2)]
    assert recount(engine) == []


def test_coverage_without_replays_meets_the_accounting(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0), assessment(1), assessment(2, probability=None)])
    ledger.record([replayed(0), replayed(2, probability=None)])
    coverage = "select judge_version, traces, verdicts, unjudged, replayed from report.coverage_per_hour order by 1"
    assert rows(engine, coverage) == [(VERSION, 3, 2, 1, 0), (OTHER, 2, 1, 1, 2)]
    counted = accounting(engine)
    alone = rows(engine, "select sum(traces - replayed) from report.coverage_per_hour")
    assert alone == [(counted.verdicts + counted.unjudged + counted.pending,)]


def test_a_backlog_of_replays_holds_no_minute_open(engine: Engine, ledger: Ledger) -> None:
    said = [assessment(number, seconds_past_noon=60 * number) for number in (0, 9)]
    ledger.record(said)
    closed = closed_minutes(engine, lateness=timedelta(minutes=1))
    assert len(closed) == 1
    waiting = replayed(0, end=1000)
    ledger.record([replace(waiting, trace=said[0].trace)])
    assert closed_minutes(engine, lateness=timedelta(minutes=1)) == closed


def test_what_could_not_be_judged_is_revised_by_a_replay_of_the_same_version(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, probability=None), assessment(1, probability=None)])
    before = accounting(engine)
    twice = replayed(0, judge_version=VERSION, probability=0.8)
    again = replace(twice, origin=replace(twice.origin, offset=5))
    still = replayed(1, judge_version=VERSION, probability=None)
    assert ledger.record([twice, again, still]) == RecordReport(duplicates=3, reconsidered=1)
    query = "select trace_id, outcome, label, first_label, revision, replay_id from verdicts order by 1"
    assert rows(engine, query) == [
        ("t-0-0", "verdict", "hallucinated", None, 1, None),
        ("t-0-1", "unjudged", None, None, 0, None),
    ]
    said = "select sequence, reason from judgements where trace_id = 't-0-0' order by 1"
    assert rows(engine, said) == [(0, "unparseable"), (1, "unparseable"), (2, None), (3, "unparseable")]
    assert accounting(engine) == before
    assert recount(engine) == []
    late = replace(twice, origin=replace(twice.origin, offset=6))
    assert ledger.record([late]) == RecordReport(duplicates=1)
    assert recount(engine) == []


def test_a_verdict_is_not_taken_back_by_a_replay(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, probability=0.9)])
    old = rows(engine, OLD)
    ledger.record([replayed(0, judge_version=VERSION, probability=None)])
    ledger.record([replace(replayed(0, judge_version=VERSION, probability=0.1), origin=replayed(4).origin)])
    assert rows(engine, OLD) == old


def test_a_trace_that_is_kept_no_longer_is_not_brought_back(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0)])
    with engine.begin() as connection:
        for table in ("payloads", "verdict_rows", "judgement_rows", "rollups"):
            connection.execute(text(f"delete from {table}"))
    assert ledger.record([replayed(0)]) == RecordReport(duplicates=1)
    assert rows(engine, "select count(*) from traces") == [(0,)]
    assert rows(engine, "select count(*) from verdicts") == [(0,)]


@pytest.mark.parametrize("first", [True, False])
def test_replays_have_an_accounting_of_their_own(engine: Engine, ledger: Ledger, *, first: bool) -> None:
    ledger.record([assessment(0), assessment(1)])
    before = accounting(engine)
    letter = dead_letter(2)
    dead = replace(letter, origin=replayed(2, end=9).origin)
    if first:
        ledger.record([], [dead])
    ledger.record([replayed(0), replayed(1, probability=None)])
    if not first:
        ledger.record([], [dead])
    counts = "select accepted, verdicts, unjudged, dead_letters, in_flight from report.replay_accounting_by_partition"
    assert rows(engine, counts) == [(9, 1, 1, 1, 6)]
    assert accounting(engine) == before
    assert recount(engine) == []
