"""One OpenTelemetry trace, and the RAG traces in it."""

import random
from dataclasses import replace
from typing import Any

import pytest

from monitor.spans.assembling import Assembled, assemble
from monitor.spans.span import Span
from tests.examples.spans import span, span_id


def chain(name: str, asked: str | None = None, said: str | None = None, **rest: Any) -> Span:
    values = {"input__value": asked, "output__value": said}
    told = {key: value for key, value in values.items() if value is not None}
    return span(name, openinference__span__kind="CHAIN", **told, **rest)


def retriever(name: str, asked: str, *texts: str, **rest: Any) -> Span:
    documents = {f"retrieval.documents.{n}.document.content": text for n, text in enumerate(texts)}
    return span(name, openinference__span__kind="RETRIEVER", input__value=asked, **documents, **rest)


def llm(name: str, said: str | None, asked: str | None = None, **rest: Any) -> Span:
    told: dict[str, Any] = {}
    if said is not None:
        told |= {"llm.output_messages.0.message.role": "assistant", "llm.output_messages.0.message.content": said}
    if asked is not None:
        told |= {"llm.input_messages.0.message.role": "user", "llm.input_messages.0.message.content": asked}
    return span(name, openinference__span__kind="LLM", **told, **rest)


def texts(one: Assembled) -> list[str | None]:
    return [document.text for document in one.documents]


def only(spans: list[Span]) -> Assembled:
    (one,) = assemble(spans)
    return one


def test_without_a_chain_the_retriever_asks_and_the_model_answers() -> None:
    one = only(
        [
            span("POST /chat", seconds=9),
            retriever("r", "Who?", "A.", parent="POST /chat"),
            llm("m", "She did.", parent="POST /chat", at=2, llm__model_name="m-1"),
        ]
    )
    assert (one.question, texts(one), one.answer, one.model) == ("Who?", ["A."], "She did.", "m-1")
    assert one.sources == {
        "question": "r: input.value",
        "documents": "r: retrieval.documents",
        "answer": "m: llm.output_messages",
    }


def test_a_web_servers_span_around_the_chain_does_not_hide_its_question() -> None:
    one = only(
        [
            span("POST /chat", seconds=20),
            chain("c", "Who, really?", "She did, he said.", parent="POST /chat", seconds=10),
            retriever("r", "who", "A.", parent="c", at=1),
            llm("m", "She did.", parent="c", at=3),
        ]
    )
    assert (one.question, one.answer) == ("Who, really?", "She did, he said.")


def test_a_step_beside_the_work_that_merely_takes_as_long_does_not_answer() -> None:
    # LangChain's passthrough of the question, run beside the retriever, in a chain that then failed.
    one = only(
        [
            chain("chain", seconds=9),
            chain("passed through", "Who?", "Who?", parent="chain", seconds=5),
            retriever("r", "Who?", "A.", parent="chain", at=1),
        ]
    )
    assert (one.question, one.answer) == ("Who?", None)


def test_the_model_saw_what_the_reranker_left() -> None:
    reranked = {"reranker.output_documents.0.document.content": "B."}
    one = only(
        [
            chain("c", "Who?", "She.", seconds=9),
            retriever("r", "Who?", "A.", "B.", "C.", parent="c"),
            span("rr", parent="c", at=2, openinference__span__kind="RERANKER", **reranked),
            llm("m", "She.", parent="c", at=4),
        ]
    )
    assert texts(one) == ["B."]


def test_nested_retrievers_tell_once() -> None:
    one = only(
        [
            chain("c", "Who?", "She.", seconds=9),
            retriever("outer", "Who?", "A.", "B.", parent="c", seconds=3),
            retriever("inner", "Who?", "A.", "B.", parent="outer"),
            llm("m", "She.", parent="c", at=4),
        ]
    )
    assert texts(one) == ["A.", "B."]


def test_several_retrievals_for_one_question_are_one_trace() -> None:
    one = only(
        [
            chain("agent", "Compare A and B.", "A is older.", seconds=20),
            retriever("r1", "A", "About A.", parent="agent"),
            llm("plan", None, parent="agent", at=2),
            retriever("r2", "B", "About B.", parent="agent", at=4),
            llm("m", "A is older.", parent="agent", at=6),
        ]
    )
    assert (one.question, texts(one), one.answer) == ("Compare A and B.", ["About A.", "About B."], "A is older.")


