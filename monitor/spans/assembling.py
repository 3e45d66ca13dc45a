"""RAG traces out of all spans of one OpenTelemetry trace, in whatever order they came.

A trace may hold several questions (an agent, a conversation). One RAG trace is made of the smallest subtree that holds
both what was retrieved and what was answered, widened to the highest span that holds no other such subtree: there the
question stands as it was asked, and the answer as it was given.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from monitor.spans.reading import Found, Part, Reading, Retrieved, Role
from monitor.spans.span import Span
from monitor.spans.tree import Key, SpanTree, key_of, order_of
from monitor.spans.values import REDACTED

NOT_RAG = "no span of this trace is a retrieval or an answer of a model"


@dataclass(frozen=True, kw_only=True, slots=True)
class Assembled:
    """One RAG trace, as far as the spans tell of it.

    Attributes:
        root: the span that holds all of it.
        question, answer: None where the spans do not tell; never guessed.
        documents: what the model saw, in order, ids unique.
        model: that answered.
        sources: of each part, span and attribute that it came from.
        problems: what is missing, hidden or cut, in words.
    """

    trace_id: str
    root: Span
    question: str | None
    documents: tuple[Retrieved, ...]
    answer: str | None
    model: str | None
    sources: Mapping[str, str] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


def assemble(spans: Iterable[Span]) -> list[Assembled]:
    """The RAG traces in the spans of one trace, in the order in which they began.

    Spans may repeat, miss their parents and come in any order: the same set of spans gives the same traces.
    """
    tree = SpanTree(spans)
    return [_assembled(unit) for unit in _units(tree)]


@dataclass(frozen=True, kw_only=True)
class _Unit:
    """The spans of one RAG trace.

    Attributes:
        parents: all spans that have others below them.
    """

    root: Span
    readings: Sequence[Reading]
    parents: Container[Key]

    def of(self, *roles: Role) -> list[Reading]:
        return [reading for reading in self.readings if reading.role in roles]

    @cached_property
    def top(self) -> Reading | None:
        """The outermost step around all that was retrieved and answered: not the root, where that is a web server's."""
        work = [reading.span for reading in self.of(Role.RETRIEVER, Role.RERANKER, Role.LLM)]
        if not work:
            return None
        start, end = min(span.start_ns for span in work), max(span.end_ns for span in work)
        # One beside the work that merely took as long is not around it: where nothing is below it, it did none.
        steps = (one for one in self.of(Role.STEP) if one.span is self.root or key_of(one.span) in self.parents)
        around = (one for one in steps if one.span.start_ns <= start and one.span.end_ns >= end)
        return next((one for one in around if one.parts), None)

    @property
    def is_complete(self) -> bool:
        """Whether something was retrieved in it, and something answered."""
        retrieved = self.of(Role.RETRIEVER, Role.RERANKER)
        return any(Part.DOCUMENTS in reading.parts for reading in retrieved) and bool(self.of(Role.LLM))


def _units(tree: SpanTree) -> list[_Unit]:
    found = [unit for root in tree.roots for unit in _units_below(tree, root)]
    return sorted(found, key=lambda unit: order_of(unit.root))


def _units_below(tree: SpanTree, root: Span) -> list[_Unit]:
    heads = _heads(tree, root)
    units = [_Unit(root=head, readings=tree.readings_below(head), parents=tree.children) for head in heads]
    turns = [turn for unit in units for turn in (_turns(unit) if len(units) == 1 else [unit])]
    return [unit for unit in turns if unit.of(Role.LLM, Role.RETRIEVER, Role.RERANKER)]


@dataclass(slots=True)
class _Subtree:
    """What a span and all under it hold: `heads` are complete units in it, `questions` what they ask."""

    heads: list[Span] = field(default_factory=list)
    questions: set[str | None] = field(default_factory=set)
    retrieves: bool = False
    answers: bool = False
    asked: str | None = None

    def take(self, other: "_Subtree") -> None:
        # What is taken is taken over, the smaller by the larger: nothing is copied again and again on its way up.
        larger, smaller = (self, other) if len(self.heads) >= len(other.heads) else (other, self)
        larger.heads += smaller.heads
        larger.questions |= smaller.questions
        self.heads, self.questions = larger.heads, larger.questions
        self.retrieves |= other.retrieves
        self.answers |= other.answers
        self.asked = self.asked or other.asked


def _heads(tree: SpanTree, root: Span) -> list[Span]:
    """The topmost spans of the RAG traces under a root; the root itself where there are not several."""
    # Children before parents, and without recursion: a hostile trace may be a chain of any length.
    known: dict[Key, _Subtree] = {}
    for span in reversed(list(tree.below(root))):
        here = _Subtree()
        reading = tree.readings.get(key_of(span))
        if reading is not None:
            here.retrieves = reading.role in {Role.RETRIEVER, Role.RERANKER} and Part.DOCUMENTS in reading.parts
            here.answers = reading.role is Role.LLM
        for child in tree.children.get(key_of(span), []):
            here.take(known.pop(key_of(child)))
        asks = reading.parts.get(Part.QUESTION) if reading and reading.role is not Role.LLM else None
        here.asked = asks.value if asks else here.asked
        if here.retrieves and here.answers and len(here.questions) <= 1:
            # The first span that holds both, or one around the only such span.
            here.heads, here.questions = [span], {here.asked}
        known[key_of(span)] = here
    heads = known[key_of(root)].heads
    return heads if len(heads) > 1 else [root]


