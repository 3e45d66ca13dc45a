"""Exports rewritten: every text of them, wherever it hides, and nothing else."""

import base64
import json
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitor.domain.errors import InvalidMessage
from monitor.otlp import JSON, decode
from monitor.otlp.rewriting import Rewriting
from monitor.otlp.rewriting_json import looked_at, rewrite_json
from monitor.otlp.rewriting_protobuf import large_numbers, rewrite_protobuf

HIDDEN = "jane"
REWRITING = Rewriting(
    text=lambda text: text.replace(HIDDEN, "[X]"), number=lambda number: "[N]" if number == 7 else None
)
TRACE, SPAN = "4a" * 16, "4111111111111111"


def export(**span: Any) -> dict[str, Any]:
    return {"resourceSpans": [{"scopeSpans": [{"spans": [{"traceId": TRACE, "spanId": SPAN, **span}]}]}]}


def rewritten(value: Any) -> Any:
    return json.loads(rewrite_json(json.dumps(value).encode(), REWRITING))


def span_of(value: Any) -> dict[str, Any]:
    span: dict[str, Any] = value["resourceSpans"][0]["scopeSpans"][0]["spans"][0]
    return span


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("traceId", TRACE),
        ("spanId", SPAN),
        ("parentSpanId", SPAN),
        ("startTimeUnixNano", "1714521600000000014"),
        ("endTimeUnixNano", 1714521600000000014),
        ("kind", 7),
        ("kind", "SPAN_KIND_INTERNAL"),
        ("droppedAttributesCount", 7),
        ("flags", 7),
        ("code", "STATUS_CODE_OK"),
    ],
)
def test_what_has_the_right_form_in_its_place_is_not_even_looked_at(name: str, right: object) -> None:
    def never(part: object) -> str:
        raise AssertionError(part)

    raw = json.dumps({name: right}).encode()
    assert json.loads(rewrite_json(raw, Rewriting(text=never, number=never))) == {name: right}


@pytest.mark.parametrize("name", ["traceId", "spanId", "parentSpanId", "startTimeUnixNano", "kind", "flags", "code"])
def test_what_stands_in_the_place_of_an_id_or_a_time_is_text(name: str) -> None:
    wrong = f"{HIDDEN}'s"
    assert span_of(rewritten(export(**{name: wrong})))[name] == "[X]'s"
    assert HIDDEN.encode() in (looked_at(json.dumps(export(**{name: wrong})).encode()) or b"")


@pytest.mark.parametrize("wrong", [TRACE[:-1], f"{TRACE}0", f" {TRACE}", SPAN])
def test_an_id_of_another_length_is_looked_at(wrong: str) -> None:
    assert wrong.encode() in (looked_at(json.dumps(export(traceId=wrong)).encode()) or b"")


def test_ids_and_times_are_not_looked_at() -> None:
    times = {"startTimeUnixNano": "1714521600000000014", "endTimeUnixNano": 1714521600000000014}
    seen = looked_at(json.dumps(export(parentSpanId=SPAN, **times, links=[{"traceId": TRACE}]), indent=1).encode())
    assert seen is not None
    assert not any(part.encode() in seen for part in (TRACE, SPAN, "1714521600000000014"))


def test_a_repeated_key_hides_nothing() -> None:
    raw = f'{{"name": "{HIDDEN}", "name": "b", "attributes": [{{"key": "{HIDDEN}", "key": "k"}}]}}'.encode()
    assert json.loads(rewrite_json(raw, REWRITING)) == {"name": "b", "attributes": [{"key": "k"}]}
    assert HIDDEN.encode() not in rewrite_json(raw, REWRITING)


def test_every_place_is_walked_keys_and_unknown_fields_too() -> None:
    odd = {HIDDEN: [HIDDEN, {"a": {HIDDEN: HIDDEN}}], "resourceSpans": {"b": HIDDEN}, "n": 7, "t": True, "z": None}
    assert rewritten(odd) == {"[X]": ["[X]", {"a": {"[X]": "[X]"}}], "resourceSpans": {"b": "[X]"}, "n": "[N]"} | {
        "t": True,
        "z": None,
    }