def test_an_agent_that_asks_two_engines_is_two_traces() -> None:
    spans = [chain("agent", "Tell me all.", "All told.", seconds=50), llm("plan", "I ask.", parent="agent", at=1)]
    for start, name in ((5, "x"), (20, "y")):
        spans += [
            chain(name, f"What is {name}?", f"It is {name}.", parent="agent", at=start, seconds=9),
            retriever(f"r{name}", f"What is {name}?", f"About {name}.", parent=name, at=start),
            llm(f"m{name}", f"It is {name}.", parent=name, at=start + 3),
        ]
    first, second = assemble(spans)
    assert (first.question, texts(first), first.answer) == ("What is x?", ["About x."], "It is x.")
    assert (second.question, texts(second), second.answer) == ("What is y?", ["About y."], "It is y.")


def test_a_conversation_in_one_trace_is_as_many_traces_as_it_has_turns() -> None:
    spans = [span("session", seconds=100)]
    for turn in range(3):
        at = 10 * turn
        spans += [
            retriever(f"r{turn}", f"Question {turn}?", f"Text {turn}.", parent="session", at=at),
            llm(f"m{turn}", f"Answer {turn}.", parent="session", at=at + 3),
        ]
    found = assemble(spans)
    assert [(one.question, texts(one), one.answer) for one in found] == [
        (f"Question {turn}?", [f"Text {turn}."], f"Answer {turn}.") for turn in range(3)
    ]


def test_a_tools_result_is_the_context_where_nothing_was_retrieved() -> None:
    tool = span("search", parent="c", openinference__span__kind="TOOL", output__value="The tower is 300 m high.")
    one = only([chain("c", "How high?", "300 m.", seconds=9), tool, llm("m", "300 m.", parent="c", at=3)])
    assert texts(one) == ["The tower is 300 m high."]
    assert one.sources["documents"] == "search: output.value"


def test_a_system_prompt_is_the_context_where_nothing_else_is() -> None:
    prompt = {
        "llm.input_messages.0.message.role": "system",
        "llm.input_messages.0.message.content": "The tower is 300 m high.",
    }
    one = only([chain("c", "How high?", "300 m.", seconds=9), llm("m", "300 m.", parent="c", at=3, **prompt)])
    assert texts(one) == ["The tower is 300 m high."]


def test_missing_parts_are_named_and_not_guessed() -> None:
    one = only([chain("c", "Who?", "She.", seconds=9), llm("m", "She.", parent="c", at=3)])
    assert (one.documents, one.problems) == ((), ("no retrieved text",))
    one = only([retriever("r", "Who?", "A.")])
    assert one.answer is None
    assert one.problems == ("no answer: neither the outermost span nor a model's output has one",)
    one = only([llm("m", "She.")])
    assert one.question is None


def test_documents_without_text_cannot_be_judged_against() -> None:
    ids = {"retrieval.documents.0.document.id": "d1", "retrieval.documents.1.document.id": "d2"}
    some = {**ids, "retrieval.documents.1.document.content": "B."}
    for documents, left, problem in ((ids, [], "2 of 2"), (some, ["B."], "1 of 2")):
        one = only(
            [
                chain("c", "Who?", "She.", seconds=9),
                llm("m", "She.", parent="c", at=3),
                span("r", parent="c", openinference__span__kind="RETRIEVER", **documents),
            ]
        )
        assert texts(one) == left
        assert f"{problem} documents have no text" in one.problems


def test_redacted_text_is_not_judged() -> None:
    hidden = "__REDACTED__"
    one = only(
        [
            chain("c", hidden, hidden, seconds=9),
            retriever("r", hidden, hidden, parent="c"),
            llm("m", hidden, parent="c", at=2),
        ]
    )
    assert (one.question, one.documents, one.answer) == (None, (), None)
    assert {"documents are redacted", "the question is redacted (c: input.value)"} <= set(one.problems)


def test_dropped_attributes_are_said_aloud() -> None:
    one = only(
        [
            chain("c", "Who?", "She.", seconds=9),
            retriever("r", "Who?", "A.", parent="c", dropped=12),
            llm("m", "She.", parent="c"),
        ]
    )
    (problem,) = one.problems
    assert problem.startswith("12 attributes were dropped")
    assert "OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT" in problem


def test_ids_are_unique_and_the_same_document_comes_once() -> None:
    def documents(*of: tuple[str, str]) -> dict[str, str]:
        pairs = [(f"retrieval.documents.{n}.document.", *pair) for n, pair in enumerate(of)]
        return {
            key: value for stem, name, text in pairs for key, value in ((f"{stem}id", name), (f"{stem}content", text))
        }

    found = documents(("d", "A."), ("d", "B."), ("d", "A."))
    one = only(
        [
            chain("c", "Who?", "She.", seconds=9),
            llm("m", "She.", parent="c", at=3),
            span("r", parent="c", openinference__span__kind="RETRIEVER", **found),
        ]
    )
    assert [(document.id, document.text) for document in one.documents] == [("d", "A."), ("d~1", "B.")]


