"""`judgement.v1` and `verdict.v1`: what judges said, between our processes and to the outside."""

from datetime import datetime
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import InvalidMessage, InvalidTrace
from monitor.domain.trace import Trace
from monitor.domain.verdict import Assessment, Verdict
from monitor.wire.coding import first_problem, to_bytes
from monitor.wire.fields import MAX_MESSAGE_BYTES

# Written by one of our processes, read by another: the domain's types are their shape.
_ASSESSMENT = TypeAdapter(Assessment)
_VERDICT = TypeAdapter(Verdict)
_OURS = b'{"schema":"judgement.v1",'


def encode_assessment(assessment: Assessment) -> bytes:
    """`judgement.v1` as UTF-8 JSON; each judge carries its `version`, for readers without our code.

    Raises InvalidTrace (`too_large`) when evidence makes it larger than `MAX_MESSAGE_BYTES`: an answer of
    ten thousand one-word sentences can.
    """
    message = {"schema": "judgement.v1", **_ASSESSMENT.dump_python(assessment, mode="json")}
    for judgement, said in zip(message["judgements"], assessment.judgements, strict=True):
        judgement["judge"]["version"] = said.judge.version
    raw = to_bytes(message)
    if len(raw) > MAX_MESSAGE_BYTES:
        problem = f"{len(raw)} bytes once judged; at most {MAX_MESSAGE_BYTES} are allowed"
        raise InvalidTrace("$", problem, DeadLetterReason.TOO_LARGE)
    return raw


def decode_assessment(raw: bytes) -> Assessment:
    """Read one `judgement.v1`; raises InvalidMessage when it is not one."""
    try:
        if raw.startswith(_OURS):
            # As our encoder writes it: one pass, without a Python object for each value on its way.
            return _ASSESSMENT.validate_json(raw)
        message = from_json(raw)
        if not isinstance(message, dict) or message.get("schema") != "judgement.v1":
            raise InvalidMessage("judgement.v1: `schema` does not say so")
        return _ASSESSMENT.validate_python(message)
    except ValidationError as error:
        raise InvalidMessage(f"judgement.v1: {InvalidTrace(*first_problem(error))}") from None
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
