"""The messages as they travel: decoding with limits, encoding without surprises.

`schemas/` states the same contracts as JSON Schema; tests hold the two together. Readers ignore fields that
they do not know, so that a field may be added without a new version.
"""

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    Base64Bytes,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import from_json

from monitor.domain.alert import Alert, Notification
from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import InvalidMessage, InvalidTrace
from monitor.domain.judgement import JudgeIdentity
from monitor.domain.trace import Document, Origin, Trace
from monitor.domain.verdict import Assessment, Verdict

MAX_TRACE_BYTES = 2 * 1024 * 1024
"""A whole trace, as JSON. Larger is refused by the sidecar and a dead letter on the topic."""

MAX_DEAD_LETTER_BYTES = 1024 * 1024
"""How much of a dead record's value is kept."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""What the topics must accept: a judgement carries its trace by value, with evidence."""

MAX_METADATA_LEVELS = 32
"""How deep a document's metadata may be nested; parsers along the way have limits of their own."""

MAX_CLOCK_SKEW = timedelta(hours=1)
"""How far in the future an event time may lie."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Older event times are taken for a broken clock."""

MAX_FIELD_NAME = 256
"""How much of an offending field's path is quoted: a sender's own keys are part of it."""


def _storable(text: str) -> str:
    # Postgres stores no NUL; PDF extractors emit it. One character for one, so that offsets still hold.
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def _storable_json(value: Any) -> Any:
    if isinstance(value, str):
        return _storable(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")
    if isinstance(value, list):
        return [_storable_json(item) for item in value]
    if isinstance(value, dict):
        return {_storable(key): _storable_json(item) for key, item in value.items()}
    return value


def _not_too_deep(value: Any, levels: int = MAX_METADATA_LEVELS) -> Any:
    # A judgement wraps its trace: what is read here must still be readable some levels further down.
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError(f"nested deeper than {MAX_METADATA_LEVELS} levels")
        for item in value.values() if isinstance(value, dict) else value:
            _not_too_deep(item, levels - 1)
    return value


NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
TIME_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?([Zz]|[+-][0-9]{2}:?[0-9]{2})$"
)
_TIME = re.compile(TIME_PATTERN.removesuffix("$") + r"\Z")


def _written_out(moment: Any) -> Any:
    # The parser would also take "1767225600" for a time, and a Unicode minus in an offset for a plus.
    if not isinstance(moment, datetime) and not (isinstance(moment, str) and _TIME.match(moment)):
        raise ValueError("a time is written as 2026-01-31T12:00:00Z, with a time zone")
    return moment


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_out)]
Text = Annotated[str, Field(max_length=65_536), AfterValidator(_storable)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=NAME_PATTERN)]
Identifier = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
ShortText = Annotated[str, Field(max_length=256), AfterValidator(_storable)]


class _Contract(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)


class DocumentV1(_Contract):
    """One retrieved document."""

    id: Annotated[str, Field(min_length=1, max_length=512), AfterValidator(_storable)]
    text: Annotated[str, Field(max_length=1_048_576), AfterValidator(_storable)]
    score: float | None = None
    metadata: Annotated[
        dict[str, Any], Field(max_length=64), AfterValidator(_not_too_deep), AfterValidator(_storable_json)
    ] = Field(default_factory=dict)


class TraceV1(_Contract):
    """`rag_trace.v1`: what RAG services send, with every limit stated."""

    schema_: Literal["rag_trace.v1"] = Field(default="rag_trace.v1", alias="schema")
    trace_id: Identifier
    event_time: Moment
    tenant: Name = "default"
    service: Name
    environment: Name = "production"
    question: Text
    documents: Annotated[tuple[DocumentV1, ...], Field(max_length=100)]
    answer: Text
    generator_model: ShortText | None = None
    prompt_version: ShortText | None = None
    tags: Annotated[dict[ShortText, ShortText], Field(max_length=32)] = Field(default_factory=dict)
    otel_trace_id: Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")] | None = None
    otel_span_id: Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")] | None = None

    def to_domain(self) -> Trace:
        """The same trace, as the core knows it."""
        fields = {name: getattr(self, name) for name in TraceV1.model_fields if name != "schema_"}
        fields["documents"] = tuple(
            Document(id=doc.id, text=doc.text, score=doc.score, metadata=doc.metadata) for doc in self.documents
        )
        return Trace(**fields)


