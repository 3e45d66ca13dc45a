"""Sending replays: what is chosen, what is left out, what lies on the topic, and that the cursor waits for Kafka."""

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from kafka import KafkaAdminClient
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from monitor.cli.replay import app
from monitor.config import KafkaSettings
from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import InvalidInput, InvalidSettings, LedgerUnavailable, StreamUnavailable
from monitor.domain.verdict import Assessment
from monitor.embedded.postgres import EmbeddedPostgres
from monitor.services.replay import ReplaySender
from monitor.services.replay_report import report
from monitor.storage.ledger import Ledger
from monitor.storage.replays import Chunked, Kind, Replay, ReplayBook, ReplayState, Selection
from monitor.storage.replays_report import OwnCounts
from monitor.storage.replays_source import extent, next_chunk
from monitor.streaming.connection import connected
from monitor.streaming.producer import Delivered, Producer
from monitor.wire import decode_trace, encode_trace
from tests.examples.assessments import NOON, VERSION, assessment, dead_letter, trace
from tests.support.topic_reader import read_records

OTHER = "cascade@000000000002"
LATER = NOON + timedelta(days=400)
DAY = 86_400
Send = Callable[[Replay], Replay]


@pytest.fixture
def book(engine: Engine) -> ReplayBook:
    return ReplayBook(engine)


@pytest.fixture
def producer(kafka_settings: KafkaSettings) -> Iterator[Producer]:
    made = Producer(kafka_settings)
    yield made
    made.close()


def selection(kind: Kind = Kind.TRACES, **changes: Any) -> Selection:
    return Selection(kind=kind, **{"until": LATER, **changes})


def sender(engine: Engine, kafka: KafkaSettings, producer: Any, **changes: Any) -> ReplaySender:
    options = {"rate": 10_000, "stop": threading.Event(), "say": [].append, **changes}
    return ReplaySender(engine, producer=producer, topics=kafka, **options)


def send_all(engine: Engine, kafka: KafkaSettings, producer: Any, replay: Replay, **changes: Any) -> Replay:
    return list(sender(engine, kafka, producer, **changes).send(replay))[-1]


@pytest.fixture
def send(engine: Engine, kafka_settings: KafkaSettings, producer: Producer) -> Send:
    """Sends a replay to its end."""
    return partial(send_all, engine, kafka_settings, producer)


@pytest.fixture
def surroundings(engine: Engine, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """What a command finds its servers by."""
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", engine.url.render_as_string(hide_password=False))
    monkeypatch.setenv("GROUNDWATCH_KAFKA__BOOTSTRAP_SERVERS", kafka_settings.bootstrap_servers)
    monkeypatch.setenv("GROUNDWATCH_KAFKA__REPLAYS_TOPIC", kafka_settings.replays_topic)
    return monkeypatch


def sent(kafka: KafkaSettings) -> list[str]:
    return sorted(decode_trace(record.value, now=LATER).trace_id for record in read_records(kafka, kafka.replays_topic))


@pytest.fixture
def filled(ledger: Ledger) -> list[Assessment]:
    """Nine traces over nine days, two services, each third not judged."""
    said = [
        assessment(
            number,
            probability=None if number % 3 == 2 else 0.9,
            seconds_past_noon=number * DAY,
            service=("desk", "library")[number % 2],
        )
        for number in range(9)
    ]
    ledger.record(said)
    return said


def test_a_trace_travels_as_it_was_stored(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings, producer: Producer
) -> None:
    ours = trace("t-x", prompt_version="v7", otel_trace_id="a" * 32, sampling_probability=0.25)
    said = assessment(0)
    ledger.record([replace(said, trace=ours)])
    replay = send_all(engine, kafka_settings, producer, book.begin(selection(), judge_version=OTHER, actor="ada"))
    assert (replay.state, replay.sent, replay.refused, replay.actor) == (ReplayState.SENT, 1, 0, "ada")
    assert replay.finished_at is not None
    [record] = read_records(kafka_settings, kafka_settings.replays_topic)
    assert decode_trace(record.value, now=LATER) == ours
    assert record.key == b"city|t-x"
    assert dict(record.headers) == {
        "groundwatch-replay": str(replay.replay_id).encode(),
        "groundwatch-judge-version": OTHER.encode(),
    }


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        ({}, range(9)),
        ({"since": NOON + timedelta(days=2), "until": NOON + timedelta(days=5)}, [2, 3, 4]),
        ({"service": "library"}, [1, 3, 5, 7]),
        ({"service": "library", "environment": "test"}, []),
        ({"tenant": "elsewhere"}, []),
        ({"kind": Kind.UNJUDGED}, [2, 5, 8]),
        ({"kind": Kind.UNJUDGED, "reason": "unparseable", "service": "desk"}, [2, 8]),
        ({"kind": Kind.UNJUDGED, "reason": "timeout"}, []),
    ],
)
@pytest.mark.usefixtures("filled")
def test_what_is_chosen_is_sent(
    send: Send, book: ReplayBook, kafka_settings: KafkaSettings, chosen: dict[str, Any], expected: Any
) -> None:
    replay = book.begin(selection(**chosen), judge_version=OTHER, actor="ada")
    assert send(replay).sent == len(expected)
    assert sent(kafka_settings) == [f"t-0-{number}" for number in expected]


