import json
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from monitor.config import KafkaSettings
from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import DeadLetterLimit, RecordRefused, StreamUnavailable
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.trace import Origin, Trace
from monitor.domain.verdict import FAITHFULNESS, Action, Assessment, Decision
from monitor.ingest.memory_producer import MemoryProducer
from monitor.services.chunks import CHUNK_BYTES
from monitor.services.dead_letters import DeadLetterCap
from monitor.services.judge import JudgeService, Worked
from monitor.streaming.consume import Record
from monitor.wire import MAX_DEAD_LETTER_BYTES, MAX_TRACE_BYTES, decode_assessment, decode_dead_letter

NOW = datetime(2026, 3, 1, tzinfo=UTC)
TOPICS = KafkaSettings()


class CountingAssessor:
    """Has no opinion, and counts how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def assess(self, items: Sequence[tuple[Trace, Origin]]) -> list[Assessment]:
        self.asked += [trace.trace_id for trace, _ in items]
        return [
            Assessment(
                trace=trace,
                origin=origin,
                evaluator=FAITHFULNESS,
                judge_version="cascade@1",
                judgements=(),
                outcome=CouldNotJudge(reason=Unjudgeable.UNCALIBRATED),
                decision=Decision(action=Action.ACCEPT, reason="unjudged", inclusion_probability=0.0),
                judged_at=NOW,
            )
            for trace, origin in items
        ]


def record(offset: int, value: bytes) -> Record:
    return Record(
        topic=TOPICS.traces_topic,
        partition=2,
        offset=offset,
        key=None,
        value=value,
        high_watermark=100,
        timestamp=NOW.timestamp(),
    )


def raw_trace(**changes: Any) -> bytes:
    trace = {
        "trace_id": "t-1",
        "event_time": "2026-03-01T00:00:00Z",
        "service": "desk",
        "question": "When?",
        "documents": [{"id": "a", "text": "On Sundays."}],
        "answer": "On Sundays.",
    }
    return json.dumps(trace | changes).encode()


class Bench:
    def __init__(
        self, *, window: int = 100, producer: MemoryProducer | None = None, version: str | None = None
    ) -> None:
        self.assessor = CountingAssessor()
        self.producer = producer or MemoryProducer()
        self.worked: list[Worked] = []
        self.service = JudgeService(
            topic_id="life-1",
            cascade=self.assessor,
            producer=self.producer,
            topics=TOPICS,
            cap=DeadLetterCap(window=window, share=0.5),
            clock=lambda: NOW,
            observe=self.worked.append,
            version=version,
        )


def test_a_trace_becomes_a_judgement_under_its_own_key_with_its_origin() -> None:
    bench = Bench()
    bench.service.work([record(7, raw_trace(tenant="city"))])
    ((topic, key, value),) = bench.producer.records
    assert (topic, key) == (TOPICS.judgements_topic, b"city|t-1")
    assert decode_assessment(value).origin == Origin(
        topic=TOPICS.traces_topic, partition=2, offset=7, high_watermark=100, topic_id="life-1"
    )
    assert bench.worked[0].behind == {2: 92}


def test_a_replayed_trace_keeps_the_name_of_its_replay_dead_or_alive() -> None:
    bench = Bench(version="cascade@1")
    carried = {"groundwatch-replay": b"17", "groundwatch-judge-version": b"cascade@1"}
    bench.service.work([replace(record(1, raw), headers=carried) for raw in (raw_trace(), b"{}")])
    said, dead = (value for _, _, value in bench.producer.records)
    assert decode_assessment(said).origin.replay_id == 17
    assert decode_dead_letter(dead).origin.replay_id == 17


def test_what_another_version_is_to_judge_is_passed_over_without_a_word() -> None:
    bench = Bench(version="cascade@1", window=10)
    other = {"groundwatch-judge-version": b"cascade@2"}
    # Not even unreadable ones are ours to speak of, and none of them stops the worker.
    bench.service.work([replace(record(number, b"{}"), headers=other) for number in range(20)])
    assert bench.producer.records == []
    ours = {"groundwatch-judge-version": b"cascade@1", "groundwatch-replay": b"3"}
    mixed = [
        record(20, raw_trace(trace_id="of-nobody")),
        replace(record(21, raw_trace(trace_id="other")), headers=other),
    ]
    bench.service.work([*mixed, replace(record(22, raw_trace(trace_id="ours")), headers=ours)])
    assert bench.assessor.asked == ["of-nobody", "ours"]
    assert [decode_assessment(value).origin.offset for _, _, value in bench.producer.records] == [20, 22]
    assert bench.worked[-1].behind == {2: 77}


def test_poison_becomes_a_dead_letter_with_its_bytes_and_hurts_nobody() -> None:
    bench = Bench()
    bench.service.work([record(1, b"\xff{"), record(2, raw_trace()), record(3, raw_trace(answer=None))])
    assert bench.assessor.asked == ["t-1"]
    letters = [decode_dead_letter(value) for topic, _, value in bench.producer.records if "dead" in topic]
    assert [letter.reason for letter in letters] == [DeadLetterReason.NOT_JSON, DeadLetterReason.INVALID]
    assert letters[0].raw == b"\xff{"
    assert letters[0].field is None
    assert letters[1].field == "answer"
    assert [letter.origin.offset for letter in letters] == [1, 3]
    assert len(bench.producer.records) == 3


def test_of_an_oversized_record_the_first_bytes_and_the_length_are_kept() -> None:
    bench = Bench()
    bench.service.work([record(1, b"x" * (MAX_TRACE_BYTES + 1))])
    letter = decode_dead_letter(bench.producer.records[0][2])
    assert letter.reason is DeadLetterReason.TOO_LARGE
    assert len(letter.raw) == MAX_DEAD_LETTER_BYTES
    assert letter.raw_bytes == MAX_TRACE_BYTES + 1


def test_a_batch_that_kafka_did_not_take_is_sent_again_but_judged_once() -> None:
    bench = Bench()
    batch = [record(1, raw_trace()), record(2, raw_trace(trace_id="t-2"))]
    bench.producer.fails_after = 1
    with pytest.raises(StreamUnavailable):
        bench.service.work(batch)
    assert bench.worked == []
    bench.producer.down = False
    bench.service.work(batch)
    assert bench.assessor.asked == ["t-1", "t-2"]
    assert len(bench.worked) == 1
    keys = [key for _, key, _ in bench.producer.records]
    assert keys == [b"default|t-1", b"default|t-1", b"default|t-2"]


def test_another_batch_is_never_mistaken_for_the_one_that_failed() -> None:
    bench = Bench()
    bench.producer.down = True
    with pytest.raises(StreamUnavailable):
        bench.service.work([record(1, raw_trace())])
    bench.producer.down = False
    bench.service.work([replace(record(1, raw_trace(trace_id="t-2")), partition=0)])
    assert [key for _, key, _ in bench.producer.records] == [b"default|t-2"]


def test_over_the_limit_nothing_of_the_batch_is_sent() -> None:
    bench = Bench(window=10)
    with pytest.raises(DeadLetterLimit):
        bench.service.work([record(offset, b"{}") for offset in range(6)])
    assert bench.producer.records == []


def test_a_batch_is_worked_on_in_chunks_and_a_retry_goes_on_where_it_stopped() -> None:
    bench = Bench()
    batch = [
        record(1, raw_trace()),
        record(2, b"x" * CHUNK_BYTES),
        record(3, raw_trace(trace_id="t-2")),
        record(4, raw_trace(trace_id="t-3")),
    ]
    bench.producer.fails_after = 3
    with pytest.raises(StreamUnavailable):
        bench.service.work(batch)
    assert [len(worked.assessments) for worked in bench.worked] == [1, 0]
    bench.producer.down = False
    bench.service.work(batch)
    assert bench.assessor.asked == ["t-1", "t-2", "t-3"]
    assert [(len(worked.assessments), worked.behind) for worked in bench.worked] == [
        (1, {2: 98}),
        (0, {2: 97}),
        (2, {2: 95}),
    ]
    said = [decode_assessment(value).origin.offset for topic, _, value in bench.producer.records if "dead" not in topic]
    assert said == [1, 3, 3, 4]
    assert len(bench.producer.records) == 5


def test_a_batch_handed_over_again_after_it_was_done_is_worked_on_again() -> None:
    bench = Bench()
    batch = [record(1, raw_trace())]
    bench.service.work(batch)
    bench.service.work(batch)
    assert len(bench.producer.records) == 2


def test_over_the_limit_nothing_of_that_chunk_is_sent() -> None:
    bench = Bench(window=2)
    junk = b"x" * CHUNK_BYTES
    with pytest.raises(DeadLetterLimit):
        bench.service.work([record(1, raw_trace()), record(2, junk), record(3, junk)])
    assert [topic for topic, _, _ in bench.producer.records] == [TOPICS.judgements_topic, TOPICS.dead_letters_topic]


def test_what_kafka_will_never_take_becomes_a_small_dead_letter_and_holds_nobody_up() -> None:
    bench = Bench()
    bench.producer.largest = 100_000
    wordy = raw_trace(trace_id="t-2", answer="x" * 60_000, question="y" * 60_000)
    bench.service.work([record(1, raw_trace()), record(2, wordy), record(3, b"{" * 200_000)])
    letters = {
        letter.origin.offset: letter
        for letter in (decode_dead_letter(value) for topic, _, value in bench.producer.records if "dead" in topic)
    }
    assert [topic for topic, _, _ in bench.producer.records].count(TOPICS.judgements_topic) == 1
    assert set(letters) == {2, 3}
    assert letters[2].reason is DeadLetterReason.TOO_LARGE
    assert letters[2].raw_bytes > 120_000
    assert (len(letters[3].raw), letters[3].raw_bytes) == (64 * 1024, 200_000)
    assert len(bench.worked) == 1


class SpillingProducer(MemoryProducer):
    """Loses what is in flight with each record that it refuses, as an idempotent producer may."""

    def send(self, topic: str, key: bytes, value: bytes) -> "Future[Any]":
        receipt = super().send(topic, key, value)
        if isinstance(receipt.exception(), RecordRefused):
            self.fails_after = 0
        return receipt


def test_what_kafka_refused_once_is_not_sent_again_when_others_failed_with_it() -> None:
    bench = Bench(producer=SpillingProducer(largest=100_000))
    batch = [
        record(1, raw_trace(answer="x" * 60_000, question="y" * 60_000)),
        record(2, raw_trace(trace_id="t-2")),
    ]
    with pytest.raises(StreamUnavailable):
        bench.service.work(batch)
    bench.producer.down = False
    bench.service.work(batch)
    assert [topic for topic, _, _ in bench.producer.records] == [TOPICS.dead_letters_topic, TOPICS.judgements_topic]
    assert bench.assessor.asked == ["t-1", "t-2"]


def test_a_judgement_that_cannot_be_encoded_is_a_dead_letter_of_its_own() -> None:
    bench = Bench()
    spoken = bench.assessor.assess

    def with_one_nan(items: Sequence[tuple[Trace, Origin]]) -> list[Assessment]:
        first, *others = spoken(items)
        broken = replace(first, decision=replace(first.decision, inclusion_probability=float("nan")))
        return [broken, *others]

    bench.assessor.assess = with_one_nan  # type: ignore[method-assign]
    bench.service.work([record(1, raw_trace()), record(2, raw_trace(trace_id="t-2"))])
    ((_, _, said), (_, _, dead)) = sorted(bench.producer.records, key=lambda sent: "dead" in sent[0])
    assert decode_assessment(said).origin.offset == 2
    letter = decode_dead_letter(dead)
    assert (letter.origin.offset, letter.reason) == (1, DeadLetterReason.INVALID)
    assert "ValueError" in letter.detail
