"""Prompt families, as data, and how judged text is put into them.

Judged text is hostile: it may hold the prompt's own section marks, a chat template's control tokens, a forged
verdict or a format placeholder. `neutralise` breaks those sequences and leaves the words; `PromptFamily.render`
fills each slot once, so that a placeholder inside a document stays text.
"""

import hashlib
import string
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from monitor.domain.errors import InvalidSettings
from monitor.domain.trace import Trace
from monitor.judging.neutralise import neutralise

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
    """

    name: str
    template: str
    faithful: str
    hallucinated: str
    forced_prefix: str
    json_keys: tuple[str, str] | None

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of everything above that a model gets to see or is read by."""
        parts = (self.template, self.faithful, self.hallucinated, self.forced_prefix, repr(self.json_keys))
        return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()

    def render(self, trace: Trace) -> str:
        """The user message for one trace, with its texts neutralised."""
        texts = {
            "question": neutralise(trace.question),
            "context": neutralise("\n\n".join(document.text for document in trace.documents)),
            "answer": neutralise(trace.answer),
        }
        pieces = []
        for literal, slot, _, _ in string.Formatter().parse(self.template):
            pieces.append(literal)
            if slot is not None:
                pieces.append(texts[slot])
        return "".join(pieces)


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
