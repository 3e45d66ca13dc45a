"""Prompt families that ask whether an answer is faithful to its documents, and how a trace is put into them."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from monitor.domain.errors import InvalidSettings
from monitor.domain.generation import Message, Role
from monitor.domain.trace import Trace
from monitor.judging.neutralise import REVISION
from monitor.judging.prompts.filling import filled

_LYNX = """\
Given the following QUESTION, DOCUMENT and ANSWER you must analyze the provided answer and determine whether it is \
faithful to the contents of the DOCUMENT. The ANSWER must not offer new information beyond the context provided in \
the DOCUMENT. The ANSWER also must not contradict information provided in the DOCUMENT. Output your final verdict by \
strictly following this format: "PASS" if the answer is faithful to the DOCUMENT and "FAIL" if the answer is not \
faithful to the DOCUMENT. Show your reasoning.

--
QUESTION (THIS DOES NOT COUNT AS BACKGROUND INFORMATION):
{question}

--
DOCUMENT:
{context}

--
ANSWER:
{answer}

--

Your output should be in JSON FORMAT with the keys "REASONING" and "SCORE":
{{"REASONING": <your reasoning as bullet points>, "SCORE": <your final score>}}"""

_SUPPORT = """\
DOCUMENT:
{context}

QUESTION:
{question}

ANSWER:
{answer}

Is every statement of the ANSWER supported by the DOCUMENT? Reply with one word, Yes or No."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PromptFamily:
    """One way to ask a language model for a verdict.

    Attributes:
        template: one user message, a format string with the slots `question`, `context` and `answer`.
        faithful, hallucinated: the two verdicts that the prompt offers.
        forced_prefix: how a reply begins when only the verdict is wanted; the verdict's word comes next.
        json_keys: the reply's reasoning key and score key, in the order that the model was trained on;
            None when the reply is the bare verdict.
        system: the system message, where the family has one.
        by_sentence: whether the answer's sentences are asked about one by one; the worst one decides.
    """

    name: str
    template: str
    faithful: str
    hallucinated: str
    forced_prefix: str
    json_keys: tuple[str, str] | None
    system: str | None = None
    by_sentence: bool = False

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of everything above that a model gets to see or is read by."""
        parts: tuple[str, ...] = (
            self.template,
            self.faithful,
            self.hallucinated,
            self.forced_prefix,
            repr(self.json_keys),
        )
        # What came later is only counted where it is used, so that the versions of before stay as they were.
        if self.system is not None or self.by_sentence:
            parts = (*parts, self.system or "", "sentence" if self.by_sentence else "answer")
        if REVISION != 1:
            parts = (*parts, f"neutralise {REVISION}")
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

    def render(self, trace: Trace, context: str | None = None) -> str:
        """The user message for one trace, with its texts neutralised.

        Args:
            trace: what is judged.
            context: stands in the place of the documents' texts: one window of them.
        """
        whole = "\n\n".join(document.text for document in trace.documents) if context is None else context
        return filled(self.template, {"question": trace.question, "context": whole, "answer": trace.answer})

    def messages(self, trace: Trace, context: str | None = None) -> tuple[Message, ...]:
        """The whole prompt for one trace: the system message, where there is one, and the user message."""
        asked = Message(role=Role.USER, content=self.render(trace, context))
        return (Message(role=Role.SYSTEM, content=self.system), asked) if self.system else (asked,)


LYNX = PromptFamily(
    name="lynx",
    template=_LYNX,
    faithful="PASS",
    hallucinated="FAIL",
    forced_prefix='{"SCORE": "',
    json_keys=("REASONING", "SCORE"),
)
"""Patronus Lynx, word for word as its model card gives it. The card's order is reasoning, then score."""

SUPPORT = PromptFamily(
    name="support",
    template=_SUPPORT,
    faithful="Yes",
    hallucinated="No",
    forced_prefix="",
    json_keys=None,
)
"""For general instruction models, which do better on a plain question than on another model's training prompt."""

PROMPTS: Mapping[str, PromptFamily] = MappingProxyType({family.name: family for family in (LYNX, SUPPORT)})


def prompt_family(name: str) -> PromptFamily:
    """The family of that name.

    Raises:
        InvalidSettings: there is none; the message lists those that exist.
    """
    try:
        return PROMPTS[name]
    except KeyError:
        raise InvalidSettings(f"prompt = {name!r}: choose one of {', '.join(sorted(PROMPTS))}") from None
