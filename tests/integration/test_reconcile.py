"""`groundwatch reconcile` heals holes made on purpose, says what is lost, and leaves alone what is on its way."""

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from kafka import KafkaConsumer, TopicPartition
from kafka.structs import OffsetAndMetadata
from pydantic import SecretStr
from sqlalchemy import Engine, text
from typer import Typer
from typer.testing import CliRunner

from monitor.cli.reconcile import register
from monitor.config import KafkaSettings, PolicySettings, PostgresSettings, Settings, to_environment
from monitor.domain.errors import InvalidInput, SpoolUnavailable
from monitor.ingest.forward import DAMAGED
from monitor.ingest.spool import Spool
from monitor.ingest.spool_records import Entry
from monitor.services.chunks import CHUNK_BYTES
from monitor.services.reconcile import Healed, Hole, LedgerBehind, accept_lost, chunks_of, hole_in
from monitor.storage.accounting import Accounting, accounting
from monitor.storage.gaps import gaps, settle
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.replays import Kind, ReplayBook, Selection
from monitor.storage.replays_source import next_chunk
from monitor.streaming.lag import end_offsets
from monitor.streaming.single_offsets import StoredRecord, read_offsets
from monitor.streaming.topics import judge_group
from monitor.wire import MAX_MESSAGE_BYTES
from tests.examples.assessments import NOON, TOPIC, assessment, dead_letter
from tests.support.pipeline import DEADLINE, Pipeline, pipeline
from tests.support.processes import command
from tests.support.topic_reader import read_all, read_records

TRACES = 40
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def settings(kafka_settings: KafkaSettings, postgres_url: str) -> Settings:
    return Settings(
        kafka=kafka_settings,
        postgres=PostgresSettings(url=SecretStr(postgres_url)),
        policy=PolicySettings(audit_share=0, escalate_unsure_share=0),
    )


@pytest.fixture
def line(settings: Settings, engine: Engine, tmp_path: Path) -> Iterator[Pipeline]:
    with pipeline(settings, engine, tmp_path) as line:
        yield line


