"""Each convention's rules, one by one: what they find, and under which attribute."""

import json
from typing import Any

import pytest

from monitor.spans import conventions
from monitor.spans.conventions import genai, openinference, openllmetry
from monitor.spans.reading import Part, Retrieved, Role, Rule
from monitor.spans.span import SpanEvent
from tests.examples.spans import span

DOCUMENT = (Retrieved(id="d1", text="A text.", score=0.5),)
PARTS = [{"role": "system", "parts": [{"type": "text", "content": "Be brief."}]}]
PARTS += [{"role": "user", "parts": [{"type": "text", "content": "Who?"}, {"type": "blob", "content": "…"}]}]
SAID = [{"role": "assistant", "parts": [{"type": "text", "content": "She did."}], "finish_reason": "stop"}]


def oi(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"openinference.span.kind": kind, **attributes}


def op(name: str, **attributes: Any) -> dict[str, Any]:
    return {"gen_ai.operation.name": name, **attributes}


def tl(kind: str, **attributes: Any) -> dict[str, Any]:
    return {"traceloop.span.kind": kind, **attributes}


CASES: list[tuple[dict[str, Any], Role, Part, str, Any]] = [
    # OpenInference
    (
        oi(
            "RETRIEVER",
            **{
                "retrieval.documents.0.document.id": "d1",
                "retrieval.documents.0.document.content": "A text.",
                "retrieval.documents.0.document.score": 0.5,
            },
        ),
        Role.RETRIEVER,
        Part.DOCUMENTS,
        "retrieval.documents",
        DOCUMENT,
    ),
    (oi("RETRIEVER", **{"input.value": "Who?"}), Role.RETRIEVER, Part.QUESTION, "input.value", "Who?"),
    (
        oi(
            "RERANKER",
            **{
                "reranker.output_documents.0.document.id": "d1",
                "reranker.output_documents.0.document.content": "A text.",
                "reranker.output_documents.0.document.score": 0.5,
            },
        ),
        Role.RERANKER,
        Part.DOCUMENTS,
        "reranker.output_documents",
        DOCUMENT,
    ),
    (oi("RERANKER", **{"reranker.query": "Who?"}), Role.RERANKER, Part.QUESTION, "reranker.query", "Who?"),
    (
        oi(
            "LLM",
            **{
                "llm.output_messages.0.message.role": "assistant",
                "llm.output_messages.0.message.content": "She did.",
            },
        ),
        Role.LLM,
        Part.ANSWER,
        "llm.output_messages",
        "She did.",
    ),
    (
        oi(
            "LLM",
            **{
                "llm.output_messages.0.message.role": "assistant",
                "llm.output_messages.0.message.contents.0.message_content.type": "text",
                "llm.output_messages.0.message.contents.0.message_content.text": "She did.",
            },
        ),
        Role.LLM,
        Part.ANSWER,
        "llm.output_messages",
        "She did.",
    ),
    (oi("LLM", **{"output.value": '{"a": 1}'}), Role.LLM, Part.ANSWER, "output.value", '{"a": 1}'),
    (
        oi("LLM", **{"output.value": '{"text": "She did."}', "output.mime_type": "application/json"}),
        Role.LLM,
        Part.ANSWER,
        "output.value",
        "She did.",
    ),
    (
        oi("LLM", **{"llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": "Who?"}),
        Role.LLM,
        Part.QUESTION,
        "llm.input_messages",
        "Who?",
    ),
    (
        oi("LLM", **{"llm.prompt_template.variables": '{"context_str": "A text.", "query_str": "Who?"}'}),
        Role.LLM,
        Part.CONTEXT,
        "llm.prompt_template.variables",
        "A text.",
    ),
    (
        oi("LLM", **{"llm.input_messages.0.message.role": "system", "llm.input_messages.0.message.content": "Brief."}),
        Role.LLM,
        Part.CONTEXT,
        "llm.input_messages",
        "Brief.",
    ),
    (oi("LLM", **{"llm.model_name": "m-1"}), Role.LLM, Part.MODEL, "llm.model_name", "m-1"),
    (
        oi(
            "TOOL", **{"output.value": '[{"id": "d1", "content": "A text.", "score": 0.5}]', "output.mime_type": "json"}
        ),
        Role.TOOL,
        Part.DOCUMENTS,
        "output.value",
        DOCUMENT,
    ),
    (oi("TOOL", **{"output.value": "A text."}), Role.TOOL, Part.CONTEXT, "output.value", "A text."),
    (
        oi("AGENT", **{"input.value": '{"messages": [{"role": "user", "content": "Who?"}]}', "input.mime_type": "j"}),
        Role.STEP,
        Part.QUESTION,
        "input.value",
        "Who?",
    ),
    (oi("CHAIN", **{"output.value": "She did."}), Role.STEP, Part.ANSWER, "output.value", "She did."),
    # OpenTelemetry GenAI
    (
        op("chat", **{"gen_ai.output.messages": json.dumps(SAID)}),
        Role.LLM,
        Part.ANSWER,
        "gen_ai.output.messages",
        "She did.",
    ),
    (op("chat", **{"gen_ai.output.messages": SAID}), Role.LLM, Part.ANSWER, "gen_ai.output.messages", "She did."),
    (
        op("chat", **{"gen_ai.completion.0.role": "assistant", "gen_ai.completion.0.content": "She did."}),
        Role.LLM,
        Part.ANSWER,
        "gen_ai.completion",
        "She did.",
    ),
    (op("chat", **{"gen_ai.input.messages": PARTS}), Role.LLM, Part.QUESTION, "gen_ai.input.messages", "Who?"),
    (
        op("chat", **{"gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "Who?"}),
        Role.LLM,
        Part.QUESTION,
        "gen_ai.prompt",
        "Who?",
    ),
    (
        op("chat", **{"gen_ai.system_instructions": '[{"type": "text", "content": "Be brief."}]'}),
        Role.LLM,
        Part.CONTEXT,
        "gen_ai.system_instructions",
        "Be brief.",
    ),
    (op("chat", **{"gen_ai.input.messages": PARTS}), Role.LLM, Part.CONTEXT, "gen_ai.input.messages", "Be brief."),
    (
        op("chat", **{"gen_ai.prompt.0.role": "system", "gen_ai.prompt.0.content": "Be brief."}),
        Role.LLM,
        Part.CONTEXT,
        "gen_ai.prompt",
        "Be brief.",
    ),
    (op("chat", **{"gen_ai.response.model": "m-1"}), Role.LLM, Part.MODEL, "gen_ai.response.model", "m-1"),
    (op("chat", **{"gen_ai.request.model": "m-1"}), Role.LLM, Part.MODEL, "gen_ai.request.model", "m-1"),
    (
        op("retrieval", **{"gen_ai.retrieval.documents": '[{"id": "d1", "content": "A text.", "score": 0.5}]'}),
        Role.RETRIEVER,
        Part.DOCUMENTS,
        "gen_ai.retrieval.documents",
        DOCUMENT,
    ),
    (
        op("retrieval", **{"gen_ai.retrieval.query.text": "Who?"}),
        Role.RETRIEVER,
        Part.QUESTION,
        "gen_ai.retrieval.query.text",
        "Who?",
    ),
    (
        op(
            "execute_tool",
            **{"gen_ai.tool.call.result": '{"documents": [{"id": "d1", "text": "A text.", "score": 0.5}]}'},
        ),
        Role.TOOL,
        Part.DOCUMENTS,
        "gen_ai.tool.call.result",
        DOCUMENT,
    ),
    (
        op("execute_tool", **{"gen_ai.tool.call.result": "A text."}),
        Role.TOOL,
        Part.CONTEXT,
        "gen_ai.tool.call.result",
        "A text.",
    ),
    (op("invoke_agent", **{"gen_ai.input.messages": PARTS}), Role.STEP, Part.QUESTION, "gen_ai.input.messages", "Who?"),
    (
        op("invoke_agent", **{"gen_ai.output.messages": SAID}),
        Role.STEP,
        Part.ANSWER,
        "gen_ai.output.messages",
        "She did.",
    ),
    # OpenLLMetry
    (
        tl(
            "task",
            **{
                "traceloop.entity.output": json.dumps(
                    [json.dumps({"node": {"id_": "d1", "text": "A text."}, "score": 0.5})]
                )
            },
        ),
        Role.RETRIEVER,
        Part.DOCUMENTS,
        "traceloop.entity.output",
        DOCUMENT,
    ),
    (
        tl(
            "task",
            **{
                "gen_ai.operation.name": "vector_db_retrieve",
                "traceloop.entity.input": '{"query": "Who?", "tags": []}',
            },
        ),
        Role.RETRIEVER,
        Part.QUESTION,
        "traceloop.entity.input",
        "Who?",
    ),
    (
        tl("tool", **{"traceloop.entity.output": '{"documents": [{"id": "d1", "text": "A text.", "score": 0.5}]}'}),
        Role.TOOL,
        Part.DOCUMENTS,
        "traceloop.entity.output",
        DOCUMENT,
    ),
    (
        tl("tool", **{"traceloop.entity.output": '{"result": "A text."}'}),
        Role.TOOL,
        Part.CONTEXT,
        "traceloop.entity.output",
        "A text.",
    ),
    (
        tl("workflow", **{"traceloop.entity.input": '{"inputs": {"question": "Who?"}, "tags": []}'}),
        Role.STEP,
        Part.QUESTION,
        "traceloop.entity.input",
        "Who?",
    ),
    (
        tl("workflow", **{"traceloop.entity.output": '"She did."'}),
        Role.STEP,
        Part.ANSWER,
        "traceloop.entity.output",
        "She did.",
    ),
]


@pytest.mark.parametrize(
    ("attributes", "role", "part", "attribute", "value"),
    CASES,
    ids=[f"{case[1]}-{case[2]}-{case[3]}-{number}" for number, case in enumerate(CASES)],
)
def test_a_rule_finds_its_part(attributes: dict[str, Any], role: Role, part: Part, attribute: str, value: Any) -> None:
    reading = conventions.read(span("a", **attributes))
    assert reading is not None
    assert reading.role is role
    assert (reading.parts[part].attribute, reading.parts[part].value) == (attribute, value)


def langchain_message(kind: str, content: str) -> dict[str, Any]:
    """As LangChain's `message_to_dict` writes it."""
    return {"type": kind, "data": {"type": kind, "content": content, "id": None, "tool_calls": []}}


def langchain_constructor(kind: str, content: str) -> dict[str, Any]:
    """As LangChain's `dumpd` writes it."""
    name = f"{kind.title()}Message"
    told = {"content": content, "type": kind}
    return {"lc": 1, "type": "constructor", "id": ["langchain", "schema", "messages", name], "kwargs": told}


@pytest.mark.parametrize("written", [langchain_message, langchain_constructor])
def test_what_graphs_and_agents_of_langchain_take_and_give_is_read(written: Any) -> None:
    talk = {
        "messages": [written(*said) for said in (("human", "Who?"), ("ai", ""), ("tool", "A text."), ("ai", "She."))]
    }
    json_type = {"output.mime_type": "application/json", "input.mime_type": "application/json"}
    both = (
        oi("CHAIN", **json_type, **{"input.value": json.dumps(talk), "output.value": json.dumps(talk)}),
        tl(
            "workflow",
            **{
                "traceloop.entity.input": json.dumps({"inputs": talk, "tags": []}),
                "traceloop.entity.output": json.dumps({"outputs": talk, "kwargs": {}}),
            },
        ),
    )
    for attributes in both:
        reading = conventions.read(span("LangGraph", **attributes))
        assert reading is not None
        assert (reading.parts[Part.QUESTION].value, reading.parts[Part.ANSWER].value) == ("Who?", "She.")


@pytest.mark.parametrize(
    "attributes",
    [
        oi("TOOL", **{"output.value": json.dumps(langchain_message("tool", "A text."))}),
        op("execute_tool", **{"gen_ai.tool.call.result": json.dumps(langchain_message("tool", "A text."))}),
        op("execute_tool", **{"gen_ai.tool.call.result": json.dumps({"role": "tool", "content": "A text."})}),
        tl(
            "tool",
            **{
                "gen_ai.operation.name": "execute_tool",
                "gen_ai.tool.call.result": json.dumps({"output": langchain_constructor("tool", "A text.")}),
            },
        ),
    ],
)
def test_a_tools_message_is_its_text(attributes: dict[str, Any]) -> None:
    reading = conventions.read(span("search", **attributes))
    assert reading is not None
    assert (reading.role, reading.parts[Part.CONTEXT].value) == (Role.TOOL, "A text.")


def test_every_rule_has_a_case() -> None:
    tried = {(role, part, attribute) for _, role, part, attribute, _ in CASES}
    rules: set[Rule] = {*openinference.RULES, *openllmetry.RULES, *genai.RULES}
    missing = {(rule.role, rule.part, rule.attribute) for rule in rules} - tried
    assert missing == {(Role.RETRIEVER, Part.DOCUMENTS, "db.query.result")}  # events, below


def test_results_of_a_vector_store_are_events() -> None:
    found = SpanEvent(
        name="db.query.result",
        attributes={"db.query.result.id": "d1", "db.query.result.document": "A text.", "db.query.result.score": 0.5},
    )
    reading = conventions.read(span("chroma.query", events=(found,)))
    assert reading is not None
    assert (reading.role, reading.parts[Part.DOCUMENTS].value) == (Role.RETRIEVER, DOCUMENT)


def test_contents_in_events_count_where_the_span_has_none() -> None:
    details = SpanEvent(
        name="gen_ai.client.inference.operation.details", attributes={"gen_ai.output.messages": json.dumps(SAID)}
    )
    legacy = (
        SpanEvent(name="gen_ai.user.message", attributes={"content": "Who?"}),
        SpanEvent(name="gen_ai.choice", attributes={"message": {"content": "She did."}, "index": 0}),
    )
    for events in ((details,), legacy):
        reading = conventions.read(span("chat", events=events, **op("chat")))
        assert reading is not None
        assert reading.parts[Part.ANSWER].value == "She did."
    assert reading.parts[Part.QUESTION].value == "Who?"


def test_details_and_legacy_events_of_one_span_do_not_clash() -> None:
    events = (
        SpanEvent(name="gen_ai.client.inference.operation.details", attributes={"gen_ai.input.messages": "[]"}),
        SpanEvent(name="gen_ai.user.message", attributes={"content": "Who?"}),
        SpanEvent(name="gen_ai.choice", attributes={"message": {"content": "She did."}}),
    )
    reading = conventions.read(span("chat", events=events, **op("chat")))
    assert reading is not None
    assert reading.parts[Part.ANSWER].value == "She did."


@pytest.mark.parametrize(
    "attributes",
    [
        {},
        {"http.method": "GET"},
        oi("EMBEDDING"),
        oi("GUARDRAIL"),
        {"openinference.span.kind": 7},
        op("embeddings"),
        {"gen_ai.operation.name": ["chat"]},
    ],
)
def test_other_spans_say_nothing(attributes: dict[str, Any]) -> None:
    assert conventions.read(span("a", **attributes)) is None


HOSTILE = [
    {"retrieval.documents.0.document.content": {"a": []}},
    {"retrieval.documents.99999999.document.content": "x"},
    {"retrieval.documents." + "a." * 5000: "x"},
    {"retrieval.documents": "[" * 100_000},
    {"retrieval.documents": [None, 3, {"content": "x"}]},
    {"retrieval.documents.0": "x", "retrieval.documents.0.document.content": "y"},
    {"input.value": {"query": {"query": {"query": {"query": "deep"}}}}, "input.mime_type": "application/json"},
    {"input.value": '{"messages": [1, null, {"role": ["user"], "content": {"text": 5}}]}', "input.mime_type": "j"},
    {"input.value": " \n\t "},
    {"retrieval.documents.0.document.content": "x", "retrieval.documents.0.document.score": 10**400},
]


@pytest.mark.parametrize("attributes", HOSTILE, ids=range(len(HOSTILE)))
@pytest.mark.parametrize("kind", ["RETRIEVER", "CHAIN", "LLM", "TOOL"])
def test_hostile_attributes_are_read_as_what_they_are_not(attributes: dict[str, Any], kind: str) -> None:
    reading = conventions.read(span("a", **oi(kind, **attributes)))
    assert reading is not None
    for found in reading.parts.values():
        assert isinstance(found.value, str | tuple)
