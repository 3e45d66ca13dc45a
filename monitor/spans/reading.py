"""What one span says of a RAG trace: the terms that the conventions are translated into."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, TypeVar

from monitor.spans.span import Attributes, Span


class Role(StrEnum):
    """What a span stands for."""

    RETRIEVER = "retriever"
    RERANKER = "reranker"
    LLM = "llm"
    TOOL = "tool"
    STEP = "step"
    """Anything around these: a chain, an agent, a task."""


class Part(StrEnum):
    """What a rule finds."""

    QUESTION = "question"
    DOCUMENTS = "documents"
    ANSWER = "answer"
    CONTEXT = "context"
    """Text that the model was given to answer from, where no retriever says what it found."""
    MODEL = "model"


Value = TypeVar("Value")


@dataclass(frozen=True, kw_only=True, slots=True)
class Found(Generic[Value]):
    """A value, and the attribute of the span that it came from."""

    value: Value
    span: Span
    attribute: str

    @property
    def source(self) -> str:
        """Where it came from, for people."""
        return f"{self.span.name}: {self.attribute}"


@dataclass(frozen=True, kw_only=True, slots=True)
class Retrieved:
    """One document as a span tells of it; no text is a document that cannot be judged against."""

    id: str | None
    text: str | None
    score: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """Where a convention has one part, for spans of one role.

    Attributes:
        attribute: its key, or the prefix of its keys.
        read: the part, from all attributes of the span and the key; None where it is not there.
    """

    role: Role
    part: Part
    attribute: str
    read: Callable[[Attributes, str], Any]


@dataclass(frozen=True, kw_only=True, slots=True)
class Reading:
    """A span in these terms; of each part what the first rule found that found anything."""

    span: Span
    role: Role
    parts: Mapping[Part, Found[Any]] = field(default_factory=dict)


def apply(rules: Sequence[Rule], span: Span, role: Role) -> Reading:
    """Read a span of this role by these rules, in their order."""
    parts: dict[Part, Found[Any]] = {}
    for rule in rules:
        if rule.role is role and rule.part not in parts:
            value = rule.read(span.attributes, rule.attribute)
            if value is not None:
                parts[rule.part] = Found(value=value, span=span, attribute=rule.attribute)
    return Reading(span=span, role=role, parts=parts)