@pytest.mark.usefixtures("filled")
def test_the_rollups_tell_about_how_much_there_is(engine: Engine) -> None:
    assert extent(engine, selection()) == 9
    assert extent(engine, selection(service="library")) == 4
    assert extent(engine, selection(Kind.UNJUDGED)) is None


def test_what_the_version_has_judged_is_left_out(
    ledger: Ledger, filled: list[Assessment], book: ReplayBook, send: Send
) -> None:
    done = [
        replace(one, judge_version=OTHER, origin=replace(one.origin, topic="rag.replays.v1", replay_id=1))
        for one in filled[:4]
    ]
    ledger.record(done)
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    assert send(replay).sent == 5
    # Where those that could not be judged are sent, the version's own are sent again, and those that it judged are not.
    unjudged = book.begin(selection(Kind.UNJUDGED), judge_version=VERSION, actor="ada")
    assert send(unjudged).sent == 3


def test_many_traces_of_one_instant_are_sent_once_each(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings, producer: Producer
) -> None:
    ledger.record([assessment(number) for number in range(250)])
    replay = send_all(engine, kafka_settings, producer, book.begin(selection(), judge_version=OTHER, actor="ada"))
    assert replay.sent == 250
    assert sent(kafka_settings) == sorted(f"t-0-{number}" for number in range(250))


class Refusing:
    """Takes so many records, then is away: for good, or for so many more."""

    def __init__(self, takes: int, *, away_for: int = 1_000_000) -> None:
        self.taken: list[bytes] = []
        self._takes = takes
        self._away_for = away_for

    def send(
        self, topic: str, key: bytes | None, value: bytes, *, headers: Mapping[str, bytes] | None = None
    ) -> "Future[Delivered]":
        del key, headers
        receipt: Future[Delivered] = Future()
        if len(self.taken) < self._takes or self._away_for <= 0:
            self.taken.append(value)
            receipt.set_result(Delivered(topic=topic, partition=0, offset=len(self.taken) - 1))
        else:
            self._away_for -= 1
            receipt.set_exception(StreamUnavailable("away"))
        return receipt