def test_traces_of_other_work_are_none() -> None:
    assert assemble([]) == []
    assert assemble([span("GET /health"), span("SELECT", parent="GET /health")]) == []
    assert assemble([chain("c", "Who?", "She.")]) == []


def test_a_late_parent_changes_nothing_that_was_right() -> None:
    whole = [
        chain("c", "Who?", "She.", seconds=9),
        retriever("r", "Who?", "A.", parent="c"),
        llm("m", "She.", parent="c", at=3),
    ]
    one = only(whole[1:])
    assert (one.question, texts(one), one.answer, one.root.name) == ("Who?", ["A."], "She.", "(not sent)")
    assert only(whole).root.name == "c"


def of_service(name: str, *spans: Span) -> list[Span]:
    return [replace(one, resource={"service.name": name}) for one in spans]


def test_two_services_that_share_ids_and_never_call_each_other_are_two_traces() -> None:
    first = of_service(
        "a",
        chain("c", "Who?", "She.", seconds=9),
        retriever("r", "Who?", "A.", parent="c"),
        llm("m", "She.", parent="c"),
    )
    second = of_service(
        "b",
        chain("c", "When?", "Now.", at=1, seconds=9),
        retriever("r", "When?", "B.", parent="c", at=2),
        llm("m", "Now.", parent="c", at=3),
    )
    found = assemble([*second, *first])
    assert [(one.question, texts(one), one.answer) for one in found] == [
        ("Who?", ["A."], "She."),
        ("When?", ["B."], "Now."),
    ]


def test_services_that_call_each_other_are_one_trace() -> None:
    gateway = of_service("gateway", span("POST /chat", seconds=20))
    engine = of_service(
        "engine", chain("c", "Who?", "She.", parent="POST /chat", seconds=9), llm("m", "She.", parent="c", at=3)
    )
    store = of_service("store", retriever("r", "Who?", "A.", parent="c", at=1))
    one = only([*store, *engine, *gateway])
    assert (one.question, texts(one), one.answer, one.root.name) == ("Who?", ["A."], "She.", "POST /chat")
    # The gateway's span is late, or it sends elsewhere.
    one = only([*store, *engine])
    assert (one.question, texts(one), one.answer) == ("Who?", ["A."], "She.")


def test_parents_in_a_circle_do_not_hang() -> None:
    one = only([retriever("r", "Who?", "A.", parent="m"), llm("m", "She.", parent="r", at=3)])
    assert (one.question, one.answer) == ("Who?", "She.")
    alone = Span(trace_id="ab" * 16, span_id=span_id("x"), parent_id=span_id("x"), name="x", start_ns=0, end_ns=1)
    assert assemble([alone]) == []


@pytest.mark.parametrize("shape", ["chain", "fan"])
def test_traces_of_any_size_take_linear_time_and_no_recursion(shape: str) -> None:
    """A quarter of a million spans: quadratic work would run into the timeout."""
    many = 250_000
    names = [f"{n:016x}" for n in range(many)]
    spans = [
        Span(
            trace_id="ab" * 16,
            span_id=name,
            parent_id=(names[n - 1] if shape == "chain" else names[0]) if n else None,
            name="s",
            start_ns=n,
            end_ns=2 * many - n,
        )
        for n, name in enumerate(names)
    ]
    last = spans[-1]
    spans += [retriever("r", "Who?", "A."), llm("m", "She.")]
    spans[-2:] = [
        Span(
            trace_id=one.trace_id,
            span_id=one.span_id,
            parent_id=last.span_id,
            name=one.name,
            start_ns=many,
            end_ns=many,
            attributes=one.attributes,
        )
        for one in spans[-2:]
    ]
    one = only(spans)
    assert (one.question, one.answer) == ("Who?", "She.")


def test_any_order_gives_the_same_traces() -> None:
    spans = [chain("agent", "All?", "All.", seconds=50)]
    for start, name in ((5, "x"), (5, "y"), (20, "z")):
        spans += [
            chain(name, f"{name}?", f"{name}.", parent="agent", at=start, seconds=9),
            retriever(f"r{name}", f"{name}?", f"About {name}.", parent=name, at=start),
            llm(f"m{name}", f"{name}.", parent=name, at=start + 3),
        ]
    expected = assemble(spans)
    assert len(expected) == 3
    for seed in range(50):
        mixed = [*spans, *random.Random(seed).sample(spans, 4)]
        random.Random(seed).shuffle(mixed)
        assert assemble(mixed) == expected