def test_keys_that_become_alike_stay_two_in_their_order() -> None:
    assert list(rewritten({HIDDEN: 1, "[X]": 2, "c": 3}).items()) == [("[X]", 1), ("[X]-2", 2), ("c", 3)]


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode, base64.encodebytes])
@pytest.mark.parametrize("stripped", [b"", b"="])
def test_base64_is_looked_into(encode: Any, stripped: bytes) -> None:
    text = f"?>{HIDDEN}?>>".encode()
    written = encode(text).rstrip(stripped or None).decode()
    raw = json.dumps(export(attributes=[{"key": "k", "value": {"bytesValue": written}}])).encode()
    assert looked_at(raw) is None
    kept = span_of(json.loads(rewrite_json(raw, REWRITING)))["attributes"][0]["value"]["bytesValue"]
    assert base64.b64decode(kept) == b"?>[X]?>>"


@pytest.mark.parametrize("written", ["/+8A", base64.b64encode(b"plain").decode(), "AAE", "no base64!"])
def test_base64_that_hides_nothing_stays_as_it_was_written(written: str) -> None:
    assert rewritten({"bytesValue": written}) == {"bytesValue": written}


def test_what_is_no_base64_is_text() -> None:
    assert rewritten({"bytesValue": f"{HIDDEN}!"}) == {"bytesValue": "[X]!"}


@pytest.mark.parametrize("value", [{"intValue": "7"}, {"intValue": 7}, {"doubleValue": 7.0}, {"doubleValue": "7e0"}])
def test_a_number_to_hide_becomes_a_text(value: dict[str, Any]) -> None:
    assert rewritten([value, {"intValue": "8"}, {"doubleValue": 0.7}]) == [
        {"stringValue": "[N]"},
        {"intValue": "8"},
        {"doubleValue": 0.7},
    ]


def test_a_number_that_is_text_is_text() -> None:
    assert rewritten({"intValue": HIDDEN, "doubleValue": f"NaN {HIDDEN}"}) == {
        "intValue": "[X]",
        "doubleValue": "NaN [X]",
    }


def test_what_can_be_read_of_deep_nesting_is_kept() -> None:
    value: dict[str, Any] = {"stringValue": HIDDEN}
    for _ in range(31):
        value = {"kvlistValue": {"values": [{"key": "k", "value": value}]}}
    raw = json.dumps(export(attributes=[{"key": "k", "value": value}])).encode()
    plain = decode(raw, JSON)
    assert HIDDEN in repr(plain)
    assert repr(decode(rewrite_json(raw, REWRITING), JSON)) == repr(plain).replace(HIDDEN, "[X]")


def test_deeper_nesting_is_written_empty_and_hopeless_nesting_is_refused() -> None:
    deep = b"[" * 600 + f'"{HIDDEN}"'.encode() + b"]" * 600
    assert HIDDEN.encode() not in rewrite_json(deep, REWRITING)
    with pytest.raises(InvalidMessage):
        rewrite_json(b"[" * 100_000, REWRITING)


def test_half_a_surrogate_pair_stays_what_it_was() -> None:
    assert rewritten({"a": "\ud800 ä"}) == {"a": "\ud800 ä"}


def test_protobuf_ids_stay_where_they_are_ids_and_are_text_else() -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    right, wrong = b"jane" * 4, b"by jane"
    for trace_id, span_id in ((right, right[:8]), (wrong, wrong)):
        span = spans.add(trace_id=trace_id, span_id=span_id, parent_span_id=span_id)
        span.links.add(trace_id=trace_id, span_id=span_id)
    first, second = (
        ExportTraceServiceRequest.FromString(rewrite_protobuf(request.SerializeToString(), REWRITING))
        .resource_spans[0]
        .scope_spans[0]
        .spans
    )
    assert first == spans[0]
    assert {second.trace_id, second.span_id, second.parent_span_id} == {b"by [X]"}
    assert {second.links[0].trace_id, second.links[0].span_id} == {b"by [X]"}


def test_large_numbers_are_seen_in_protobuf_as_it_was_sent() -> None:
    request = ExportTraceServiceRequest()
    attributes = request.resource_spans.add().resource.attributes
    numbers = [10**12 * 2, 4111111111111111, 2**63 - 1]
    for number in numbers:
        attributes.add(key="k").value.int_value = number
        attributes.add(key="k").value.double_value = number
    attributes.add(key="k").value.int_value = 4711
    seen = list(large_numbers(request.SerializeToString()))
    assert set(seen) >= {*numbers, *map(float, numbers)}
    assert 4711 not in seen