def test_the_cursor_waits_for_every_acknowledgement(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings, producer: Producer
) -> None:
    ledger.record([assessment(number) for number in range(300)])
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    failing, stop = Refusing(250), threading.Event()
    stands = send_all(engine, kafka_settings, failing, replay, stop=stop, say=lambda _: stop.set())
    assert (stands.sent, stands.state, stands.places) == (200, ReplayState.STOPPED, {"0": [0, 200]})
    assert stands == book.find(replay.replay_id)
    again = book.turn(replay.replay_id, ReplayState.SENDING)
    assert send_all(engine, kafka_settings, producer, again).sent == 300
    assert len(sent(kafka_settings)) == 100
    first = {decode_trace(value, now=LATER).trace_id for value in failing.taken}
    assert first | set(sent(kafka_settings)) == {f"t-0-{number}" for number in range(300)}


def test_a_restart_of_postgres_is_waited_out(
    engine: Engine,
    ledger: Ledger,
    book: ReplayBook,
    kafka_settings: KafkaSettings,
    postgres_server: EmbeddedPostgres,
) -> None:
    ledger.record([assessment(number) for number in range(300)])
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    said: list[str] = []

    class Last(Refusing):
        """Postgres goes away while the first chunk is on its way, and comes back once someone has said so."""

        def send(self, *message: Any, **more: Any) -> "Future[Delivered]":
            if not self.taken:
                postgres_server.stop()
            return super().send(*message, **more)

    def say(words: str) -> None:
        if not said:
            postgres_server.start()
        said.append(words)

    try:
        done = send_all(engine, kafka_settings, taking := Last(1000), replay, say=say)
    finally:
        if not said:
            postgres_server.start()
    assert (done.state, done.sent) == (ReplayState.SENT, 300)
    assert "trying again in 0.5 s" in said[0]
    # The first chunk was not written, and so it was sent once more.
    assert len(taking.taken) == 200 + 300
    assert {decode_trace(value, now=LATER).trace_id for value in taking.taken} == {f"t-0-{n}" for n in range(300)}


