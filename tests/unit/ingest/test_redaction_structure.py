"""What is no text stays as it was, whatever its digits look like: ids, times and counts of exports."""

import json
import random
from collections import Counter
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitor.config import RedactionSettings, Settings
from monitor.ingest.counters import Tally
from monitor.ingest.treatment import Treatment
from monitor.otlp import JSON, PROTOBUF, decode
from monitor.redaction.cards import luhn
from monitor.services.treatment import treatment

CARD = 4111111111111111
SPANS, EXPORTS = 500, 20
LOOKED_AT = "the password is wanted: 4111 1111 1111 1112"
"""Holds nothing, but may: what has it in it is parsed and written anew."""


def treated(**changes: Any) -> tuple[Treatment, Tally]:
    tally = Tally()
    return treatment(Settings(redaction=RedactionSettings(**changes)), tally), tally


def span_json(dice: random.Random) -> dict[str, Any]:
    # Times from 2001 to 2033, in nanoseconds; in about one of ten the check digit holds by chance.
    start = dice.randrange(10**18, 2 * 10**18)
    return {
        "traceId": dice.randbytes(16).hex(),
        # One of ten is digits only: 16 of them, as cards have.
        "spanId": f"{dice.randrange(10**16):016}" if dice.random() < 0.1 else dice.randbytes(8).hex(),
        "parentSpanId": f"{dice.randrange(10**16):016}",
        "name": "retrieve",
        "kind": dice.choice([1, "SPAN_KIND_INTERNAL"]),
        "startTimeUnixNano": str(start),
        "endTimeUnixNano": start + dice.randrange(10**9),
        "attributes": [
            {"key": "llm.token_count.total", "value": {"intValue": str(dice.randrange(10**6))}},
            {"key": "started_ns", "value": {"intValue": str(start)}},
            {"key": "started_ms", "value": {"doubleValue": start / 10**6}},
            {"key": "retrieval.documents.0.document.score", "value": {"doubleValue": dice.random()}},
        ],
        "events": [{"timeUnixNano": str(start), "name": "e", "attributes": []}],
        "links": [{"traceId": dice.randbytes(16).hex(), "spanId": f"{dice.randrange(10**16):016}"}],
        "status": {"code": "STATUS_CODE_OK"},
    }


def export_json(spans: list[dict[str, Any]]) -> dict[str, Any]:
    resource = {"attributes": [{"key": "about", "value": {"stringValue": LOOKED_AT}}]}
    return {"resourceSpans": [{"resource": resource, "scopeSpans": [{"spans": spans}]}]}


def export_protobuf(spans: list[dict[str, Any]]) -> bytes:
    request = ExportTraceServiceRequest()
    resource_spans = request.resource_spans.add()
    resource_spans.resource.attributes.add(key="about").value.string_value = LOOKED_AT
    below = resource_spans.scope_spans.add().spans
    for one in spans:
        span = below.add(
            trace_id=bytes.fromhex(one["traceId"]),
            span_id=bytes.fromhex(one["spanId"]),
            parent_span_id=bytes.fromhex(one["parentSpanId"]),
            start_time_unix_nano=int(one["startTimeUnixNano"]),
            end_time_unix_nano=one["endTimeUnixNano"],
        )
        for pair in one["attributes"]:
            value = span.attributes.add(key=pair["key"]).value
            if "intValue" in pair["value"]:
                value.int_value = int(pair["value"]["intValue"])
            else:
                value.double_value = pair["value"]["doubleValue"]
        span.events.add(time_unix_nano=int(one["startTimeUnixNano"]))
        span.links.add(trace_id=bytes.fromhex(one["links"][0]["traceId"]), span_id=b"41111111")
    return request.SerializeToString()


