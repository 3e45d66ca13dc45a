"""OpenTelemetry's GenAI conventions (open-telemetry/semantic-conventions, docs/gen-ai; stability: Development)."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from monitor.spans import texts
from monitor.spans.reading import Part, Reading, Role, Rule, apply
from monitor.spans.span import Span, SpanEvent

OPERATION = "gen_ai.operation.name"

_ROLES = {
    "chat": Role.LLM,
    "text_completion": Role.LLM,
    "generate_content": Role.LLM,
    "retrieval": Role.RETRIEVER,
    "execute_tool": Role.TOOL,
    "invoke_agent": Role.STEP,
    "invoke_workflow": Role.STEP,
}

# Content that some versions put into events: the event's name, the attribute that it stands for, and the role.
_DETAILS = "gen_ai.client.inference.operation.details"
_LEGACY = {
    "gen_ai.user.message": ("gen_ai.input.messages", "user"),
    "gen_ai.system.message": ("gen_ai.input.messages", "system"),
    "gen_ai.assistant.message": ("gen_ai.input.messages", "assistant"),
    "gen_ai.choice": ("gen_ai.output.messages", "assistant"),
}

RULES = (
    Rule(role=Role.LLM, part=Part.ANSWER, attribute="gen_ai.output.messages", read=texts.assistant_said),
    Rule(role=Role.LLM, part=Part.ANSWER, attribute="gen_ai.completion", read=texts.assistant_said),
    Rule(role=Role.LLM, part=Part.QUESTION, attribute="gen_ai.input.messages", read=texts.user_said),
    Rule(role=Role.LLM, part=Part.QUESTION, attribute="gen_ai.prompt", read=texts.user_said),
    Rule(role=Role.LLM, part=Part.CONTEXT, attribute="gen_ai.system_instructions", read=texts.system_said),
    Rule(role=Role.LLM, part=Part.CONTEXT, attribute="gen_ai.input.messages", read=texts.system_said),
    Rule(role=Role.LLM, part=Part.CONTEXT, attribute="gen_ai.prompt", read=texts.system_said),
    Rule(role=Role.LLM, part=Part.MODEL, attribute="gen_ai.response.model", read=texts.plain),
    Rule(role=Role.LLM, part=Part.MODEL, attribute="gen_ai.request.model", read=texts.plain),
    Rule(role=Role.RETRIEVER, part=Part.DOCUMENTS, attribute="gen_ai.retrieval.documents", read=texts.documents),
    Rule(role=Role.RETRIEVER, part=Part.QUESTION, attribute="gen_ai.retrieval.query.text", read=texts.plain),
    Rule(role=Role.TOOL, part=Part.DOCUMENTS, attribute="gen_ai.tool.call.result", read=texts.documents),
    Rule(role=Role.TOOL, part=Part.CONTEXT, attribute="gen_ai.tool.call.result", read=texts.tool_said),
    Rule(role=Role.STEP, part=Part.QUESTION, attribute="gen_ai.input.messages", read=texts.user_said),
    Rule(role=Role.STEP, part=Part.ANSWER, attribute="gen_ai.output.messages", read=texts.assistant_said),
)


def role_of(span: Span) -> Role | None:
    """By the operation's name; None where there is none that counts."""
    operation = span.attributes.get(OPERATION)
    return _ROLES.get(operation) if isinstance(operation, str) else None


def read(span: Span) -> Reading | None:
    """What the span says; None where it is of another convention."""
    role = role_of(span)
    return None if role is None else apply(RULES, with_events(span), role)


def with_events(span: Span) -> Span:
    """The span with the contents of its events as attributes, where it has none of its own."""
    told: dict[str, Any] = {}
    for event in span.events:
        if event.name == _DETAILS:
            told |= event.attributes
        elif event.name in _LEGACY:
            key, role = _LEGACY[event.name]
            known = told.setdefault(key, [])
            if isinstance(known, list):  # else the details' event has it whole
                told[key] = [*known, _legacy(event, role)]
    return replace(span, attributes={**told, **span.attributes}) if told else span


def _legacy(event: SpanEvent, role: str) -> Mapping[str, Any]:
    message = event.attributes.get("message")
    inner = message if isinstance(message, Mapping) else event.attributes
    return {"role": role, "content": inner.get("content")}