def decode_trace(raw: bytes, *, now: datetime) -> Trace:
    """Read one `rag_trace.v1`.

    Args:
        raw: UTF-8 JSON, at most `MAX_TRACE_BYTES`.
        now: the reader's clock, aware; it bounds the event time.

    Raises:
        InvalidTrace: names the first offending field and what is allowed there. `field` is `$` when the
            whole value is to blame: too large, or not JSON (a lone surrogate is not JSON text).
    """
    if len(raw) > MAX_TRACE_BYTES:
        raise _too_large(f"{len(raw)} bytes")
    try:
        message = TraceV1.model_validate_json(raw)
    except ValidationError as error:
        raise _invalid(error) from None
    _check_clock(message.event_time, now)
    trace = message.to_domain()
    _check_growth(trace, len(raw))
    return trace


def _check_clock(event_time: datetime, now: datetime) -> None:
    if event_time > now + MAX_CLOCK_SKEW:
        ahead = event_time - now
        raise InvalidTrace("event_time", f"{ahead} in the future; at most {MAX_CLOCK_SKEW} is allowed: check the clock")
    if event_time < EARLIEST:
        raise InvalidTrace("event_time", f"before {EARLIEST:%Y-%m-%d}: check the clock")


def _check_growth(trace: Trace, size: int) -> None:
    # `1e15` comes out as `1000000000000000.0`: numbers in metadata can grow a trace about fourfold, past what
    # our topics take. Only a large trace can get there, so only those are encoded once more.
    if size > MAX_TRACE_BYTES // 5 and (grown := len(encode_trace(trace))) > MAX_TRACE_BYTES:
        raise _too_large(f"{grown} bytes with numbers written out")


def _too_large(size: str) -> InvalidTrace:
    return InvalidTrace("$", f"{size}; at most {MAX_TRACE_BYTES} are allowed", DeadLetterReason.TOO_LARGE)


def _invalid(error: ValidationError) -> InvalidTrace:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    if first["type"] == "json_invalid":
        problem = first["msg"].removeprefix("Invalid JSON: ")
        return InvalidTrace("$", f"not JSON: {problem}", DeadLetterReason.NOT_JSON)
    return InvalidTrace(_path(first["loc"]), first["msg"].removeprefix("Value error, "))


def _path(location: tuple[str | int, ...]) -> str:
    path = ""
    for part in location:
        path += f"[{part}]" if isinstance(part, int) else f".{part}"
    # A key of the sender's may be megabytes long or hold a NUL, and this goes into logs, headers and Postgres.
    return _storable(path.lstrip(".")[:MAX_FIELD_NAME]) or "$"


# Our own messages: written by one of our processes, read by another. The domain types are their shape.
_TRACE = TypeAdapter(Trace)
_ASSESSMENT = TypeAdapter(Assessment)
_VERDICT = TypeAdapter(Verdict)
_ALERT = TypeAdapter(Alert)
_IDENTITY = TypeAdapter(JudgeIdentity)


def trace_to_json(trace: Trace) -> dict[str, Any]:
    """`rag_trace.v1` as a JSON value."""
    return {"schema": "rag_trace.v1", **_TRACE.dump_python(trace, mode="json")}


def encode_trace(trace: Trace) -> bytes:
    """`rag_trace.v1` as UTF-8 JSON."""
    return _encode(trace_to_json(trace))


