"""What `POST /v1/check` takes and answers."""

from functools import cache
from typing import Any

from monitor.domain.judgement import Tier, Unjudgeable
from monitor.domain.verdict import Label
from monitor.ingest.openapi.items import contract_of
from monitor.ingest.openapi.parts import JSON, Description, Schema, answer, ref, refusals

NO_VERDICT_IN_TIME, COULD_NOT_JUDGE = "no_verdict_in_time", "could_not_judge"

_OTHERWISE = {
    "trace_id": "it gets a random one",
    "event_time": "it gets the time of its receipt",
    "service": "it is `check`",
}
_OFFSET: Schema = {"type": "integer", "minimum": 0}
_PLACE: Schema = {"type": ["integer", "null"], "minimum": 0}
_SPAN: Schema = {
    "type": "object",
    "description": "A stretch of the answer that no document supports; offsets are in code points, the end exclusive.",
    "required": ["start", "end", "score", "document_id", "document_start", "document_end"],
    "properties": {
        "start": _OFFSET,
        "end": _OFFSET,
        "score": {"type": "number", "description": "How unsupported, 0 to 1."},
        "document_id": {"type": ["string", "null"], "description": "The document with the nearest support."},
        "document_start": _PLACE,
        "document_end": _PLACE,
    },
}
_VERDICT: Schema = {
    "type": "object",
    "required": ["label", "hallucination_probability", "tier", "judge", "version", "unsupported"],
    "properties": {
        "label": {"enum": [str(label) for label in Label]},
        "hallucination_probability": {"type": "number", "minimum": 0, "maximum": 1},
        "tier": {"enum": [str(Tier.SCREEN), str(Tier.EDGE), None], "description": "Of the judge."},
        "judge": {"type": ["string", "null"], "description": "The dearest one whose word counted, by exact version."},
        "version": {"type": "string", "description": "Of all judges, calibration and policy together."},
        "unsupported": {"type": "array", "items": ref("Unsupported")},
    },
}
_REASONS = [NO_VERDICT_IN_TIME, *(f"{COULD_NOT_JUDGE}: {reason}" for reason in Unjudgeable)]
_CHECKED: Schema = {
    "type": "object",
    "required": ["trace_id", "verdict", "complete", "reason", "elapsed_ms"],
    "properties": {
        "trace_id": {"type": "string"},
        "verdict": {"anyOf": [ref("CheckVerdict"), {"type": "null"}]},
        "complete": {
            "type": "boolean",
            "description": "False where a further judge was to be asked and had not spoken when the time was over.",
        },
        "reason": {"enum": [*_REASONS, None], "description": "Why there is no verdict."},
        "elapsed_ms": {"type": "number", "minimum": 0},
    },
}
_INVALID: Schema = {
    "type": "object",
    "required": ["accepted", "reason", "field", "problem"],
    "properties": {
        "accepted": {"const": 0},
        "reason": {"type": "string"},
        "field": {"type": "string", "description": "Its path; `$` where the whole is to blame."},
        "problem": {"type": "string", "description": "What is wrong, and what is allowed."},
    },
}
_EXAMPLE: Schema = {
    "question": "When does the office open?",
    "documents": [{"id": "handbook-12", "text": "The office opens at nine."}],
    "answer": "At ten.",
    "budget_ms": 300,
}


@cache
def description(budget_milliseconds: int, most_milliseconds: int) -> Description:
    """The route; `budget_ms` is the first where a check names none, and at most the second."""
    contract: dict[str, Any] = contract_of("rag_trace.v1.json", _OTHERWISE)
    documents = contract.pop("$defs")
    contract["title"] = "An answer to be checked"
    contract["properties"]["budget_ms"] = {
        "type": ["number", "null"],
        "minimum": 1,
        "maximum": most_milliseconds,
        "description": f"Milliseconds that the caller waits, from its arrival on; {budget_milliseconds} without.",
    }
    operation = {
        "operationId": "check",
        "summary": "Judge an answer before it is given",
        "description": "Answered within `budget_ms`, verdict or none. What is sent is judged, and kept nowhere.",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": ref("Check"),
                    "examples": {"one": {"summary": "An unsupported answer", "value": _EXAMPLE}},
                }
            },
        },
        "responses": {
            "200": answer("A verdict, or why there is none.", ref("Checked")),
            "422": answer("A field is missing or not as it should be.", ref("InvalidCheck")),
            **refusals((400, 401, 403, 408, 413, 415, 503), ref("Refusal")),
        },
    }
    schemas = {
        **documents,
        "Check": contract,
        "Checked": _CHECKED,
        "CheckVerdict": _VERDICT,
        "Unsupported": _SPAN,
        "InvalidCheck": _INVALID,
    }
    return Description(paths={"/v1/check": {"post": operation}}, schemas=schemas)
