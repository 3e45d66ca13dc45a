"""OpenInference (github.com/Arize-ai/openinference, spec/semantic_conventions.md)."""

from monitor.spans import texts
from monitor.spans.reading import Part, Reading, Role, Rule, apply
from monitor.spans.span import Span

KIND = "openinference.span.kind"

_ROLES = {
    "RETRIEVER": Role.RETRIEVER,
    "RERANKER": Role.RERANKER,
    "LLM": Role.LLM,
    "TOOL": Role.TOOL,
    "CHAIN": Role.STEP,
    "AGENT": Role.STEP,
}

RULES = (
    Rule(role=Role.RETRIEVER, part=Part.DOCUMENTS, attribute="retrieval.documents", read=texts.documents),
    Rule(role=Role.RETRIEVER, part=Part.QUESTION, attribute="input.value", read=texts.question),
    Rule(role=Role.RERANKER, part=Part.DOCUMENTS, attribute="reranker.output_documents", read=texts.documents),
    Rule(role=Role.RERANKER, part=Part.QUESTION, attribute="reranker.query", read=texts.plain),
    Rule(role=Role.LLM, part=Part.ANSWER, attribute="llm.output_messages", read=texts.assistant_said),
    Rule(role=Role.LLM, part=Part.ANSWER, attribute="output.value", read=texts.answer),
    Rule(role=Role.LLM, part=Part.QUESTION, attribute="llm.input_messages", read=texts.user_said),
    Rule(role=Role.LLM, part=Part.CONTEXT, attribute="llm.prompt_template.variables", read=texts.context),
    Rule(role=Role.LLM, part=Part.CONTEXT, attribute="llm.input_messages", read=texts.system_said),
    Rule(role=Role.LLM, part=Part.MODEL, attribute="llm.model_name", read=texts.plain),
    Rule(role=Role.TOOL, part=Part.DOCUMENTS, attribute="output.value", read=texts.documents),
    Rule(role=Role.TOOL, part=Part.CONTEXT, attribute="output.value", read=texts.tool_said),
    Rule(role=Role.STEP, part=Part.QUESTION, attribute="input.value", read=texts.question),
    Rule(role=Role.STEP, part=Part.ANSWER, attribute="output.value", read=texts.answer),
)


def read(span: Span) -> Reading | None:
    """What the span says; None where it is of another convention."""
    kind = span.attributes.get(KIND)
    if not isinstance(kind, str):
        return None
    role = _ROLES.get(kind.upper())
    return None if role is None else apply(RULES, span, role)