@pytest.fixture
def run(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> Run:
    app = Typer()
    app.callback()(lambda: None)
    register(app)
    for name, value in settings.kafka.model_dump(mode="json", exclude_defaults=True).items():
        monkeypatch.setenv(f"GROUNDWATCH_KAFKA__{name.upper()}", str(value))
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", settings.postgres.url.get_secret_value())

    def run(*arguments: str, told: list[str] | None = None) -> tuple[int, str, str]:
        done = CliRunner().invoke(app, ["reconcile", *arguments], catch_exceptions=True)
        if told is not None:
            told.append(done.stdout)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done.exit_code, done.stdout, done.stderr

    return run


def pass_over(kafka: KafkaSettings, offsets: dict[int, int]) -> None:
    """What a careless reset of the judges' group does: it goes on behind records that it never read."""
    consumer = KafkaConsumer(bootstrap_servers=kafka.bootstrap_servers, group_id=judge_group(kafka))
    places = {TopicPartition(kafka.traces_topic, number): offset for number, offset in offsets.items()}
    consumer.assign(list(places))
    consumer.commit({place: OffsetAndMetadata(offset, "", -1) for place, offset in places.items()})
    consumer.close()


def ends(kafka: KafkaSettings) -> dict[int, int]:
    return {partition: end for (_, partition), end in end_offsets(kafka, [kafka.traces_topic]).items()}


def counts(found: Accounting) -> tuple[int, ...]:
    return (found.accepted, found.verdicts, found.duplicates, found.in_flight, found.lost)


def test_a_hole_is_named_then_healed(line: Pipeline, engine: Engine, settings: Settings, run: Run) -> None:
    kafka = settings.kafka
    line.send(TRACES)
    before = ends(kafka)
    # The whole of one partition, so that the ledger has never heard of it, and the first five records of another.
    pass_over(kafka, {0: before[0], 1: 5, 2: 0})
    hole = before[0] + 5
    judge, ledger = line.start("judge"), line.start("ledger")
    ledger.wait_until(lambda: line.written() == TRACES - hole, deadline_seconds=DEADLINE)
    code, out, _ = run("--json")
    assert code == 3
    assert [(one["partition"], one["there"], one["lost"]) for one in json.loads(out)["holes"]] == [
        (0, [[0, before[0] - 1]], []),
        (1, [[0, 4]], []),
    ]
    assert run()[2] == "nothing was changed; --apply puts them back\n"
    assert ends(kafka) == before
    code, out, _ = run("--apply")
    assert (code, "partition 1: put back 5\n" in out) == (0, True)
    ledger.wait_until(lambda: line.written() == TRACES + hole, deadline_seconds=DEADLINE)
    ledger.wait_until(lambda: accounting(engine).in_flight == 0, deadline_seconds=DEADLINE)
    assert counts(accounting(engine)) == (TRACES + hole, TRACES, hole, 0, 0)
    with engine.connect() as connection:
        assert connection.execute(text("select count(distinct trace_id) from verdicts")).scalar_one() == TRACES
    assert recount(engine) == []
    after = ends(kafka)
    assert run("--apply")[:2] == (0, "nothing is missing\n")
    assert ends(kafka) == after
    # Records keep their keys: a trace stays in its partition.
    keys = [record.key for record in read_records(kafka, kafka.traces_topic)]
    assert len(keys) == TRACES + hole
    assert len(set(keys)) == TRACES
    assert (judge.stop(), ledger.stop()) == (0, 0)


def test_what_is_on_its_way_is_no_hole(line: Pipeline, settings: Settings, run: Run) -> None:
    line.send(TRACES)
    judge = line.start("judge")
    judge.wait_until(lambda: line.judged() == TRACES, deadline_seconds=DEADLINE)
    assert judge.stop() == 0
    with pytest.raises(LedgerBehind, match=f"{TRACES} records still to read"):
        run("--apply", "--patience", "0")
    assert sum(ends(settings.kafka).values()) == TRACES


def test_a_topic_made_anew_has_lost_what_was_in_flight(engine: Engine, settings: Settings, run: Run) -> None:
    said = [assessment(number, end=9) for number in (2, 3, 6)]
    Ledger(engine).record([replaced(one, settings.kafka.traces_topic) for one in said])
    code, out, err = run()
    assert code == 1
    assert "partition 0: 6 lost, Kafka has them no more, offsets 0 to 1, 4 to 5, 7 to 8" in out
    assert "puts them back" not in err
    assert "nothing can be put back; --apply --accept-lost closes the account" in err
    assert run("--apply")[0] == 1


def test_what_is_lost_can_be_accepted_once(
    engine: Engine, settings: Settings, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("monitor.storage.gaps._BURIED_AT_ONCE", 4)
    said = [assessment(number, end=30) for number in (2, 3, 20)]
    log = settings.kafka.traces_topic
    Ledger(engine).record([replaced(one, log) for one in said])
    with pytest.raises(InvalidInput, match="--accept-lost goes with --apply"):
        run("--accept-lost")
    assert (accounting(engine).in_flight, accounting(engine).dead_letters) == (27, 0)
    code, out, _ = run("--apply", "--accept-lost", "--actor", "ana")
    assert (code, "27 accepted as lost, and counted as dead letters from now on" in out) == (0, True)
    found = accounting(engine)
    assert (found.accepted, found.verdicts, found.dead_letters, found.in_flight, found.lost) == (30, 3, 27, 0, 0)
    assert recount(engine) == []
    with engine.connect() as connection:
        rows = connection.execute(
            text(
                "select record_offset, reason, detail, is_trace from report.dead_letter_history order by record_offset"
            )
        ).all()
    assert [row.record_offset for row in rows] == [0, 4, 8, 12, 16, 21, 25, 29]
    assert {(row.reason, row.is_trace) for row in rows} == {("lost", True)}
    assert rows[0].detail == "2 records of offsets 0 to 1, which Kafka has no more; accepted as lost by ana"
    assert run("--apply", "--accept-lost")[:2] == (0, "nothing is missing\n")
    # There is nothing in them to be judged again.
    selection = Selection(kind=Kind.DEAD_LETTERS, since=None, until=datetime.now(UTC) + timedelta(hours=1))
    replay = ReplayBook(engine).begin(selection, judge_version=None, actor="bo")
    chunk = next_chunk(engine, replay, limit=50, traces_topic=log)
    assert (chunk.letters, chunk.cut) == ([], 8)


def test_offsets_at_which_nothing_lay_are_accepted_too(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(number, end=9) for number in (2, 8)])
    hole = Hole(log=TOPIC, partition=0, there=(range(3, 8),), gone=(range(2),))
    assert settle(engine, TOPIC, 0, [3, 6]) == 2
    assert accept_lost(engine, Healed(hole=hole, sent=2, settled=2, absent=3), actor="ana", at=NOON) == 5
    found = accounting(engine)
    assert (found.dead_letters, found.duplicates, found.in_flight) == (5, 2, 0)
    assert recount(engine) == []


def replaced(said: Any, topic: str) -> Any:
    return replace(said, origin=replace(said.origin, topic=topic, topic_id="an-earlier-life"))


def test_what_expired_is_lost_and_the_rest_is_there(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(number) for number in (3, 4, 8)])
    hole = hole_in(engine, TOPIC, 0, start=0, stop=10, kept_from=6)
    assert (hole.gone, hole.there) == ((range(3), range(5, 6)), (range(6, 8), range(9, 10)))


