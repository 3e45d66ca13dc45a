"""OTLP in both encodings: what can be read is read, what cannot is counted, and nothing crashes."""

import json
import random
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitor.domain.errors import InvalidMessage
from monitor.otlp import Export, decode_json, decode_protobuf
from monitor.spans.assembling import assemble
from tests.examples.spans import FILES, recorded_bytes

MUTATIONS = 1500


def exported(*spans: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"resourceSpans": [{"scopeSpans": [{"spans": list(spans)}], **more}]}).encode()


def span(**changes: Any) -> dict[str, Any]:
    return {"traceId": "ab" * 16, "spanId": "cd" * 8, "name": "s", "startTimeUnixNano": "12", **changes}


def attribute(key: str, **value: Any) -> dict[str, Any]:
    return {"key": key, "value": value}


def test_json_is_read_as_the_specification_has_it() -> None:
    values = [
        attribute("text", stringValue="ä"),
        attribute("whole", intValue="9007199254740993"),
        attribute("number", intValue=3),
        attribute("share", doubleValue=0.5),
        attribute("yes", boolValue=True),
        attribute("list", arrayValue={"values": [{"stringValue": "a"}, {"intValue": "1"}]}),
        attribute("object", kvlistValue={"values": [attribute("k", stringValue="v")]}),
        attribute("bytes", bytesValue="AAE="),
        attribute("empty"),
    ]
    event = {"name": "e", "attributes": [attribute("k", stringValue="v")]}
    raw = exported(
        span(parentSpanId="EF" * 8, endTimeUnixNano=20, attributes=values, events=[event], droppedAttributesCount=2),
        resource={"attributes": [attribute("service.name", stringValue="desk")]},
    )
    (one,) = decode_json(raw).spans
    assert (one.trace_id, one.span_id, one.parent_id) == ("ab" * 16, "cd" * 8, "ef" * 8)
    assert (one.start_ns, one.end_ns, one.dropped, one.resource) == (12, 20, 2, {"service.name": "desk"})
    assert one.attributes == {
        "text": "ä",
        "whole": 9007199254740993,
        "number": 3,
        "share": 0.5,
        "yes": True,
        "list": ["a", 1],
        "object": {"k": "v"},
        "bytes": "AAE=",
        "empty": None,
    }
    assert [(event.name, event.attributes) for event in one.events] == [("e", {"k": "v"})]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"traceId": "ab" * 15}, "traceId: should be 16 bytes"),
        ({"traceId": "00" * 16}, "not all zero"),
        ({"traceId": None}, "traceId: should be 32 hexadecimal digits"),
        ({"spanId": "xy" * 8}, "spanId: should be 16 hexadecimal digits"),
        ({"parentSpanId": "ab"}, "parentSpanId"),
        ({"startTimeUnixNano": "soon"}, "startTimeUnixNano: should be a whole number"),
        ({"endTimeUnixNano": -1}, "endTimeUnixNano: should be between"),
        ({"startTimeUnixNano": 2**64}, "startTimeUnixNano: should be between"),
        ({"startTimeUnixNano": "9" * 10_000}, "startTimeUnixNano"),
    ],
)
def test_one_bad_span_does_not_take_the_others_with_it(changes: dict[str, Any], reason: str) -> None:
    export = decode_json(exported(span(**changes), span(name="good")))
    assert [one.name for one in export.spans] == ["good"]
    assert export.rejected == 1
    assert reason in (export.reason or "")


def test_bad_ids_in_protobuf_are_rejected_span_by_span() -> None:
    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add().scope_spans.add().spans
    for trace_id, name in ((b"\x01" * 16, "good"), (b"\x01" * 15, "short"), (bytes(16), "zero")):
        spans.add(trace_id=trace_id, span_id=b"\x02" * 8, name=name)
    export = decode_protobuf(request.SerializeToString())
    assert ([one.name for one in export.spans], export.rejected) == (["good"], 2)


@pytest.mark.parametrize("raw", [b"", b"{}", b'{"resourceSpans": []}'])
def test_nothing_is_an_export_of_nothing(raw: bytes) -> None:
    assert (decode_protobuf if not raw else decode_json)(raw) == Export(spans=())


