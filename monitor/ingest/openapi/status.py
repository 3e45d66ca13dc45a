"""What `/healthz`, `/readyz` and `/v1/status` answer."""

from functools import cache

from monitor.ingest.openapi.parts import Description, Schema, answer, ref, refusals

_COUNT: Schema = {"type": "integer", "minimum": 0}
_PROBLEM: Schema = {"type": ["string", "null"]}
_SPOOL: Schema = {
    "type": "object",
    "required": ["records", "bytes", "max_bytes", "aside", "oldest_seconds", "problem"],
    "properties": {
        "records": {**_COUNT, "description": "That wait."},
        "bytes": _COUNT,
        "max_bytes": _COUNT,
        "aside": {**_COUNT, "description": "Records that cannot be sent, and are kept."},
        "oldest_seconds": {"type": ["number", "null"]},
        "problem": _PROBLEM,
    },
}
_KAFKA: Schema = {
    "type": "object",
    "required": ["state", "in_flight", "retries", "problem"],
    "properties": {
        "state": {"enum": ["untried", "up", "down"]},
        "in_flight": _COUNT,
        "retries": _COUNT,
        "problem": _PROBLEM,
    },
}
_ASSEMBLY: Schema = {
    "type": "object",
    "required": ["open", "waiting_bytes", "assembled", "not_rag", "late_spans", "completed"],
    "properties": {
        "completed": {"type": "object", "additionalProperties": _COUNT, "description": "Traces by why."},
        **dict.fromkeys(("open", "waiting_bytes", "assembled", "not_rag", "late_spans"), _COUNT),
    },
}
_CHECKING: Schema = {
    "type": "object",
    "description": "Of checks; all but the state only where they are answered.",
    "required": ["state"],
    "properties": {
        "state": {"enum": ["off", "starting", "ready", "problem"]},
        "problem": _PROBLEM,
        "judges": {"type": "array", "items": {"type": "string"}, "description": "By version, cheapest first."},
        "version": {"type": ["string", "null"]},
        "waiting": {**_COUNT, "description": "Checks that the judges have not done with."},
        "restarts": {**_COUNT, "description": "Of the judging process."},
        "answered": {"type": "object", "additionalProperties": _COUNT, "description": "By outcome."},
    },
}
_SIDECAR: Schema = {
    "type": "object",
    "required": ["uptime_seconds", "accepted", "refused", "forwarded", "assembly", "spool", "exports", "kafka"],
    "properties": {
        "uptime_seconds": {"type": "number", "minimum": 0},
        "accepted": {**_COUNT, "description": "Traces since the start."},
        "refused": {"type": "object", "additionalProperties": _COUNT, "description": "By reason, or `reason:field`."},
        "forwarded": {**_COUNT, "description": "Traces that Kafka has confirmed."},
        "dropped": {"type": "object", "additionalProperties": _COUNT, "description": "By the policy that did it."},
        "redacted": {"type": "object", "additionalProperties": _COUNT, "description": "Findings by redaction rule."},
        "assembly": ref("Assembly"),
        "spool": ref("Spool"),
        "exports": ref("Spool"),
        "assembled": ref("Spool"),
        "kafka": ref("Kafka"),
        "tee": {"type": ["object", "null"], "description": "Exports that are passed on, where they are."},
        "feedback": {"type": ["object", "null"], "description": "Counts and the spool of feedback."},
        "checking": ref("Checking"),
        "access": ref("Access"),
    },
}
_ACCESS: Schema = {
    "type": "object",
    "required": ["problem", "refused", "certificate"],
    "properties": {
        "problem": _PROBLEM,
        "refused": {"type": "object", "additionalProperties": _COUNT, "description": "Callers not let in, by cause."},
        "certificate": {
            "type": ["object", "null"],
            "required": ["expires", "problem"],
            "properties": {"expires": {"type": "string", "format": "date-time"}, "problem": _PROBLEM},
        },
    },
}
_READY: Schema = {
    "type": "object",
    "required": ["ready", "problem"],
    "properties": {"ready": {"type": "boolean"}, "problem": _PROBLEM},
}
_HEALTH: Schema = {"type": "object", "required": ["status"], "properties": {"status": {"const": "ok"}}}


@cache
def description() -> Description:
    """The routes."""
    told = {"200": answer("Counts since the start, what waits, and how Kafka is.", ref("SidecarStatus"))}
    health = {"200": answer("The process answers.", _HEALTH)}
    ready = {
        "200": answer("A trace would be accepted.", _READY),
        "503": answer("A trace would not be accepted; `problem` says why.", _READY),
    }
    return Description(
        paths={
            "/v1/status": {
                "get": {
                    "operationId": "status",
                    "summary": "How the sidecar stands",
                    "responses": {**told, **refusals((401,), ref("Refusal"))},
                }
            },
            "/healthz": {"get": {"operationId": "health", "summary": "Alive", "responses": health}},
            "/readyz": {"get": {"operationId": "ready", "summary": "Ready", "responses": ready}},
        },
        schemas={
            "SidecarStatus": _SIDECAR,
            "Spool": _SPOOL,
            "Kafka": _KAFKA,
            "Assembly": _ASSEMBLY,
            "Access": _ACCESS,
            "Checking": _CHECKING,
        },
    )