def test_gaps_are_found_across_blocks(engine: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger.record([assessment(number) for number in (0, 1, 2, 9, 10, 11, 12, 13, 14, 17)], [dead_letter(18)])
    monkeypatch.setattr("monitor.storage.gaps._BLOCK", 3)
    assert gaps(engine, TOPIC, 0, start=0, stop=20) == [range(3, 9), range(15, 17), range(19, 20)]
    assert gaps(engine, TOPIC, 0, start=1, stop=3) == []
    assert gaps(engine, TOPIC, 5, start=0, stop=4) == [range(4)]


def test_settled_offsets_are_counted_once(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(4, end=6)])
    assert accounting(engine).lost == 4
    assert settle(engine, TOPIC, 0, [0, 1, 2, 4]) == 3
    assert settle(engine, TOPIC, 0, [0, 1, 2, 4]) == 0
    assert settle(engine, TOPIC, 7, [5]) == 1
    found = accounting(engine)
    assert counts(found) == (12, 1, 4, 7, 6)
    assert recount(engine) == []


def test_exactly_the_wanted_offsets_are_read(line: Pipeline, settings: Settings) -> None:
    line.send(TRACES)
    kafka = settings.kafka
    end = ends(kafka)[1]
    found = list(read_offsets(kafka, kafka.traces_topic, 1, [range(1, 3), range(5, 6), range(end - 1, end + 50)]))
    assert [one.offset for one in found] == [1, 2, 5, end - 1]
    whole = [record for record in read_records(kafka, kafka.traces_topic) if record.partition == 1]
    assert [one.value for one in found] == [whole[one.offset].value for one in found]


def test_a_signal_ends_it_between_two_chunks_and_it_says_what_it_did(
    line: Pipeline, settings: Settings, run: Run, tmp_path: Path
) -> None:
    line.send(TRACES)
    pass_over(settings.kafka, ends(settings.kafka))
    ledger = line.start("ledger")
    environment = to_environment(settings)
    child = command(tmp_path, environment, "reconcile", "--apply", "--rate", "2")
    child.wait_until(lambda: sum(ends(settings.kafka).values()) > TRACES, deadline_seconds=DEADLINE)
    assert child.stop(grace_seconds=DEADLINE) == 130
    sent = sum(ends(settings.kafka).values()) - TRACES
    assert 0 < sent < TRACES
    log = child.log_tail()
    assert "stopped; run it again, and it goes on" in log
    told = [int(word) for word in re.findall(r"put back (\d+); ", log)]
    assert sum(told) == sent
    assert run("--apply")[0] == 0
    assert sum(ends(settings.kafka).values()) == 2 * TRACES
    assert run()[:2] == (0, "nothing is missing\n")
    assert ledger.stop() == 0


