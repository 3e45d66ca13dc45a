"""Evaluators beyond faithfulness: what is asked about one answer, and what the replies come to.

declared content ─▶ Evaluator ─▶ prompts(case) ─▶ … an engine … ─▶ read(replies) ─▶ Score, or none
"""

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, ClassVar

from monitor.domain.generation import Message
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.domain.trace import Trace
from monitor.judging.judgeable import REDACTION_MARKS
from monitor.judging.parsing.scores import ParsedScore, Preference, parse_level, parse_preference, parse_share
from monitor.judging.prompts.filling import pieces_of
from monitor.judging.prompts.scoring import LEVELS, PAIRWISE, PREDICATE, RUBRIC, ScoringFamily, predicate_message

Prompt = tuple[Message, ...]


class Kind(StrEnum):
    """How an evaluator asks; the words of the declaration's `kind`."""

    PREDICATE = "predicate"
    RUBRIC = "rubric"
    PAIRWISE = "pairwise"


class ReferenceUse(StrEnum):
    """Whether a rubric's row comes with a reference answer."""

    REQUIRED = "required"
    OPTIONAL = "optional"
    NONE = "none"


class Position(StrEnum):
    """The place that a judge favoured, whichever answer stood there."""

    FIRST = "first"
    SECOND = "second"


@dataclass(frozen=True, kw_only=True, slots=True)
class Case:
    """One answer to evaluate.

    Attributes:
        reference: an answer that deserves the highest score, or None.
        other_answer: what a pairwise evaluator compares the trace's answer with, or None.
    """

    trace: Trace
    reference: str | None = None
    other_answer: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Score:
    """What an evaluator says.

    Attributes:
        native: on its own scale: 0.0 to 1.0, 1 to 5, or a preference.
        normalised: the same in [0, 1], 1 best. Of a pair: 1 where the trace's answer is better, 0.5 for a tie.
        justification: in the judge's words, or None.
        favoured: of a pair, the position that won in both orders: its tie says nothing about the answers.
    """

    native: float | int | Preference
    normalised: float
    justification: str | None
    favoured: Position | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Evaluator(ABC):
    """One declared evaluator.

    Attributes:
        name: lower case, as in settings and results.
        description: one line for people.
        digest: SHA-256, in hex, of the declared content.
        max_tokens: longest reply.
        reads_documents: whether a row without documents cannot be evaluated.
    """

    kind: ClassVar[Kind]
    family: ClassVar[ScoringFamily]

    name: str
    description: str
    digest: str
    max_tokens: int
    reads_documents: bool

    @abstractmethod
    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        """What to ask about one case; each prompt is one call."""

    @abstractmethod
    def read(self, replies: Sequence[str]) -> Score | None:
        """What the replies, one a prompt, come to; None when one of them holds no score."""

    @property
    def version(self) -> str:
        """`name@<12 hex digits>`: changes with the declaration, and with the wording around it."""
        return f"{self.name}@{hashlib.sha256(f'{self.digest}{self.family.digest}'.encode()).hexdigest()[:12]}"

    def lacks(self, case: Case) -> str | None:
        """The field without which this case cannot be asked about, as rows name it; None when all are there."""
        return "reference" if self.needs_reference and not (case.reference or "").strip() else None

    @property
    def needs_reference(self) -> bool:
        """Whether a row must carry a reference answer."""
        return False

    def why_unjudgeable(self, case: Case) -> CouldNotJudge | None:
        """Why nobody could evaluate this case; None when somebody could."""
        for answer in (case.trace.answer, case.other_answer):
            if answer is not None and not answer.strip():
                return CouldNotJudge(reason=Unjudgeable.EMPTY_ANSWER, detail="the answer is blank")
            if answer is not None and answer.strip().upper() in REDACTION_MARKS:
                return CouldNotJudge(reason=Unjudgeable.REDACTED, detail="the answer was withheld")
        if self.reads_documents and not documents_of(case.trace):
            return CouldNotJudge(reason=Unjudgeable.NO_DOCUMENTS, detail=f"{self.name} reads documents: there are none")
        return None


@dataclass(frozen=True, kw_only=True, slots=True)
class PredicateEvaluator(Evaluator):
    """How true a predicate is, from 0 to 1.

    Attributes:
        intent: what the evaluation is for.
        predicate: a format string with the slots of `PREDICATE_SLOTS`.
    """

    kind = Kind.PREDICATE
    family = PREDICATE

    intent: str
    predicate: str

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        """One prompt."""
        trace = case.trace
        texts = {"question": trace.question, "documents": documents_of(trace), "answer": trace.answer}
        system = PREDICATE.system_message({"name": self.name, "intent": self.intent})
        return ((system, predicate_message(self.predicate, texts)),)

    def read(self, replies: Sequence[str]) -> Score | None:
        """A number from 0 to 1."""
        (reply,) = replies
        said = parse_share(reply, PREDICATE.keys)
        if said is None:
            return None
        return Score(native=said.value, normalised=said.value, justification=said.justification)


