"""Traces, exports and feedback with something in every field that must not be kept."""

import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

EMAIL, BADGE = "jane.roe@example.org", "badge-4711"
ESCAPED = "".join(f"\\u{ord(char):04x}" for char in EMAIL)
SECRET = (EMAIL, BADGE, ESCAPED)
_ID = bytes(range(1, 17))


def secret_trace() -> dict[str, Any]:
    return {
        "trace_id": f"req-{BADGE}",
        "service": f"desk-{BADGE}",
        "environment": f"{BADGE}",
        "question": f"Does {EMAIL} open the office?",
        "documents": [
            {
                "id": f"{EMAIL}",
                "text": f"{BADGE} opens it, says {EMAIL}.",
                "metadata": {EMAIL: {"by": [BADGE, {"a": EMAIL}]}},
            }
        ],
        "answer": f"Yes: {BADGE}.",
        "generator_model": EMAIL,
        "prompt_version": BADGE,
        "tags": {EMAIL: BADGE},
    }


def hidden_in_json() -> dict[str, Any]:
    """Texts that are JSON, or a piece of it, with the address behind escapes."""
    documents = [{"id": "d", "text": f'{{"cut": "{ESCAPED}", "by": "{BADGE}", "sho'}]
    question = f'{{"office": "{ESCAPED}"}}'
    return {**secret_trace(), "trace_id": "hidden", "question": question, "documents": documents}


def secret_feedback() -> dict[str, Any]:
    return {
        "feedback_id": f"f-{BADGE}",
        "trace_id": f"req-{BADGE}",
        "outcome": BADGE,
        "corrected_answer": EMAIL,
        "comment": f"{ESCAPED} {BADGE}",
    }


def secret_export() -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add(schema_url=f"https://{EMAIL}")
    _add(resource_spans.resource.attributes, "service.name", f"desk {BADGE}")
    scope_spans = resource_spans.scope_spans.add(schema_url=BADGE)
    scope_spans.scope.name, scope_spans.scope.version = EMAIL, BADGE
    _add(scope_spans.scope.attributes, EMAIL, BADGE)
    root = scope_spans.spans.add(trace_id=_ID, span_id=_ID[:8], name=f"chain {EMAIL}", trace_state=f"a={BADGE}")
    root.status.message = f"{EMAIL} failed"
    _add(root.attributes, "openinference.span.kind", "CHAIN")
    _add(root.attributes, "input.value", f'{{"query": "Does {ESCAPED} open the office?"}}')
    _add(root.attributes, "output.value", f"Yes: {BADGE}.")
    nested = root.attributes.add(key=BADGE).value
    nested.kvlist_value.values.add(key=EMAIL).value.array_value.values.add(string_value=EMAIL)
    root.attributes.add(key="raw").value.bytes_value = EMAIL.encode()
    root.attributes.add(key="latin").value.bytes_value = f"\xff {BADGE}".encode("latin-1")
    _add(root.events.add(name=f"said {EMAIL}").attributes, "text", BADGE)
    _add(root.links.add(trace_id=_ID, span_id=_ID[8:], trace_state=f"b={BADGE}").attributes, EMAIL, "x")
    retriever = scope_spans.spans.add(trace_id=_ID, span_id=_ID[4:12], parent_span_id=_ID[:8], name="retriever")
    _add(retriever.attributes, "openinference.span.kind", "RETRIEVER")
    _add(retriever.attributes, "retrieval.documents.0.document.content", f"{BADGE} opens it, says {EMAIL}.")
    # A field that OTLP does not have: number 99, with text.
    unknown = bytes([0x9A, 0x06, len(EMAIL)]) + EMAIL.encode()
    return ExportTraceServiceRequest.FromString(request.SerializeToString() + unknown)


def secret_export_json() -> bytes:
    """The same trace under another id, in OTLP's JSON."""
    exported = MessageToDict(secret_export())
    for span in exported["resourceSpans"][0]["scopeSpans"][0]["spans"]:
        span["traceId"] = "ab" * 16
        for name in ("spanId", "parentSpanId"):
            if name in span:
                span[name] = {"AQIDBAUGBwg=": "01" * 8, "BQYHCAkKCww=": "05" * 8}[span[name]]
        for link in span.get("links", []):
            link["traceId"], link["spanId"] = "ab" * 16, "09" * 8
        span["attributes"] = [pair for pair in span["attributes"] if "bytesValue" not in pair["value"]]
    return json.dumps({**exported, EMAIL: BADGE}).encode()


def _add(attributes: Any, key: str, value: str) -> None:
    pair: KeyValue = attributes.add(key=key)
    pair.value.string_value = value
