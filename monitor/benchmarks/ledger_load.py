"""Judgement messages by the million, for `groundwatch bench ledger`: as judge workers write them, cheap to make.

One message of each kind is encoded by the product's own encoder; the others differ from it in ids, times, offsets and
probability, put in by hand.
"""

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice, product, starmap
from typing import Final, NamedTuple

from monitor.domain.judgement import JudgeIdentity, Judgement, Opinion, Tier, UnsupportedSpan, Usage
from monitor.domain.trace import Document, Origin, Trace
from monitor.domain.verdict import FAITHFULNESS, Action, Assessment, Decision, Label, Verdict
from monitor.streaming.consume import Record
from monitor.wire import encode_assessment

SEGMENTS: Final = 20
TENANTS: Final = 4
PARTITIONS: Final = 12
EDGE_SHARE: Final = 0.15
"""Of the traces, those that the edge judge sees besides the screen."""

HALLUCINATED_SHARE: Final = 0.1
AUDIT_SHARE: Final = 0.01
"""Of the traces, those that go to the pool, drawn at random."""

TOPIC_ID: Final = "b3NjaGVkdWxlcndhcy4tLQ"
_PROMPTS = ("v6", "v7", "v8")
_MIDDLE = 0.5
_TRACE, _OFFSET, _END, _PROBABILITY = "1d" * 16, 7_000_000_001, 7_000_000_002, 0.123456789
_EVENT = datetime(2001, 1, 2, 3, 4, 5, 600_001, UTC)
_JUDGED = datetime(2001, 1, 2, 3, 4, 5, 600_002, UTC)
_SCREEN = JudgeIdentity(name="screen", tier=Tier.SCREEN, model="screen.onnx", model_digest="5c" * 32)
_EDGE = JudgeIdentity(
    name="gguf",
    tier=Tier.EDGE,
    model="lynx-8b.gguf",
    model_digest="e8" * 32,
    quantisation="Q4_K_M",
    prompt_digest="9f0b1c2d3e4f",
)
_PASSAGE = "The office opens at nine on weekdays and at ten on Saturdays; on Sundays it stays closed. "


@dataclass(frozen=True, kw_only=True, slots=True)
class Traffic:
    """What is sent: verdicts spread evenly over a stretch of event time.

    Attributes:
        verdicts: in all.
        since: where event time begins, aware.
        until: where it ends.
    """

    verdicts: int
    since: datetime
    until: datetime

    def batches(self, size: int) -> Iterator[list[Record]]:
        """All of them in order of event time, in batches of records as a consumer reads them; the same every time."""
        records = self._records(random.Random(self.verdicts))  # noqa: S311 - no secret, and the same every time
        while batch := list(islice(records, size)):
            yield batch

    def _records(self, chance: random.Random) -> Iterator[Record]:
        kinds = {kind: _template(kind) for kind in _kinds()}
        step = (self.until - self.since) / self.verdicts
        ends = [0] * PARTITIONS
        for number in range(self.verdicts):
            event_time = self.since + number * step
            partition = number % PARTITIONS
            hallucinated = chance.random() < HALLUCINATED_SHARE
            probability = chance.uniform(_MIDDLE, 1) if hallucinated else chance.random() ** 2 * _MIDDLE
            offset = ends[partition]
            ends[partition] += 1
            edge, audited = chance.random() < EDGE_SHARE, chance.random() < AUDIT_SHARE
            key = _Kind(number % SEGMENTS, chance.choice(_PROMPTS), hallucinated, edge, audited)
            yield Record(
                topic="rag.judgements.v1",
                partition=partition,
                offset=offset,
                key=None,
                value=kinds[key].fill(number, event_time, probability, partition=partition, offset=offset),
                high_watermark=None,
                timestamp=event_time.timestamp(),
            )


class _Kind(NamedTuple):
    """What distinguishes messages but for numbers and times."""

    segment: int
    prompt: str
    hallucinated: bool
    edge: bool
    audited: bool


