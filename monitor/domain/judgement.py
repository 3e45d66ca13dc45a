"""What one judge says about one trace."""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from monitor.domain.trace import Trace


class Tier(StrEnum):
    """The rungs of the cascade, cheapest first."""

    SCREEN = "screen"
    EDGE = "edge"
    POOL = "pool"


class Unjudgeable(StrEnum):
    """Why a trace, or one judge's attempt at it, ended without a verdict."""

    NO_DOCUMENTS = "no_documents"
    EMPTY_ANSWER = "empty_answer"
    REDACTED = "redacted"
    TOO_LONG = "too_long"
    DEADLINE = "deadline"
    UNPARSEABLE = "unparseable"
    UNCALIBRATED = "uncalibrated"
    JUDGE_ERROR = "judge_error"
    JUDGE_UNAVAILABLE = "judge_unavailable"
    BUDGET_EXHAUSTED = "budget_exhausted"
    EXPIRED = "expired"


@dataclass(frozen=True, kw_only=True, slots=True)
class JudgeIdentity:
    """Everything that, if it changed, could change a judge's word.

    Attributes:
        name: what people call it: `screen`, `gguf`, `pool`.
        tier: its rung in the cascade.
        model: file name or served model name.
        model_digest: SHA-256 of the weights, in hex, or the server's own name for the revision.
        quantisation: `Q4_K_M`, `fp8`, … or None where it has no meaning.
        prompt_digest: SHA-256, in hex, of the prompt or features and of how they are read, or None where there is
            nothing to tell apart.
    """

    name: str
    tier: Tier
    model: str
    model_digest: str
    quantisation: str | None = None
    prompt_digest: str | None = None

    @property
    def version(self) -> str:
        """A short stable name: `screen@3f2a9c01d4e5`. Equal exactly when every attribute is equal."""
        parts = (self.name, self.tier, self.model, self.model_digest, self.quantisation, self.prompt_digest)
        digest = hashlib.sha256("\x1f".join(str(part) for part in parts).encode()).hexdigest()
        return f"{self.name}@{digest[:12]}"


@dataclass(frozen=True, kw_only=True, slots=True)
class UnsupportedSpan:
    """A stretch of the answer that the documents do not support.

    Attributes:
        start, end: character offsets in the answer, end exclusive.
        score: how unsupported, 0 (supported) to 1.
        document_id: the document with the nearest support, or None if nothing comes near.
        document_start, document_end: the nearest supporting sentence's offsets in that document's text.
    """

    start: int
    end: int
    score: float
    document_id: str | None = None
    document_start: int | None = None
    document_end: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Usage:
    """What a judgement cost."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    cost_usd: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True)
class Passage:
    """A stretch of one document: character offsets in its text, end exclusive."""

    document_id: str
    start: int
    end: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Window:
    """What a judge reads in one go, of documents that do not fit whole.

    Attributes:
        passages: in the documents' order.
        raw_score: log-odds of *hallucinated* with only this window to support the answer; None for a window that
            the budget left unread.
    """

    passages: tuple[Passage, ...]
    raw_score: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Opinion:
    """A judge's own word, before calibration.

    Attributes:
        raw_score: its log-odds of *hallucinated*, on its own scale.
        windows: how the documents were read where they did not fit whole; empty when they did.
    """

    raw_score: float
    unsupported: tuple[UnsupportedSpan, ...] = ()
    reasoning: str | None = None
    usage: Usage = Usage()
    windows: tuple[Window, ...] = ()


@dataclass(frozen=True, kw_only=True, slots=True)
class CouldNotJudge:
    """The outcome that is not a verdict. It is counted and visible, never silently a PASS or a FAIL."""

    reason: Unjudgeable
    detail: str = ""


class Judge(Protocol):
    """The port that every local judge implements."""

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges, exactly."""

    def judge(self, trace: Trace, *, deadline_seconds: float) -> Opinion | CouldNotJudge:
        """Judge one trace within the deadline. Blocks; raises nothing for a trace's sake."""


class BatchJudge(Protocol):
    """The port of local judges that are cheapest in batches."""

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges, exactly."""

    def judge_many(self, traces: Sequence[Trace], *, deadline_seconds: float) -> list[Opinion | CouldNotJudge]:
        """One result a trace, in order. No trace waits longer than the deadline; what is late could not be judged."""


class ExplainingJudge(Protocol):
    """The port of local judges that can say why, in words, when that is worth its price."""

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges, exactly."""

    def judge_many(
        self, traces: Sequence[Trace], *, deadline_seconds: float, explain: Callable[[Trace, float], bool] | None = None
    ) -> list[Opinion | CouldNotJudge]:
        """One result a trace, in order; `explain` is told each trace's raw score and says whether to give reasons."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Judgement:
    """One judge's calibrated word on one trace, with the price paid for it.

    Attributes:
        probability: calibrated probability that the answer is hallucinated; None when it could not judge.
        result: the opinion, or why there is none.
        latency_seconds: wall time that the judge took.
        inclusion_probability: the probability with which this trace was chosen for this tier.
        chosen_because: `all`, `unsure`, `audit`, … as the policy says.
    """

    judge: JudgeIdentity
    result: Opinion | CouldNotJudge
    probability: float | None
    latency_seconds: float
    inclusion_probability: float
    chosen_because: str
