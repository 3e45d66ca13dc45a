"""Spans: recorded ones, and made ones."""

import json
import lzma
from pathlib import Path
from typing import Any

from monitor.otlp import decode_json, decode_protobuf
from monitor.spans.span import Span, SpanEvent

RECORDED = Path(__file__).parents[1] / "data" / "spans"
FILES = ("oi-langchain", "oi-llamaindex", "tl-langchain", "tl-llamaindex")
FORMS = ("json", "pb")


def recorded_bytes(file: str, form: str) -> bytes:
    """One recorded export as it was sent."""
    return lzma.decompress((RECORDED / f"{file}.otlp.{form}.xz").read_bytes())


def recorded(file: str, form: str = "pb") -> tuple[Span, ...]:
    """The spans of one recorded export."""
    raw = recorded_bytes(file, form)
    return (decode_protobuf if form == "pb" else decode_json)(raw).spans


def answers(file: str) -> dict[str, dict[str, Any]]:
    """What each trace of a file really was: question, documents and answer by trace id."""
    lines = lzma.decompress((RECORDED / "answers.jsonl.xz").read_bytes()).decode().splitlines()
    return {row["trace_id"]: row for line in lines if (row := json.loads(line))["file"] == file}


def span(
    name: str,
    *,
    parent: str | None = None,
    at: int = 0,
    seconds: int = 1,
    events: tuple[SpanEvent, ...] = (),
    dropped: int = 0,
    trace_id: str = "ab" * 16,
    **attributes: Any,
) -> Span:
    """A span whose id follows from its name; dots of attribute names are written as two underscores."""
    return Span(
        trace_id=trace_id,
        span_id=span_id(name),
        parent_id=parent and span_id(parent),
        name=name,
        start_ns=at * 1_000_000_000,
        end_ns=(at + seconds) * 1_000_000_000,
        attributes={key.replace("__", "."): value for key, value in attributes.items()},
        events=events,
        dropped=dropped,
    )


def span_id(name: str) -> str:
    """The id of a made span."""
    return name.encode().hex()[:16].ljust(16, "0")