def _turns(unit: _Unit) -> list[_Unit]:
    """A flat conversation, retrieval and answer by turns under a root that asks nothing itself, is several."""
    if unit.top is not None and Part.QUESTION in unit.top.parts:
        return [unit]
    turns: list[list[Reading]] = []
    answered = True
    for reading in unit.readings:
        retrieves = reading.role is Role.RETRIEVER and Part.DOCUMENTS in reading.parts
        if retrieves and answered:
            turns.append([])
            answered = False
        answered = answered or (reading.role is Role.LLM and bool(turns))
        if turns:
            turns[-1].append(reading)
    several = [_Unit(root=turn[0].span, readings=turn, parents=unit.parents) for turn in turns]
    asked = {found.value for one in several if one.is_complete and (found := _question(one))}
    return several if len(asked) > 1 else [unit]


def _assembled(unit: _Unit) -> Assembled:
    problems: list[str] = []
    question, answer = _question(unit), _answer(unit)
    documents, seen = _documents(unit, problems)
    told: dict[str, Found[Any] | None] = {"question": question, "documents": seen, "answer": answer}
    for part, found in told.items():
        if found is None:
            problems.append(_MISSING[part])
        elif found.value == REDACTED:
            problems.append(f"the {part} is redacted ({found.source})")
    if any(one.text == REDACTED for one in documents):
        problems.append("documents are redacted")
    if cut := sum(reading.span.dropped for reading in unit.readings):
        problems.append(
            f"{cut} attributes were dropped before they were sent: raise OTEL_SPAN_ATTRIBUTE_COUNT_LIMIT at the sender"
        )
    model = _last(unit.of(Role.LLM), Part.MODEL)
    return Assembled(
        trace_id=unit.root.trace_id,
        root=unit.root,
        question=_unhidden(question),
        documents=tuple(one for one in documents if one.text != REDACTED),
        answer=_unhidden(answer),
        model=model.value if model else None,
        sources={part: found.source for part, found in told.items() if found is not None},
        problems=tuple(problems),
    )


_MISSING = {
    "question": "no question: neither the outermost span nor a retriever nor the model's messages have one",
    "documents": "no retrieved text",
    "answer": "no answer: neither the outermost span nor a model's output has one",
}


def _unhidden(found: Found[str] | None) -> str | None:
    return None if found is None or found.value == REDACTED else found.value


def _question(unit: _Unit) -> Found[str] | None:
    if unit.top is not None and Part.QUESTION in unit.top.parts:
        return unit.top.parts[Part.QUESTION]
    return _first(unit.of(Role.RETRIEVER, Role.RERANKER), Part.QUESTION) or _last(unit.of(Role.LLM), Part.QUESTION)


def _answer(unit: _Unit) -> Found[str] | None:
    if unit.top is not None and Part.ANSWER in unit.top.parts:
        return unit.top.parts[Part.ANSWER]
    return _last(unit.of(Role.LLM), Part.ANSWER)


def _documents(unit: _Unit, problems: list[str]) -> tuple[list[Retrieved], Found[Any] | None]:
    """What the model saw: what rerankers left, else what retrievers found, else tools, else its prompt."""
    for roles in ((Role.RERANKER,), (Role.RETRIEVER,), (Role.TOOL,)):
        told = [reading.parts[Part.DOCUMENTS] for reading in unit.of(*roles) if Part.DOCUMENTS in reading.parts]
        if roles == (Role.RERANKER,):
            told = told[-1:]
        listed = _unique(document for found in told for document in found.value)
        with_text = [document for document in listed if document.text]
        if listed and len(with_text) < len(listed):
            problems.append(f"{len(listed) - len(with_text)} of {len(listed)} documents have no text")
        if with_text:
            return with_text, told[0]
    for roles in ((Role.TOOL,), (Role.LLM,)):
        given = [reading.parts[Part.CONTEXT] for reading in unit.of(*roles) if Part.CONTEXT in reading.parts]
        if given:
            listed = [Retrieved(id=found.attribute, text=found.value, score=None) for found in given]
            return _unique(listed if roles == (Role.TOOL,) else listed[-1:]), given[-1]
    return [], None


def _unique(documents: Iterable[Retrieved]) -> list[Retrieved]:
    """Each once, with ids of their own: nested retrievers tell of the same documents twice."""
    kept: dict[str, Retrieved] = {}
    seen: set[tuple[str | None, str | None]] = set()
    for number, document in enumerate(documents):
        if (document.id, document.text) in seen:
            continue
        seen.add((document.id, document.text))
        name = document.id or f"document-{number}"
        while name in kept:
            name = f"{name}~{number}"
        kept[name] = Retrieved(id=name, text=document.text, score=document.score)
    return list(kept.values())


def _first(readings: Sequence[Reading], part: Part) -> Found[Any] | None:
    return next((reading.parts[part] for reading in readings if part in reading.parts), None)


def _last(readings: Sequence[Reading], part: Part) -> Found[Any] | None:
    told = [reading for reading in readings if part in reading.parts]
    return max(told, key=lambda reading: (reading.span.end_ns, order_of(reading.span))).parts[part] if told else None