def _kinds() -> Iterator[_Kind]:
    flags = (False, True)
    return starmap(_Kind, product(range(SEGMENTS), _PROMPTS, flags, flags, flags))


@dataclass(frozen=True, kw_only=True, slots=True)
class _Template:
    """A message with places to fill."""

    text: str

    def fill(self, number: int, event_time: datetime, probability: float, *, partition: int, offset: int) -> bytes:
        """The message of one trace."""
        values = {
            "trace": hashlib.md5(str(number).encode(), usedforsecurity=False).hexdigest(),
            "event": event_time.isoformat().replace("+00:00", "Z"),
            "judged": (event_time + timedelta(seconds=1)).isoformat().replace("+00:00", "Z"),
            "probability": repr(probability),
            "partition": partition,
            "offset": offset,
            "end": offset + 1,
        }
        return (self.text % values).encode()


def _template(kind: _Kind) -> _Template:
    text = encode_assessment(_assessment(kind)).decode()
    text = text.replace("%", "%%")
    for said, place in (
        (f'"{_TRACE}"', '"%(trace)s"'),
        (_written(_EVENT), "%(event)s"),
        (_written(_JUDGED), "%(judged)s"),
        (str(_PROBABILITY), "%(probability)s"),
        (f'"partition":{PARTITIONS}', '"partition":%(partition)d'),
        (str(_OFFSET), "%(offset)d"),
        (str(_END), "%(end)d"),
    ):
        if said not in text:
            raise AssertionError(f"the contract no longer writes {said}")
        text = text.replace(said, place)
    return _Template(text=text)


def _written(moment: datetime) -> str:
    return moment.isoformat().replace("+00:00", "Z")


def _assessment(kind: _Kind) -> Assessment:
    span = UnsupportedSpan(
        start=0, end=31, score=_PROBABILITY, document_id="handbook-1", document_start=0, document_end=88
    )
    spans = (span,) if kind.hallucinated else ()
    said = [_word(_SCREEN, Opinion(raw_score=_PROBABILITY, unsupported=spans), seconds=0.0007, chance=1.0)]
    if kind.edge:
        usage = Usage(prompt_tokens=612, completion_tokens=2)
        said.append(_word(_EDGE, Opinion(raw_score=_PROBABILITY, usage=usage), seconds=0.31, chance=EDGE_SHARE))
    return Assessment(
        trace=Trace(
            trace_id=_TRACE,
            event_time=_EVENT,
            tenant=f"tenant-{kind.segment % TENANTS}",
            service=f"service-{kind.segment:02d}",
            environment="production",
            question="When does the office open on Saturdays?",
            documents=tuple(Document(id=f"handbook-{place}", text=_PASSAGE * 3, score=0.8) for place in range(2)),
            answer="It opens at ten on Saturdays, as on every other day of the week.",
            generator_model="model-a",
            prompt_version=kind.prompt,
        ),
        origin=Origin(
            topic="rag.traces.v1", topic_id=TOPIC_ID, partition=PARTITIONS, offset=_OFFSET, high_watermark=_END
        ),
        evaluator=FAITHFULNESS,
        judge_version="cascade@0123456789ab",
        judgements=tuple(said),
        outcome=Verdict(
            label=Label.HALLUCINATED if kind.hallucinated else Label.FAITHFUL,
            probability=_PROBABILITY,
            unsupported=spans,
            decided_by=tuple(judgement.judge.version for judgement in said),
        ),
        decision=Decision(
            action=Action.ESCALATE if kind.audited else Action.ACCEPT,
            reason="audit" if kind.audited else "sure",
            inclusion_probability=AUDIT_SHARE,
        ),
        judged_at=_JUDGED,
    )


def _word(judge: JudgeIdentity, opinion: Opinion, *, seconds: float, chance: float) -> Judgement:
    return Judgement(
        judge=judge,
        result=opinion,
        probability=_PROBABILITY,
        latency_seconds=seconds,
        inclusion_probability=chance,
        chosen_because="all" if chance == 1 else "unsure",
    )