@pytest.mark.parametrize("encoding", [JSON, PROTOBUF])
def test_ten_thousand_spans_keep_their_ids_times_and_counts(encoding: str) -> None:
    dice = random.Random(20260501)
    redaction, tally = treated()
    lucky = 0
    for _ in range(EXPORTS):
        spans = [span_json(dice) for _ in range(SPANS)]
        lucky += sum(luhn(span["startTimeUnixNano"]) for span in spans)
        raw = json.dumps(export_json(spans)).encode() if encoding == JSON else export_protobuf(spans)
        kept = redaction.export(raw, encoding)
        found = decode(kept, encoding)
        assert found == decode(raw, encoding)
        assert len(found.spans) == SPANS
        if encoding == JSON:
            assert json.loads(kept) == json.loads(raw)
        else:
            assert ExportTraceServiceRequest.FromString(kept) == ExportTraceServiceRequest.FromString(raw)
    assert lucky > 500
    assert tally.redactions == {}


def test_an_export_of_which_only_ids_and_times_look_like_something_is_not_touched() -> None:
    redaction, _ = treated()
    raw = json.dumps(export_json([span_json(random.Random(1)) for _ in range(SPANS)])).replace(LOOKED_AT, "x").encode()
    assert redaction.export(raw, JSON) == raw


def attributes_of(raw: bytes, encoding: str) -> Any:
    (span,) = decode(raw, encoding).spans
    return span.attributes


@pytest.mark.parametrize(
    "value",
    [
        {"intValue": str(CARD)},
        {"intValue": CARD},
        {"doubleValue": float(CARD)},
        {"doubleValue": "4.111111111111111e15"},
        {"stringValue": str(CARD)},
    ],
)
def test_a_card_that_is_a_number_becomes_a_mark(value: dict[str, Any]) -> None:
    redaction, tally = treated()
    span = {**span_json(random.Random(2)), "attributes": [{"key": "card", "value": value}]}
    kept = redaction.export(json.dumps(export_json([span])).replace(LOOKED_AT, "x").encode(), JSON)
    assert attributes_of(kept, JSON) == {"card": "[CARD]"}
    assert b"411111111" not in kept
    assert tally.redactions == {"card": 1}


@pytest.mark.parametrize("kind", ["int_value", "double_value"])
def test_a_card_that_is_a_number_in_protobuf_becomes_a_mark(kind: str) -> None:
    redaction, _ = treated()
    request = ExportTraceServiceRequest()
    span = request.resource_spans.add().scope_spans.add().spans.add(trace_id=b"t" * 16, span_id=b"s" * 8)
    setattr(span.attributes.add(key="card").value, kind, CARD)
    nested = span.attributes.add(key="cards").value.array_value.values.add()
    setattr(nested, kind, CARD + 5)  # its check digit does not hold
    kept = redaction.export(request.SerializeToString(), PROTOBUF)
    assert attributes_of(kept, PROTOBUF) == {"card": "[CARD]", "cards": [CARD + 5]}


@pytest.mark.parametrize(
    "number",
    [
        1714521600000000014,  # nanoseconds: the check digit holds, no issuer's numbers begin so
        1714521600007,
        9007199254740993,
        4111111111111112,
        41111111111111110,
        0,
        -CARD,
    ],
)
def test_other_numbers_stay_numbers(number: int) -> None:
    redaction, _ = treated()
    span = {**span_json(random.Random(3)), "attributes": [{"key": "n", "value": {"intValue": str(number)}}]}
    kept = redaction.export(json.dumps(export_json([span])).encode(), JSON)
    assert attributes_of(kept, JSON) == {"n": number}


def test_a_rule_of_ones_own_finds_a_whole_number_too() -> None:
    redaction, tally = treated(patterns=(), rules=[{"name": "badge", "regex": "47[0-9]{5}"}])
    values = [{"intValue": "4711001"}, {"intValue": "847110012"}, {"doubleValue": 0.4711001}, {"boolValue": True}]
    pairs = [{"key": str(at), "value": value} for at, value in enumerate(values)]
    kept = redaction.export(
        json.dumps(export_json([{**span_json(random.Random(4)), "attributes": pairs}])).encode(), JSON
    )
    assert attributes_of(kept, JSON) == {"0": "[BADGE]", "1": 847110012, "2": 0.4711001, "3": True}
    assert Counter(tally.redactions) == {"badge": 1}