def test_an_outage_of_kafka_or_a_lost_answer_of_postgres_is_waited_out(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger.record([assessment(number) for number in range(300)])
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    said: list[str] = []
    advance, failures = ReplayBook.advance, iter([True, True])

    def late(self: ReplayBook, *arguments: Any) -> Replay | None:
        # The first time it is written, and the answer is lost.
        advanced = advance(self, *arguments)
        if next(failures, False):
            raise LedgerUnavailable("gone")
        return advanced

    monkeypatch.setattr(ReplayBook, "advance", late)
    taking = Refusing(250, away_for=120)
    done = send_all(engine, kafka_settings, taking, replay, say=said.append)
    assert (done.state, done.sent) == (ReplayState.SENT, 300)
    assert [words.split(";")[0] for words in said] == ["gone", "away", "away", "gone"]
    # Of the second chunk 50, 30 and 100: the first chunk, whose answer was lost, was not sent again.
    assert len(taking.taken) == 200 + 50 + 30 + 100
    assert {decode_trace(value, now=LATER).trace_id for value in taking.taken} == {f"t-0-{n}" for n in range(300)}


def test_a_stop_from_elsewhere_ends_the_sender_between_two_chunks(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings
) -> None:
    ledger.record([assessment(number) for number in range(300)])
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    taking = Refusing(1000)
    made = sender(engine, kafka_settings, taking)
    steps = made.send(replay)
    assert next(steps).sent == 200
    assert book.turn(replay.replay_id, ReplayState.STOPPED).state is ReplayState.STOPPED
    [last] = list(steps)
    assert (last.state, last.sent, len(taking.taken)) == (ReplayState.STOPPED, 200, 200)
    assert list(made.send(last)) == []


def test_what_was_sent_when_the_stop_came_is_counted_and_not_sent_again(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings
) -> None:
    ledger.record([assessment(number) for number in range(300)])
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")

    class Stopped(Refusing):
        """Someone stops the replay while its first chunk is on its way."""

        def send(self, *message: Any, **more: Any) -> "Future[Delivered]":
            if not self.taken:
                book.turn(replay.replay_id, ReplayState.STOPPED)
            return super().send(*message, **more)

    first = send_all(engine, kafka_settings, taking := Stopped(1000), replay)
    assert (first.state, first.sent, len(taking.taken)) == (ReplayState.STOPPED, 200, 200)
    again = book.turn(replay.replay_id, ReplayState.SENDING)
    done = send_all(engine, kafka_settings, rest := Refusing(1000), again)
    assert (done.state, done.sent, len(rest.taken)) == (ReplayState.SENT, 300, 100)


def test_of_two_senders_of_one_replay_one_goes_on(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings
) -> None:
    ledger.record([assessment(number) for number in range(300)])
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    one, two = (sender(engine, kafka_settings, Refusing(1000)) for _ in range(2))
    first, second = one.send(replay), two.send(replay)
    assert next(first).sent == 200
    assert [stands.sent for stands in second] == [200]
    assert [stands.sent for stands in first][-1] == 300


def test_a_replay_may_begin_anew(engine: Engine, filled: list[Assessment], book: ReplayBook) -> None:
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    done = send_all(engine, KafkaSettings(), Refusing(1000), replay)
    assert book.turn(replay.replay_id, ReplayState.SENDING).state is ReplayState.SENT
    anew = book.turn(replay.replay_id, ReplayState.SENDING, anew=True)
    assert (anew.state, anew.cursor, anew.sent) == (ReplayState.SENDING, None, done.sent)
    once_more = send_all(engine, KafkaSettings(), Refusing(1000), anew)
    assert (once_more.state, once_more.sent) == (ReplayState.SENT, 2 * done.sent)
    assert [one.replay_id for one in book.newest()] == [replay.replay_id]
    with pytest.raises(InvalidInput, match="there is no replay 99"):
        book.find(99)
    assert len(filled) == 9


def test_one_that_an_earlier_release_began_anew_is_sent_too(
    engine: Engine, filled: list[Assessment], book: ReplayBook
) -> None:
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    with engine.begin() as connection:
        connection.execute(text("update replays set cursor = 'null'::jsonb"))
    done = send_all(engine, KafkaSettings(), Refusing(1000), book.find(replay.replay_id))
    assert (done.state, done.sent) == (ReplayState.SENT, len(filled))


def test_what_can_be_read_of_dead_letters_goes_back_to_the_traces_topic_once(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings, producer: Producer
) -> None:
    def dead(offset: int, raw: bytes, **changes: Any) -> DeadLetter:
        letter = dead_letter(offset)
        origin = replace(letter.origin, topic=kafka_settings.traces_topic, topic_id="life")
        return replace(letter, origin=origin, raw=raw, **{"raw_bytes": len(raw), **changes})

    def start(**chosen: Any) -> tuple[ReplayState, int, int]:
        replay = book.begin(selection(Kind.DEAD_LETTERS, **chosen), judge_version=None, actor="ada")
        done = send_all(engine, kafka_settings, producer, replay)
        return done.state, done.sent, done.refused

    whole = encode_trace(trace("t-mended"))
    stray = replace(dead(4, b"stray"), origin=replace(dead_letter(4).origin, topic="rag.judgements.v1"))
    ledger.record(
        [],
        [
            dead(0, whole, reason=DeadLetterReason.INVALID),
            dead(1, b"{}"),
            dead(2, b"x", raw_bytes=70_000, reason=DeadLetterReason.TOO_LARGE),
            dead(3, whole, dead_at=LATER + timedelta(days=1)),
        ],
    )
    ledger.record_strays([stray])
    assert start(reason="too_large") == (ReplayState.SENT, 0, 1)
    assert start() == (ReplayState.SENT, 1, 2)
    # Neither again what was sent, nor at all what would only die once more.
    assert start() == (ReplayState.SENT, 0, 2)
    assert start(reason="invalid") == (ReplayState.SENT, 0, 0)
    found = [(record.value, record.key) for record in read_records(kafka_settings, kafka_settings.traces_topic)]
    assert found == [(whole, b"city|t-mended")]
    assert start(until=LATER + timedelta(days=2)) == (ReplayState.SENT, 1, 2)


def test_what_kafka_refuses_is_named_and_holds_up_nothing(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings, producer: Producer
) -> None:
    ledger.record([assessment(number) for number in range(4)])
    with engine.begin() as connection:
        # More than any topic of ours takes; no contract lets it in, so it is put there by hand.
        connection.execute(text("update payloads set answer = repeat('x', 5000000) where trace_id = 't-0-2'"))
    said: list[str] = []
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    done = send_all(engine, kafka_settings, producer, replay, say=said.append)
    assert (done.state, done.sent, done.refused) == (ReplayState.SENT, 3, 1)
    assert sent(kafka_settings) == ["t-0-0", "t-0-1", "t-0-3"]
    assert len(said) == 1
    assert said[0].startswith("trace city/t-0-2 cannot be sent, and is left out: ")


@pytest.mark.apache_kafka
def test_what_a_topic_of_little_room_refuses_takes_nothing_with_it(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings, producer: Producer
) -> None:
    small = kafka_settings.model_copy(update={"replays_topic": f"small.{kafka_settings.replays_topic}"})
    room = {"num_partitions": 1, "replication_factor": 1, "configs": {"max.message.bytes": "40000"}}
    with connected(KafkaAdminClient, small, "topics", deadline_seconds=30) as admin:
        admin.create_topics({small.replays_topic: room})
    ledger.record([assessment(number) for number in range(30)])
    with engine.begin() as connection:
        connection.execute(text("update payloads set answer = repeat('x', 60000) where trace_id = 't-0-2'"))
    said: list[str] = []
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    done = send_all(engine, small, producer, replay, say=said.append)
    assert (done.state, done.sent, done.refused) == (ReplayState.SENT, 29, 1)
    assert sent(small) == sorted(f"t-0-{number}" for number in range(30) if number != 2)
    assert [words.partition(" cannot")[0] for words in said] == ["trace city/t-0-2"]


def test_a_chunk_is_bounded_in_bytes_too(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings
) -> None:
    ledger.record([assessment(number) for number in range(12)])
    with engine.begin() as connection:
        connection.execute(text("update payloads set question = repeat('x', 6 * 1024 * 1024)"))
        connection.execute(text("update payloads set answer = repeat('x', 20000000) where trace_id = 't-0-5'"))
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    held = []
    chunk = next_chunk(engine, replay, limit=200, traces_topic="")
    while not chunk.done:
        held.append(len(chunk.traces))
        replay = replace(replay, cursor=chunk.cursor)
        chunk = next_chunk(engine, replay, limit=200, traces_topic="")
    # By trace id: 0, 1 | 10, 11 | 2, 3 | 4 | 5, too large for any other beside it | 6, 7 | 8, 9.
    assert held == [2, 2, 2, 1, 1, 2, 2]
    assert not chunk.traces
    assert send_all(engine, kafka_settings, Refusing(1000), book.find(replay.replay_id)).sent == 12


def test_the_report_compares_over_the_selection(
    engine: Engine, ledger: Ledger, filled: list[Assessment], book: ReplayBook
) -> None:
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    new = {0: 0.9, 1: 0.2, 2: 0.7, 3: 0.1, 4: None}
    ledger.record(
        [
            replace(
                assessment(number, probability=probability, judge_version=OTHER),
                trace=filled[number].trace,
                origin=replace(filled[number].origin, topic="rag.replays.v1", replay_id=replay.replay_id),
            )
            for number, probability in new.items()
        ]
    )
    made = report(engine, replay)
    counts = made.whole.counts
    assert (counts.selected, counts.missing, counts.unjudged, counts.newly_judged) == (9, 4, 1, 1)
    assert (counts.both_hallucinated, counts.now_faithful, counts.now_hallucinated) == (1, 2, 0)
    assert made.whole.agreement is not None
    assert made.whole.agreement.value == pytest.approx(1 / 3)
    assert made.whole.kappa == pytest.approx(0.0)
    assert [(str(one.segment), one.comparison.n) for one in made.segments] == [
        ("city/desk/production", 1),
        ("city/library/production", 2),
    ]
    assert [(one.trace_id, one.new_probability) for one in made.clearest] == [("t-0-3", 0.1), ("t-0-1", 0.2)]
    assert made.clearest[0].answer == filled[3].trace.answer
    some = book.begin(selection(since=NOON + timedelta(hours=1)), judge_version=OTHER, actor="ada")
    assert report(engine, some).whole.counts.selected == 8
    assert report(engine, replay, against="cascade@nobody").whole.agreement is None
    with engine.connect() as connection:
        assert connection.execute(text("select count(*) from verdicts where replay_id is not null")).scalar_one() == 5


@pytest.mark.usefixtures("surroundings")
def test_the_report_counts_what_a_version_could_not_judge_itself(
    engine: Engine, ledger: Ledger, filled: list[Assessment], book: ReplayBook
) -> None:
    replay = book.begin(selection(Kind.UNJUDGED), judge_version=VERSION, actor="ada")
    other = book.begin(selection(Kind.UNJUDGED, service="library"), judge_version=VERSION, actor="ada")
    reason = book.begin(selection(Kind.UNJUDGED, reason="timeout"), judge_version=VERSION, actor="ada")
    parsed = book.begin(selection(Kind.UNJUDGED, reason="unparseable"), judge_version=VERSION, actor="ada")
    assert report(engine, replay).own == OwnCounts(judged=0, unjudged=3)
    # Numbers 2 and 8 were answers of the desk, 5 of the library.
    said = [assessment(number, probability=probability) for number, probability in ((2, 0.9), (5, 0.1), (8, None))]
    ledger.record(
        [
            replace(
                one,
                trace=filled[one.origin.offset].trace,
                origin=replace(one.origin, topic="rag.replays.v1", replay_id=replay.replay_id),
            )
            for one in said
        ]
    )
    assert report(engine, replay).own == OwnCounts(judged=2, unjudged=1)
    assert report(engine, other).own == OwnCounts(judged=1, unjudged=0)
    assert report(engine, reason).own == OwnCounts()
    assert report(engine, parsed).own == OwnCounts(judged=2, unjudged=1)
    assert report(engine, book.begin(selection(), judge_version=OTHER, actor="ada")).own is None
    run = partial(CliRunner().invoke, app)
    words = f"3 traces that {VERSION} itself could not judge at first: 2 it has judged since, 1 it still could not"
    assert words in run(["report", str(replay.replay_id)]).stdout.splitlines()
    assert json.loads(run(["report", str(replay.replay_id), "--json"]).stdout)["own"] == {"judged": 2, "unjudged": 1}


@pytest.mark.usefixtures("surroundings")
def test_report_and_status_read_well(ledger: Ledger, filled: list[Assessment], book: ReplayBook) -> None:
    replay = book.begin(selection(since=NOON, service="library"), judge_version=OTHER, actor="ada")
    said = assessment(3, probability=0.125, judge_version=OTHER)
    origin = replace(said.origin, topic="rag.replays.v1", replay_id=replay.replay_id)
    ledger.record([replace(said, trace=filled[3].trace, origin=origin)])
    dead = book.begin(selection(Kind.DEAD_LETTERS, reason="not_json"), judge_version=None, actor="bob")
    book.advance(replay, Chunked(cursor=["2026-03-01T12:00:00+00:00", "", ""], sent=1, places=[(0, 0)], done=False))
    run = partial(CliRunner().invoke, app)
    lines = run(["report", str(replay.replay_id)]).stdout.splitlines()
    assert lines[0].startswith(
        f"4 traces with a verdict of another version than {OTHER}: 1 judged by both, 3 still missing"
    )
    assert lines[2].split()[:4] == ["city/library/production", VERSION, "1", "0.0%"]
    assert "city/library/production t-0-3: hallucinated 0.900 → faithful 0.125" in lines
    assert "  A At ten, on the moon." in lines
    table = run(["status"]).stdout
    # Of its one record nobody has come for.
    assert [line.split()[-3:] for line in table.splitlines()[1:]] == [["0", "0", "0"], ["1", "1", "0"]]
    assert "dead letters, reason not_json, to 2027-04-05 12:00" in table
    assert "traces, service library, from 2026-03-01 12:00, to 2027-04-05 12:00" in table
    for hostile in ("[/red]", "\x1b]0;owned\x07", "\u202egnp.exe", "\x9b31m"):
        named = book.begin(selection(service=hostile), judge_version=OTHER, actor=hostile)
        shown = run(["status", str(named.replay_id)])
        assert shown.exit_code == 0
        assert all(char.isprintable() for char in shown.stdout.replace("\n", ""))
        as_json = run(["status", str(named.replay_id), "--json"])
        assert as_json.stdout.strip().isprintable()
        assert json.loads(as_json.stdout)["actor"] == hostile
        assert json.loads(as_json.stdout)["waiting"] == 0
        assert run(["report", str(named.replay_id), "--json"]).stdout.strip().isprintable()
    refused = run(["report", str(dead.replay_id)])
    assert isinstance(refused.exception, InvalidInput)
    assert "0 sent, 0 refused" in str(refused.exception)


def test_a_dry_run_counts_what_would_be_sent_and_begins_nothing(
    engine: Engine,
    ledger: Ledger,
    filled: list[Assessment],
    book: ReplayBook,
    surroundings: pytest.MonkeyPatch,
) -> None:
    letter = dead_letter(20)
    origin = replace(letter.origin, topic="rag.traces.v1")
    whole = encode_trace(trace("t-mended"))
    ledger.record(
        [],
        [
            replace(letter, origin=origin, raw=whole, raw_bytes=len(whole)),
            replace(letter, origin=replace(origin, offset=21), raw=b"{}", raw_bytes=2),
        ],
    )
    surroundings.setenv("GROUNDWATCH_KAFKA__BOOTSTRAP_SERVERS", "127.0.0.1:9")
    run = partial(CliRunner().invoke, app)
    for chosen, expected in (
        (["--judge-version", OTHER], (9, 0)),
        (["--judge-version", OTHER, "--service", "library", "--until", "2026-03-05"], (2, 0)),
        (["--judge-version", OTHER, "--unjudged"], (3, 0)),
        (["--judge-version", VERSION], (0, 0)),
        (["--dead-letters"], (1, 1)),
    ):
        until = [] if "--until" in chosen else ["--until", "2027-01-01"]
        done = run(["start", "--dry-run", "--json", *chosen, *until])
        assert (done.exit_code, done.exception) == (0, None)
        counted = json.loads(done.stdout)
        assert (counted["sent"], counted["refused"]) == expected
    words = run(["start", "--dry-run", "--judge-version", OTHER, "--until", "2027-01-01"]).stdout
    assert words == f"9 records would be sent to be judged by {OTHER}\n"
    assert book.newest() == []
    # Where Kafka lets nobody in, no replay is begun that nobody could send.
    surroundings.setenv("GROUNDWATCH_KAFKA__SECURITY_PROTOCOL", "SSL")
    surroundings.setenv("GROUNDWATCH_KAFKA__SSL_CA_FILE", "/nowhere/ca.pem")
    assert isinstance(run(["start", "--judge-version", OTHER]).exception, InvalidSettings)
    assert book.newest() == []
    # And so many are sent.
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    assert send_all(engine, KafkaSettings(), Refusing(1000), replay).sent == len(filled)