@dataclass(frozen=True, kw_only=True, slots=True)
class RubricEvaluator(Evaluator):
    """A level from 1 to 5, each described.

    Attributes:
        criterion: what is assessed, as a question.
        levels: the descriptions of 1, 2, 3, 4 and 5.
        reference: whether rows come with a reference answer.
    """

    kind = Kind.RUBRIC
    family = RUBRIC

    criterion: str
    levels: tuple[str, ...]
    reference: ReferenceUse

    @property
    def needs_reference(self) -> bool:
        """As declared."""
        return self.reference is ReferenceUse.REQUIRED

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        """One prompt; a reference answer stands in it where the row has one and the rubric takes one."""
        levels = "\n".join(f"Score {level}: {text}" for level, text in zip(LEVELS, self.levels, strict=True))
        texts = {
            "question": case.trace.question,
            "documents": documents_of(case.trace) if self.reads_documents else None,
            "answer": case.trace.answer,
            "reference": None if self.reference is ReferenceUse.NONE else case.reference,
        }
        system = RUBRIC.system_message({"criterion": self.criterion, "levels": levels})
        return ((system, RUBRIC.user_message(texts)),)

    def read(self, replies: Sequence[str]) -> Score | None:
        """A level; 1 is 0 and 5 is 1 when normalised."""
        (reply,) = replies
        said = parse_level(reply, RUBRIC.keys, lowest=LEVELS[0], highest=LEVELS[-1])
        if said is None:
            return None
        normalised = (said.value - LEVELS[0]) / (LEVELS[-1] - LEVELS[0])
        return Score(native=said.value, normalised=normalised, justification=said.justification)


@dataclass(frozen=True, kw_only=True, slots=True)
class PairwiseEvaluator(Evaluator):
    """The better one of two answers, asked in both orders.

    Only a winner in both orders wins: a judge that changes its mind with the order has no preference, and the
    position that it favours is reported.
    """

    kind = Kind.PAIRWISE
    family = PAIRWISE

    criterion: str

    def lacks(self, case: Case) -> str | None:
        """`answer_b`, where there is nothing to compare with."""
        return "answer_b" if case.other_answer is None else None

    def prompts(self, case: Case) -> tuple[Prompt, ...]:
        """Two prompts: this answer first, then the other one first."""
        texts = {
            "question": case.trace.question,
            "documents": documents_of(case.trace) if self.reads_documents else None,
        }
        orders = ((case.trace.answer, case.other_answer), (case.other_answer, case.trace.answer))
        system = PAIRWISE.system_message({"criterion": self.criterion})
        return tuple(
            (system, PAIRWISE.user_message({**texts, "first": first, "second": second})) for first, second in orders
        )

    def read(self, replies: Sequence[str]) -> Score | None:
        """The winner of both orders, or a tie."""
        plain, swapped = (parse_preference(reply, PAIRWISE.keys) for reply in replies)
        return None if plain is None or swapped is None else _agreed(plain, swapped)


_OTHER = {Preference.A: Preference.B, Preference.B: Preference.A, Preference.TIE: Preference.TIE}
_NORMALISED = {Preference.A: 1.0, Preference.TIE: 0.5, Preference.B: 0.0}


def _agreed(plain: ParsedScore[Preference], swapped: ParsedScore[Preference]) -> Score:
    agreed = plain.value is _OTHER[swapped.value]
    winner = plain.value if agreed else Preference.TIE
    favoured = None
    if plain.value is swapped.value and plain.value is not Preference.TIE:
        favoured = Position.FIRST if plain.value is Preference.A else Position.SECOND
    said = plain.justification
    if not agreed:
        orders = (("in this order", plain), ("in the other order", swapped))
        said = "\n".join(f"{order} ({each.value}): {each.justification or 'no reason given'}" for order, each in orders)
    return Score(native=winner, normalised=_NORMALISED[winner], justification=said, favoured=favoured)


def documents_of(trace: Trace) -> str:
    """The documents' texts in order, a blank line between; empty when none holds anything."""
    return "\n\n".join(document.text for document in trace.documents if document.text.strip())


def slots_of(template: str) -> tuple[str, ...]:
    """A predicate template's slots, in order; raises ValueError for unbalanced braces."""
    return tuple(slot for _, slot in pieces_of(template) if slot is not None)


def content_digest(content: Mapping[str, Any]) -> str:
    """SHA-256, in hex, of declared content as canonical JSON: the order of keys and comments do not matter."""
    canonical = json.dumps(content, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()
