"""Traces, exports and feedback with something in every field that must not be kept."""

import base64
import json
from typing import Any

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import KeyValue

EMAIL, BADGE = "jane.roe@example.org", "badge-4711"
ESCAPED = "".join(f"\\u{ord(char):04x}" for char in EMAIL)
IN_AN_ID, REPEATED = "badge-4713", "badge-4714"
AS_BASE64 = base64.b64encode(EMAIL.encode()).decode()
CARD, CARD_NUMBER, IBAN = "4111 1111 1111 1111", 5500005555555559, "BE68 5390 0754 7034"
_PEM_BODY, _PGP_BODY, _CUT_BODY = "MIIEpAIBencrypted+/", "lQdGBGpgpbody", "MIIBcutoff"
_TOKEN_END, _HOOK = "Zz9endOfToken", "T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX"
_BASIC, _BEARER, _URL, _QUOTED, _ENDING = (
    "dXNlcjpwYXNz",
    "s3cr3t-b",
    "t0ken-of-cache",
    "correct horse battery",
    "endOfPassword",
)
_WITH_SEMICOLONS, _IN_QUERY, _MAIL_IN_QUERY = "ab;cd,ef", "q7", "jane.roe%40example.com"
TEXTS = (
    f"{CARD} 12/29",
    f"12/29 {CARD.replace(' ', chr(0xA0))} 123",
    f"{IBAN} KRED",
    f"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{_PEM_BODY}\n-----END RSA PRIVATE KEY-----",
    f"-----BEGIN PGP PRIVATE KEY BLOCK-----\nComment: (J)\n\n{_PGP_BODY}\n-----END PGP PRIVATE KEY BLOCK-----",
    f"ghp_{'a1B2' * 70}{_TOKEN_END}",
    "glpat-abcdefghij0123456789",
    f"https://hooks.slack.com/services/{_HOOK}",
    f"Authorization: Basic {_BASIC}",
    f"Bearer {_BEARER}",
    f"redis://:{_URL}@cache:6379",
    f"password='{_QUOTED}'",
    f"password={'x' * 300}{_ENDING}",
    f"Password={_WITH_SEMICOLONS};Database=x",
    f"/login?pwd={_IN_QUERY}&mail={_MAIL_IN_QUERY}",
    f"-----BEGIN PRIVATE KEY-----\n{_CUT_BODY}",  # the last one: its end is missing
)
"""What the patterns that are built in find, each in a text of its own."""

SECRET = (
    *(EMAIL, BADGE, ESCAPED, IN_AN_ID, REPEATED, AS_BASE64),
    *(CARD, CARD.replace(" ", chr(0xA0)), str(CARD_NUMBER), IBAN),
    *(_PEM_BODY, _PGP_BODY, _CUT_BODY, _TOKEN_END, "glpat-abcdefghij", _HOOK),
    *(_BASIC, _BEARER, _URL, _QUOTED, _ENDING, _WITH_SEMICOLONS, f"pwd={_IN_QUERY}", _MAIL_IN_QUERY),
)
"""What is looked for: none of it is anywhere."""

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
                "metadata": {EMAIL: {"by": [BADGE, {"a": EMAIL}]}, "card": CARD_NUMBER, "texts": list(TEXTS)},
            },
            {"id": f"also {EMAIL}", "text": "\n".join(TEXTS)},
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
        "comment": f"{ESCAPED} {BADGE} " + "\n".join(TEXTS),
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
    _add(retriever.attributes, "retrieval.documents.1.document.content", "\n".join(TEXTS))
    for number, text in enumerate(TEXTS):
        _add(retriever.attributes, f"text.{number}", text)
    root.attributes.add(key="card").value.int_value = CARD_NUMBER
    stray = scope_spans.spans.add(trace_id=_ID, span_id=_ID[2:10], parent_span_id=IN_AN_ID.encode(), name="stray")
    stray.links.add(trace_id=IN_AN_ID.encode(), span_id=IN_AN_ID.encode())
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
                span[name] = _JSON_IDS.get(span[name], IN_AN_ID)
        for link in span.get("links", []):
            link["traceId"], link["spanId"] = "ab" * 16, "09" * 8
    written = json.dumps({**exported, EMAIL: BADGE})
    return written.replace('"name": "retriever"', f'"name": "{REPEATED}", "name": "retriever"').encode()


_JSON_IDS = {
    base64.b64encode(was).decode(): now * 8 for was, now in ((_ID[:8], "01"), (_ID[4:12], "05"), (_ID[2:10], "03"))
}


def _add(attributes: Any, key: str, value: str) -> None:
    pair: KeyValue = attributes.add(key=key)
    pair.value.string_value = value