def encode_assessment(assessment: Assessment) -> bytes:
    """`judgement.v1` as UTF-8 JSON; each judge carries its `version`, for readers without our code.

    Raises InvalidTrace (`too_large`) when evidence makes it larger than `MAX_MESSAGE_BYTES`: an answer of
    ten thousand one-word sentences can.
    """
    message = {"schema": "judgement.v1", **_ASSESSMENT.dump_python(assessment, mode="json")}
    for judgement, said in zip(message["judgements"], assessment.judgements, strict=True):
        judgement["judge"]["version"] = said.judge.version
    raw = _encode(message)
    if len(raw) > MAX_MESSAGE_BYTES:
        problem = f"{len(raw)} bytes once judged; at most {MAX_MESSAGE_BYTES} are allowed"
        raise InvalidTrace("$", problem, DeadLetterReason.TOO_LARGE)
    return raw


def decode_assessment(raw: bytes) -> Assessment:
    """Read one `judgement.v1`; raises InvalidMessage when it is not one."""
    try:
        message = from_json(raw)
        if not isinstance(message, dict) or message.get("schema") != "judgement.v1":
            raise InvalidMessage("judgement.v1: `schema` does not say so")
        return _ASSESSMENT.validate_python(message)
    except ValidationError as error:
        raise InvalidMessage(f"judgement.v1: {_invalid(error)}") from None
    except ValueError as error:
        raise InvalidMessage(f"judgement.v1: not JSON: {error}") from None


def verdict_to_json(
    verdict: Verdict, *, trace: Trace, evaluator: str, judge_version: str, judged_at: datetime
) -> dict[str, Any]:
    """`verdict.v1` as a JSON value: one verdict with the keys that identify it."""
    return {
        "schema": "verdict.v1",
        "tenant": trace.tenant,
        "trace_id": trace.trace_id,
        "service": trace.service,
        "environment": trace.environment,
        "event_time": trace.event_time.isoformat(),
        "evaluator": evaluator,
        "judge_version": judge_version,
        "judged_at": judged_at.isoformat(),
        **_VERDICT.dump_python(verdict, mode="json"),
    }


def alert_to_json(
    alert: Alert, *, notification: Notification = Notification.STATE, silenced: bool = False
) -> dict[str, Any]:
    """`alert.v1` as a JSON value: why it is sent, and whether a silence keeps it from subscriptions."""
    # A recovery ends an alert and is none: it is never sent.
    message = _ALERT.dump_python(alert, mode="json", exclude={"alarm": {"recovers"}})
    return {"schema": "alert.v1", **message, "notification": notification.value, "silenced": silenced}


class _DeadLetterV1(BaseModel):
    """`dead_letter.v1`: the raw bytes travel in base64."""

    schema_: Literal["dead_letter.v1"] = Field(alias="schema")
    origin: Origin
    reason: DeadLetterReason
    detail: str
    field: str | None = None
    raw: Base64Bytes
    raw_bytes: int
    dead_at: AwareDatetime


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """`dead_letter.v1` as UTF-8 JSON; of the raw bytes, the first `MAX_DEAD_LETTER_BYTES`."""
    fields = {name: getattr(letter, name) for name in _DeadLetterV1.model_fields if name != "schema_"}
    fields["raw"] = letter.raw[:MAX_DEAD_LETTER_BYTES]
    message = _DeadLetterV1.model_construct(schema_="dead_letter.v1", **fields)
    return _encode(message.model_dump(mode="json", by_alias=True))


def decode_dead_letter(raw: bytes) -> DeadLetter:
    """Read one `dead_letter.v1`; raises InvalidMessage when it is not one."""
    try:
        message = _DeadLetterV1.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidMessage(f"dead_letter.v1: {_invalid(error)}") from None
    fields = {name: getattr(message, name) for name in _DeadLetterV1.model_fields if name != "schema_"}
    return DeadLetter(**fields)


def _encode(message: Mapping[str, Any]) -> bytes:
    text = json.dumps(message, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    if "\\u0000" in text:  # a judge's own words may hold a NUL, as judged text may
        text = json.dumps(_storable_json(message), ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode(errors="replace")  # half a surrogate pair, from a model's cut-off token, becomes "?"
