"""What `POST /v1/traces` takes and answers: OTLP over HTTP, whose own definition is the protocol buffers'."""

from functools import cache

from monitor.ingest.openapi.parts import JSON, Description, Schema, answer, ref, refusals

_PROTOBUF = "application/x-protobuf"

_EXPORT: Schema = {
    "type": "object",
    "description": "An ExportTraceServiceRequest in OTLP's JSON (opentelemetry.io/docs/specs/otlp).",
    "properties": {
        "resourceSpans": {"type": "array", "description": "ResourceSpans; what cannot be read is told or passed over."}
    },
}
_EXPORTED: Schema = {
    "type": "object",
    "description": "An ExportTraceServiceResponse.",
    "properties": {
        "partialSuccess": {
            "type": "object",
            "properties": {
                "rejectedSpans": {"type": "string", "pattern": "^[0-9]+$"},
                "errorMessage": {"type": "string"},
            },
        }
    },
}
_STATUS: Schema = {
    "type": "object",
    "description": "A google.rpc.Status.",
    "required": ["code", "message"],
    "properties": {"code": {"type": "integer"}, "message": {"type": "string"}},
}
_SPAN: Schema = {
    "traceId": "5b8efff798038103d269b633813fc60c",
    "spanId": "eee19b7ec3c1b174",
    "name": "chain",
    "startTimeUnixNano": "1770000000000000000",
    "endTimeUnixNano": "1770000001000000000",
    "attributes": [
        {"key": "openinference.span.kind", "value": {"stringValue": "CHAIN"}},
        {"key": "input.value", "value": {"stringValue": "When does the office open?"}},
    ],
}
_RESOURCE: Schema = {"attributes": [{"key": "service.name", "value": {"stringValue": "support-bot"}}]}
_EXAMPLE: Schema = {"resourceSpans": [{"resource": _RESOURCE, "scopeSpans": [{"spans": [_SPAN]}]}]}


@cache
def description() -> Description:
    """The route."""
    operation = {
        "operationId": "exportSpans",
        "summary": "Send OpenTelemetry spans (OTLP over HTTP)",
        "description": "Answered in the request's encoding. Spans that cannot be read are counted in partialSuccess.",
        "requestBody": {
            "required": True,
            "content": {
                JSON: {
                    "schema": ref("Export"),
                    "examples": {"one": {"summary": "One span", "value": _EXAMPLE}},
                },
                _PROTOBUF: {"schema": {"type": "string", "format": "binary"}},
            },
        },
        "responses": {
            "200": answer("All spans that can be read are on disk.", ref("Exported"), _PROTOBUF),
            **refusals((400, 401, 408, 413, 415, 503), ref("Status"), _PROTOBUF),
        },
    }
    schemas = {"Export": _EXPORT, "Exported": _EXPORTED, "Status": _STATUS}
    return Description(paths={"/v1/traces": {"post": operation}}, schemas=schemas)
