"""OpenLLMetry (github.com/traceloop/openllmetry), which mixes its own attributes with OpenTelemetry's GenAI ones."""

from dataclasses import replace
from typing import Any

from monitor.spans import texts
from monitor.spans.conventions import genai
from monitor.spans.reading import Part, Reading, Role, Rule, apply
from monitor.spans.span import Span

KIND = "traceloop.span.kind"
_INPUT, _OUTPUT = "traceloop.entity.input", "traceloop.entity.output"
_RESULTS = "db.query.result"
_RETRIEVES = "vector_db_retrieve"
_COMPLETIONS = ("gen_ai.output.messages", "gen_ai.completion.0.content")

RULES = (
    Rule(role=Role.RETRIEVER, part=Part.DOCUMENTS, attribute=_OUTPUT, read=texts.documents),
    Rule(role=Role.RETRIEVER, part=Part.DOCUMENTS, attribute=_RESULTS, read=texts.documents),
    Rule(role=Role.RETRIEVER, part=Part.QUESTION, attribute=_INPUT, read=texts.question),
    *genai.RULES,
    Rule(role=Role.TOOL, part=Part.DOCUMENTS, attribute=_OUTPUT, read=texts.documents),
    Rule(role=Role.TOOL, part=Part.CONTEXT, attribute=_OUTPUT, read=texts.answer),
    Rule(role=Role.STEP, part=Part.QUESTION, attribute=_INPUT, read=texts.question),
    Rule(role=Role.STEP, part=Part.ANSWER, attribute=_OUTPUT, read=texts.answer),
)


def read(span: Span) -> Reading | None:
    """What the span says; None where it is of another convention."""
    results = [_result(event.attributes) for event in span.events if event.name == _RESULTS]
    marked = any(key.startswith("traceloop.") for key in span.attributes)
    if not marked and not results:
        return None
    told = genai.with_events(span)
    if results:
        told = replace(told, attributes={_RESULTS: results, **told.attributes})
    return apply(RULES, told, _role(told))


def _role(span: Span) -> Role:
    attributes = span.attributes
    if attributes.get(genai.OPERATION) == _RETRIEVES or _RESULTS in attributes:
        return Role.RETRIEVER
    if (known := genai.role_of(span)) not in {None, Role.STEP}:
        assert known is not None
        return known
    if any(key in attributes for key in _COMPLETIONS):
        return Role.LLM
    if attributes.get(KIND) == "tool":
        return Role.TOOL
    # LlamaIndex's retrievers are tasks like any other: what they return gives them away.
    return Role.RETRIEVER if texts.documents(attributes, _OUTPUT) else Role.STEP


def _result(attributes: Any) -> dict[str, Any]:
    return {key.removeprefix(f"{_RESULTS}."): value for key, value in attributes.items()}
