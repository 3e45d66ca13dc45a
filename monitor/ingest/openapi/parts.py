"""What descriptions of several routes share (OpenAPI 3.1, spec.openapis.org/oas/v3.1.0)."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from monitor.ingest.counters import Refusal

JSON = "application/json"

Schema = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Description:
    """What one API says of itself.

    Attributes:
        paths: OpenAPI path items by path.
        schemas: that its paths refer to as `#/components/schemas/NAME`.
    """

    paths: Mapping[str, Mapping[str, Any]]
    schemas: Mapping[str, Schema] = field(default_factory=dict)


RETRY_AFTER = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer", "minimum": 1}}}

_REFUSAL = {
    "type": "object",
    "required": ["accepted", "reason", "problem"],
    "properties": {
        "accepted": {"const": 0},
        "reason": {"type": "string", "enum": [str(reason) for reason in Refusal]},
        "problem": {"type": "string", "description": "What is wrong, and what is allowed."},
    },
}
SCHEMAS: Mapping[str, Schema] = {"Refusal": _REFUSAL}
"""Those of the parts here."""

_WHY = {
    400: "It cannot be read: not JSON, or broken gzip.",
    401: "No token that holds, where tokens are asked for.",
    403: "A trace of another tenant than the token's.",
    408: "The body took too long to arrive.",
    413: "Too large, as sent or decompressed, or too many traces.",
    415: "Another content type or content encoding.",
    503: "Busy, or the disk is full or cannot be written: try again later.",
}


def ref(name: str) -> Schema:
    """A schema among the components."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(description: str, schema: Schema, *others: str) -> Mapping[str, Any]:
    """A response in JSON, and in other media types that the schema says nothing of."""
    binary = {other: {"schema": {"type": "string", "format": "binary"}} for other in others}
    return {"description": description, "content": {JSON: {"schema": schema}, **binary}}


def refusals(statuses: Iterable[int], schema: Schema, *others: str) -> Mapping[str, Mapping[str, Any]]:
    """The responses to requests that are refused as a whole."""
    return {
        str(status): {
            **answer(_WHY[status], schema, *others),
            **({"headers": RETRY_AFTER} if status == 503 else {}),  # noqa: PLR2004 - Service Unavailable
        }
        for status in statuses
    }


CODING = {
    "name": "Content-Encoding",
    "in": "header",
    "description": "`gzip` (or `x-gzip`), or nothing.",
    "schema": {"type": "string", "enum": ["gzip", "x-gzip", "identity"]},
}
