"""What a service itself knows of each question, written down for the test: the traces must tell the same."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor


@dataclass(frozen=True, kw_only=True)
class Said:
    """One question, what was found for it, and what was answered."""

    question: str
    documents: list[str]
    answer: str


class Witness(SpanProcessor):
    """Beside the stock exporter, which it does not touch: notes the root spans of the instrumentors."""

    def __init__(self) -> None:
        self._roots: list[dict[str, str]] = []
        trace.get_tracer_provider().add_span_processor(self)  # type: ignore[attr-defined] # the SDK's, set up by opentelemetry-instrument

    def on_end(self, span: ReadableSpan) -> None:
        """Note a root."""
        if span.parent is None and span.context is not None and span.attributes is not None:
            asked = str(span.attributes.get("input.value", ""))
            ids = {"trace_id": f"{span.context.trace_id:032x}", "span_id": f"{span.context.span_id:016x}"}
            self._roots.append({"asked": asked, **ids})

    def write(self, path: Path, said: list[Said]) -> None:
        """A line a question, with the ids of the root span that it was asked in."""
        lines = []
        for one in said:
            (root,) = (root for root in self._roots if one.question in root["asked"])
            lines.append(json.dumps({**asdict(one), "trace_id": root["trace_id"], "span_id": root["span_id"]}))
        path.write_text("\n".join(lines) + "\n")
