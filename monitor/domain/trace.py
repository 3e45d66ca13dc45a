"""A RAG trace: one question, what was retrieved for it, and what was answered."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any


def as_utc(moment: datetime, name: str) -> datetime:
    """Return `moment` in UTC; a naive datetime is a programming error and raises ValueError."""
    if moment.utcoffset() is None:
        raise ValueError(f"{name} must carry a time zone")
    return moment.astimezone(UTC)


def hold_utc(record: object, *names: str) -> None:
    """Put the named times of a frozen domain object into UTC, where there are any; ValueError for a naive one."""
    for name in names:
        if (moment := getattr(record, name)) is not None:
            object.__setattr__(record, name, as_utc(moment, name))


@dataclass(frozen=True, kw_only=True, slots=True)
class Document:
    """One retrieved document, as the generator saw it.

    Attributes:
        id: the retriever's own identifier; unique within its trace.
        text: the text; character offsets in evidence refer to it.
        score: the retriever's score, on its own scale, or None.
        metadata: anything else that the retriever returned, as JSON values.
    """

    id: str
    text: str
    score: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """What rates, baselines and alerts are kept for."""

    tenant: str
    service: str
    environment: str

    def __str__(self) -> str:
        return f"{self.tenant}/{self.service}/{self.environment}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """A part of a segment's traffic: the traces with one value of one dimension, such as `prompt_version=v7`."""

    dimension: str
    value: str

    def __str__(self) -> str:
        return f"{self.dimension}={self.value}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Trace:
    """One answered question. `(tenant, trace_id)` is its identity; `event_time` is when it was answered.

    Attributes:
        sampling_probability: with which chance kept it, on all its way here; in (0, 1]. It stands for as many traces
            as the inverse says.
    """

    trace_id: str
    event_time: datetime
    tenant: str
    service: str
    environment: str
    question: str
    documents: tuple[Document, ...]
    answer: str
    generator_model: str | None = None
    prompt_version: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    otel_trace_id: str | None = None
    otel_span_id: str | None = None
    sampling_probability: float = 1.0

    def __post_init__(self) -> None:
        hold_utc(self, "event_time")
        if not 0 < self.sampling_probability <= 1:
            raise ValueError(f"sampling_probability {self.sampling_probability} should be above 0 and at most 1")

    @property
    def segment(self) -> Segment:
        """The segment that this trace is counted in."""
        return Segment(tenant=self.tenant, service=self.service, environment=self.environment)


def topic_log(topic: str, topic_id: str | None) -> str:
    """The name of one life of a topic; see `Origin`."""
    return topic if topic_id is None else f"{topic}@{topic_id}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """Where a record lay in Kafka: the identity of one *message*, as a trace id is that of one trace.

    `high_watermark` is the partition's end offset as the reader last saw it: with it the ledger can say, in
    SQL, how many records were accepted, not only how many it has been told about.

    `topic_id` tells one life of a topic from the next: a topic that was deleted and made again, or a broker that
    lost its memory, counts from offset 0 once more, and its records are not those that lay there before.

    `replay_id` is that of the replay which sent the record: its trace was judged before, and is judged once more.
    """

    topic: str
    partition: int
    offset: int
    high_watermark: int | None = None
    topic_id: str | None = None
    replay_id: int | None = None

    @property
    def log(self) -> str:
        """Names this life of the topic: `rag.traces.v1@<topic id>`, or the bare name where the broker tells no id."""
        return topic_log(self.topic, self.topic_id)