@pytest.mark.parametrize(
    "raw", [b"[]", b"7", b"nonsense", b'{"resourceSpans": 7}', b"[" * 200_000, b"\xff\xfe", b'"\\ud800"']
)
def test_what_is_no_export_says_so(raw: bytes) -> None:
    with pytest.raises(InvalidMessage, match="OTLP"):
        decode_json(raw)


def test_values_nested_beyond_reason_are_cut() -> None:
    value: dict[str, Any] = {"stringValue": "deep"}
    for _ in range(90):
        value = {"arrayValue": {"values": [value]}}
    (one,) = decode_json(exported(span(attributes=[{"key": "k", "value": value}]))).spans
    depth, at = 0, one.attributes["k"]
    while isinstance(at, list):
        depth, at = depth + 1, at[0] if at else None
    assert depth == 32
    assert at is None


def field(number: int, content: bytes) -> bytes:
    """A length-delimited field of protobuf, its length in five bytes."""
    length = bytes((len(content) >> shift & 0x7F) | 0x80 for shift in (0, 7, 14, 21)) + bytes([len(content) >> 28])
    return bytes([number << 3 | 2]) + length + content


MANY = 600_000
EMPTY_PARTS = {
    "resources": b"\x0a\x00" * MANY,
    "spans": field(1, field(2, b"\x12\x00" * MANY)),
    "attributes": field(1, field(2, field(2, b"\x4a\x00" * MANY))),
    "events": field(1, field(2, field(2, b"\x5a\x00" * MANY))),
    "values": field(1, field(2, field(2, field(9, field(2, field(5, b"\x0a\x00" * MANY)))))),
}


@pytest.mark.parametrize("parts", EMPTY_PARTS)
def test_millions_of_empty_parts_are_refused_before_they_are_unfolded(parts: str) -> None:
    with pytest.raises(InvalidMessage, match="more than 500000 spans, attributes and values"):
        decode_protobuf(EMPTY_PARTS[parts])


def test_so_are_those_of_json() -> None:
    with pytest.raises(InvalidMessage, match="more than 500000 spans, attributes and values"):
        decode_json(b'{"resourceSpans":[' + b"{}," * MANY + b"{}]}")


def test_what_only_looks_like_parts_is_read() -> None:
    request = ExportTraceServiceRequest.FromString(small(recorded_bytes(FILES[0], "pb"), "pb"))
    text = "\x12\x00" * MANY
    request.resource_spans[0].scope_spans[0].spans[0].attributes.add(key="k").value.string_value = text
    assert decode_protobuf(request.SerializeToString()).spans[0].attributes["k"] == text


def small(raw: bytes, form: str) -> bytes:
    """A whole export of the first nine spans, so that many can be tried."""
    if form == "json":
        export = json.loads(raw)
        del export["resourceSpans"][0]["scopeSpans"][0]["spans"][9:]
        return json.dumps(export).encode()
    request = ExportTraceServiceRequest.FromString(raw)
    del request.resource_spans[0].scope_spans[0].spans[9:]
    return request.SerializeToString()


@pytest.mark.parametrize("form", ["pb", "json"])
@pytest.mark.parametrize("file", FILES)
def test_mutated_exports_never_crash(file: str, form: str) -> None:
    """Cut, flipped, repeated and spliced: an export that can be read, or an error that says it cannot."""
    decode = decode_protobuf if form == "pb" else decode_json
    whole = small(recorded_bytes(file, form), form)
    dice = random.Random(f"{file}{form}")
    outcomes = {"read": 0, "refused": 0}
    for number in range(MUTATIONS):
        raw = bytearray(whole if number % 10 else whole[: dice.randrange(1, len(whole))])
        for _ in range(dice.randrange(1, 8)):
            place = dice.randrange(len(raw))
            match dice.randrange(4):
                case 0:
                    raw[place] = dice.randrange(256)
                case 1:
                    raw[place] ^= 1 << dice.randrange(8)
                case 2:
                    del raw[place : place + dice.randrange(50)]
                case _:
                    raw[place:place] = raw[place : place + dice.randrange(200)]
            if not raw:
                raw = bytearray(b"\x0a")
        try:
            export = decode(bytes(raw))
        except InvalidMessage:
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        for trace_id in {one.trace_id for one in export.spans}:
            assemble(one for one in export.spans if one.trace_id == trace_id)
    assert min(outcomes.values()) > MUTATIONS // 100, outcomes