def test_chunks_are_bounded_in_bytes_too() -> None:
    records = [StoredRecord(offset=n, key=None, value=b" " * CHUNK_BYTES if n == 3 else b"x" * 9) for n in range(7)]
    sizes = [[one.offset for one in chunk] for chunk in chunks_of(iter(records), 2)]
    assert sizes == [[0, 1], [2], [3], [4, 5], [6]]


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A sidecar's directory in which two good records and a damaged one were set aside, and one still waits."""
    directory = tmp_path / "spool"
    made = Spool(directory, max_bytes=1 << 24)
    entries = [Entry(key=f"k-{n}".encode(), value=f"value {n}".encode()) for n in range(4)]
    made.append(entries).result(10)
    made.set_aside(1, "MessageSizeTooLarge")
    made.set_aside(2, DAMAGED)
    made.set_aside(3, "MessageSizeTooLarge")
    made.acknowledge(3)
    made.close()
    return directory


def test_what_a_stopped_sidecar_left_is_sent_once(line: Pipeline, settings: Settings, run: Run, spool: Path) -> None:
    ledger = line.start("ledger")
    code, out, _ = run("--spool", str(spool), "--json")
    assert code == 3
    [dry] = json.loads(out)["spools"]
    assert (dry["waiting"], dry["first_keys"], dry["whole"], dry["damaged"]) == (1, ["k-3"], 2, 1)
    assert "1 accepted and never sent until now (k-3); 2 set aside" in run("--spool", str(spool))[1]
    assert sum(ends(settings.kafka).values()) == 0
    code, out, _ = run("--apply", "--spool", str(spool))
    assert (code, "2 set aside, sent to" in out, "1 damaged, which stay" in out) == (4, True, True)
    assert sorted(read_all(settings.kafka, settings.kafka.traces_topic)) == [b"value 0", b"value 2", b"value 3"]
    assert run("--apply", "--spool", str(spool))[0] == 4
    assert sum(ends(settings.kafka).values()) == 3
    again = Spool(spool, max_bytes=1 << 24)
    assert again.read(0, limit=9) == []
    assert again.state().aside == 1
    with pytest.raises(SpoolUnavailable, match="in use"):
        run("--spool", str(spool))
    again.close()
    assert ledger.stop() == 0


def test_what_kafka_refuses_by_itself_stays_and_holds_up_nothing(
    line: Pipeline, settings: Settings, run: Run, tmp_path: Path
) -> None:
    ledger = line.start("ledger")
    directory = tmp_path / "left"
    made = Spool(directory, max_bytes=1 << 26)
    sizes = [9, MAX_MESSAGE_BYTES * 2, 7]
    made.append([Entry(key=f"k-{n}".encode(), value=b"v" * size) for n, size in enumerate(sizes)]).result(10)
    made.close()
    code, out, _ = run("--apply", "--spool", str(directory))
    assert (code, "2 accepted and never sent until now" in out, "1 refused again, which stay" in out) == (4, True, True)
    assert sorted(map(len, read_all(settings.kafka, settings.kafka.traces_topic))) == [7, 9]
    assert ledger.stop() == 0


def test_what_was_found_is_told_when_the_rest_fails(line: Pipeline, settings: Settings, run: Run, spool: Path) -> None:
    line.send(TRACES)
    pass_over(settings.kafka, ends(settings.kafka))
    running = Spool(spool, max_bytes=1 << 24)
    told: list[str] = []
    with pytest.raises(SpoolUnavailable, match="in use"):
        run("--spool", str(spool), "--json", told=told)
    running.close()
    value = json.loads(told[0])
    assert "in use" in value["problem"]
    assert sum(last - first + 1 for hole in value["holes"] for first, last in hole["there"]) == TRACES
