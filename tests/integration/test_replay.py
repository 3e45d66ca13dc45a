"""Sending replays: what is chosen, what is left out, what lies on the topic, and that the cursor waits for Kafka."""

import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from sqlalchemy import Engine, text
from typer.testing import CliRunner

from monitor.cli.replay import app
from monitor.config import KafkaSettings
from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import InvalidInput, StreamUnavailable
from monitor.domain.verdict import Assessment
from monitor.services.replay import ReplaySender
from monitor.services.replay_report import report
from monitor.storage.ledger import Ledger
from monitor.storage.replays import Kind, Replay, ReplayBook, ReplayState, Selection
from monitor.storage.replays_source import extent
from monitor.streaming.producer import Producer
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


def send_all(engine: Engine, kafka: KafkaSettings, producer: Any, replay: Replay) -> Replay:
    made = ReplaySender(engine, producer=producer, topics=kafka, rate=10_000, stop=threading.Event())
    return list(made.send(replay))[-1]


@pytest.fixture
def send(engine: Engine, kafka_settings: KafkaSettings, producer: Producer) -> Send:
    """Sends a replay to its end."""
    return partial(send_all, engine, kafka_settings, producer)


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
    """Takes so many records, then is away."""

    def __init__(self, takes: int) -> None:
        self.taken: list[bytes] = []
        self._takes = takes

    def send(
        self, topic: str, key: bytes | None, value: bytes, *, headers: Mapping[str, bytes] | None = None
    ) -> "Future[Any]":
        del topic, key, headers
        receipt: Future[Any] = Future()
        if len(self.taken) < self._takes:
            self.taken.append(value)
            receipt.set_result(None)
        else:
            receipt.set_exception(StreamUnavailable("away"))
        return receipt


def test_the_cursor_waits_for_every_acknowledgement(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings, producer: Producer
) -> None:
    ledger.record([assessment(number) for number in range(300)])
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    failing = Refusing(250)
    with pytest.raises(StreamUnavailable, match="away"):
        send_all(engine, kafka_settings, failing, replay)
    stands = book.find(replay.replay_id)
    assert (stands.sent, stands.state) == (200, ReplayState.SENDING)
    assert send_all(engine, kafka_settings, producer, stands).sent == 300
    assert len(sent(kafka_settings)) == 100
    first = {decode_trace(value, now=LATER).trace_id for value in failing.taken}
    assert first | set(sent(kafka_settings)) == {f"t-0-{number}" for number in range(300)}


def test_a_stop_from_elsewhere_ends_the_sender_between_two_chunks(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings
) -> None:
    ledger.record([assessment(number) for number in range(300)])
    replay = book.begin(selection(), judge_version=OTHER, actor="ada")
    taking = Refusing(1000)
    made = ReplaySender(engine, producer=taking, topics=kafka_settings, rate=10_000, stop=threading.Event())
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

        def send(self, *message: Any, **more: Any) -> "Future[Any]":
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
    one, two = (
        ReplaySender(engine, producer=Refusing(1000), topics=kafka_settings, rate=10_000, stop=threading.Event())
        for _ in range(2)
    )
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


def test_dead_letters_go_back_to_the_traces_topic_and_cut_ones_do_not(
    engine: Engine, ledger: Ledger, book: ReplayBook, kafka_settings: KafkaSettings, producer: Producer
) -> None:
    def dead(offset: int, raw: bytes, **changes: Any) -> DeadLetter:
        letter = dead_letter(offset)
        origin = replace(letter.origin, topic=kafka_settings.traces_topic, topic_id="life")
        return replace(letter, origin=origin, raw=raw, **{"raw_bytes": len(raw), **changes})

    whole = encode_trace(trace("t-mended"))
    stray = replace(dead(4, b"stray"), origin=replace(dead_letter(4).origin, topic="rag.judgements.v1"))
    ledger.record(
        [],
        [
            dead(0, whole, reason=DeadLetterReason.INVALID),
            dead(1, b"{}"),
            dead(2, b"x", raw_bytes=70_000, reason=DeadLetterReason.TOO_LARGE),
            dead(3, b"y", dead_at=LATER + timedelta(days=1)),
        ],
    )
    ledger.record_strays([stray])
    replay = book.begin(selection(Kind.DEAD_LETTERS), judge_version=None, actor="ada")
    done = send_all(engine, kafka_settings, producer, replay)
    assert (done.state, done.sent, done.refused) == (ReplayState.SENT, 2, 1)
    found = {record.value: record.key for record in read_records(kafka_settings, kafka_settings.traces_topic)}
    assert found == {whole: b"city|t-mended", b"{}": None}
    invalid = book.begin(selection(Kind.DEAD_LETTERS, reason="invalid"), judge_version=None, actor="ada")
    assert send_all(engine, kafka_settings, producer, invalid).sent == 1


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


def test_report_and_status_read_well(
    engine: Engine, ledger: Ledger, filled: list[Assessment], book: ReplayBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    replay = book.begin(selection(since=NOON, service="library"), judge_version=OTHER, actor="ada")
    said = assessment(3, probability=0.125, judge_version=OTHER)
    origin = replace(said.origin, topic="rag.replays.v1", replay_id=replay.replay_id)
    ledger.record([replace(said, trace=filled[3].trace, origin=origin)])
    dead = book.begin(selection(Kind.DEAD_LETTERS, reason="not_json"), judge_version=None, actor="bob")
    monkeypatch.setenv("GROUNDWATCH_POSTGRES__URL", engine.url.render_as_string(hide_password=False))
    run = partial(CliRunner().invoke, app)
    lines = run(["report", str(replay.replay_id)]).stdout.splitlines()
    assert lines[0].startswith(
        f"4 traces with a verdict of another version than {OTHER}: 1 judged by both, 3 still missing"
    )
    assert lines[2].split()[:4] == ["city/library/production", VERSION, "1", "0.0%"]
    assert "city/library/production t-0-3: hallucinated 0.900 → faithful 0.125" in lines
    assert "  A At ten, on the moon." in lines
    table = run(["status"]).stdout
    assert "dead letters, reason not_json, to 2027-04-05 12:00" in table
    assert "traces, service library, from 2026-03-01 12:00, to 2027-04-05 12:00" in table
    refused = run(["report", str(dead.replay_id)])
    assert isinstance(refused.exception, InvalidInput)
    assert "0 sent, 0 refused" in str(refused.exception)
