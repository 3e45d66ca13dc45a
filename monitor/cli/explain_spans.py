"""`groundwatch explain-spans`: what is understood of a team's own OpenTelemetry spans, and what is not."""

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from monitor.cli.console import printable, wide_console
from monitor.cli.records import opened
from monitor.domain.errors import InvalidInput, InvalidMessage
from monitor.otlp import Export, decode_json, decode_protobuf
from monitor.spans import conventions
from monitor.spans.assembling import NOT_RAG, Assembled, assemble
from monitor.spans.span import Span

_EXCERPT = 200


def register(app: typer.Typer) -> None:
    """Add `explain-spans`."""
    app.command(name="explain-spans")(explain_spans)


def explain_spans(
    file: Annotated[Path, typer.Argument(help="OTLP trace export, protobuf or JSON; `-` is standard input.")],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a RAG trace.")] = False,
) -> None:
    """Say what groundwatch understands of OpenTelemetry spans: question, documents and answer of each RAG trace.

    Spans may be of OpenInference, OpenTelemetry's GenAI conventions or OpenLLMetry, in any order. Each part is shown
    with the span and the attribute that it came from, and what is missing with the reason. A file holds one export
    (`ExportTraceServiceRequest`) or, as the collector's file exporter writes it, one in JSON a line.
    """
    with opened(file) as source:
        export = _decoded(source.read())
    by_trace: dict[str, list[Span]] = defaultdict(list)
    for span in export.spans:
        by_trace[span.trace_id].append(span)
    assembled = {trace_id: assemble(spans) for trace_id, spans in by_trace.items()}
    if as_json:
        for found in assembled.values():
            for one in found:
                # Half a surrogate pair, which JSON can hold and UTF-8 cannot, becomes "?".
                typer.echo(json.dumps(_as_json(one), ensure_ascii=False).encode(errors="replace"))
        if export.rejected:
            typer.echo(_rejections(export), err=True)
        return
    console = wide_console()
    for trace_id, found in assembled.items():
        _print(console, trace_id, found, by_trace[trace_id])
    traces = sum(map(len, assembled.values()))
    troubled = sum(bool(one.problems) for found in assembled.values() for one in found)
    _say(
        console,
        f"{len(export.spans):,} spans, {len(by_trace):,} traces: "
        f"{traces:,} RAG traces, {troubled:,} of them with problems",
        "bold",
    )
    if export.rejected:
        _say(console, _rejections(export), "red")


def _decoded(raw: bytes) -> Export:
    if raw.lstrip()[:1] != b"{":
        return _or_fail(decode_protobuf, raw)
    lines = [line for line in raw.splitlines() if line.strip()]
    try:
        return decode_json(raw)
    except InvalidMessage:
        if len(lines) == 1:
            return _or_fail(decode_json, raw)
    exports = [_or_fail(decode_json, line) for line in lines]
    return Export(
        spans=tuple(span for export in exports for span in export.spans),
        rejected=sum(export.rejected for export in exports),
        reason=next((export.reason for export in exports if export.reason), None),
    )


def _or_fail(decode: Any, raw: bytes) -> Export:
    try:
        export: Export = decode(raw)
    except InvalidMessage as error:
        raise InvalidInput(str(error)) from None
    return export


def _rejections(export: Export) -> str:
    return f"{export.rejected:,} spans could not be read; the first: {export.reason}"


def _as_json(one: Assembled) -> dict[str, Any]:
    return {
        "trace_id": one.trace_id,
        "span_id": one.root.span_id,
        "question": one.question,
        "documents": [asdict(document) for document in one.documents],
        "answer": one.answer,
        "model": one.model,
        "sources": dict(one.sources),
        "problems": list(one.problems),
    }


def _say(console: Console, text: str, style: str = "") -> None:
    console.print(Text(printable(text), style=style))


def _print(console: Console, trace_id: str, found: Sequence[Assembled], spans: Sequence[Span]) -> None:
    if not found:
        _say(console, f"{trace_id}: {len(spans)} spans; {NOT_RAG}", "dim")
        unknown = sorted({span.name for span in spans if conventions.read(span) is None})
        if unknown:
            _say(console, f"  spans of no known convention: {', '.join(unknown[:10])}", "dim")
    for one in found:
        _say(console, f"{trace_id}, from the span {one.root.name}", "cyan")
        _part(console, "question", one.question, one)
        for document in one.documents:
            score = "" if document.score is None else f" ({document.score:g})"
            _part(console, f"document {document.id}{score}", document.text, one, source="documents")
        _part(console, "answer", one.answer, one)
        for problem in one.problems:
            _say(console, f"  problem: {problem}", "yellow")
    console.print()


def _part(console: Console, name: str, value: str | None, one: Assembled, *, source: str | None = None) -> None:
    if value is None:
        return
    cut = value if len(value) <= _EXCERPT else f"{value[:_EXCERPT]}… ({len(value):,} characters)"
    _say(console, f"  {name}: {cut}")
    _say(console, f"    from {one.sources.get(source or name, '?')}", "dim")
