"""The judge itself: traces in, opinions out."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Tier, Unjudgeable, Usage
from monitor.domain.trace import Trace
from monitor.inference.gguf.chat import chat_frame
from monitor.inference.gguf.context import Context, ContextPlan, Tokens
from monitor.inference.gguf.engine import Ended, Engine, Job, Writer
from monitor.inference.gguf.model import Model, Offload, file_digest
from monitor.inference.gguf.reading import Plan, Reader, reading_digest
from monitor.inference.gguf.reasoning import MOST_TOKENS, Reasoning
from monitor.inference.gguf.selftest import EXAMPLES, LEAST_SHARE
from monitor.inference.gguf.verdict import verdict_place
from monitor.judging.prompts import PromptFamily
from monitor.judging.windows import MOST_WINDOWS

log = logging.getLogger(__name__)

Explain = Callable[[Trace, float], bool]
"""Whether a trace with this raw score deserves reasoning in words."""

_SELF_TEST_SECONDS = 600.0


def never(_trace: Trace, _raw_score: float) -> bool:
    """Explain nothing."""
    return False


def always(_trace: Trace, _raw_score: float) -> bool:
    """Explain everything."""
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class GgufPlan:
    """How a GGUF judge uses its machine.

    Attributes:
        context_tokens: window of one prompt, at most the one that the model was trained with.
        sequences: prompts that are held at once, each in a window of its own.
        reading: prompts that are read at once; see `Engine`.
        most_windows: windows that are read of documents that do not fit whole.
        offload, threads, flash_attention, cache_type, most_mib: see `Offload` and `ContextPlan`.
    """

    context_tokens: int = 4096
    sequences: int = 2
    reading: int = 1
    most_windows: int = MOST_WINDOWS
    offload: Offload = field(default_factory=Offload)
    threads: int = 0
    flash_attention: str = "auto"
    cache_type: str = "f16"
    most_mib: int = 0


class GgufJudge:
    """A GGUF model as a judge. Thread-safe: one batch at a time, others wait within their deadline.

    Args:
        path: the GGUF file.
        prompt: how to ask.
        plan: how to use the machine.
        explain: which traces get reasoning when the caller does not say.

    Raises:
        JudgeUnavailable: the file is missing, is no model that llama.cpp can load, needs more memory than it may
            take, or does not answer with one of the prompt's two verdicts.
    """

    def __init__(
        self,
        path: Path,
        *,
        prompt: PromptFamily,
        plan: GgufPlan = GgufPlan(),
        explain: Explain = never,
    ) -> None:
        self._prompt = prompt
        self._explain = explain
        self._lock = threading.Lock()
        self._model = Model(path, plan.offload)
        try:
            self._prepare(plan)
        except BaseException:
            self._model.close()
            raise
        self._identity = JudgeIdentity(
            name="gguf",
            tier=Tier.EDGE,
            model=path.name,
            model_digest=file_digest(path),
            quantisation=self._model.quantisation,
            prompt_digest=reading_digest(prompt, plan.cache_type),
        )

    def _prepare(self, plan: GgufPlan) -> None:
        window = min(plan.context_tokens, self._model.trained_context)
        frame = chat_frame(self._model, self._prompt.system)
        self._verdict = verdict_place(self._model, self._prompt)
        self._reader = Reader(
            self._model,
            frame,
            self._prompt,
            forced=self._verdict.forced,
            context_tokens=window,
            reserve=MOST_TOKENS,
            most_windows=plan.most_windows,
        )
        self._context = Context(
            self._model,
            ContextPlan(
                tokens=window,
                sequences=plan.sequences + 1,  # one holds what all prompts begin with
                threads=plan.threads,
                flash_attention=plan.flash_attention,
                cache_type=plan.cache_type,
                most_mib=plan.most_mib,
            ),
        )
        try:
            self._engine = Engine(self._context, reading=plan.reading, shares=not self._model.is_recurrent)
            self._engine.share_prefix(self._common_beginning()[: window // 2])
            self._test()
        except BaseException:
            self._context.close()
            raise

    def _common_beginning(self) -> Tokens:
        """What all prompts begin with, found from two that differ in every text."""
        one, other = (self._reader.tokens(example.trace) for example in EXAMPLES[:2])
        length = min(len(one), len(other))
        differs = np.flatnonzero(one[:length] != other[:length])
        return one[: int(differs[0]) if len(differs) else length]

    def _test(self) -> None:
        """Refuse a model that does not answer with a verdict: its log-odds would be noise that looks like a score."""
        shares: list[float] = []

        def read(logits: NDArray[np.float32]) -> None:
            shares.append(self._verdict.read(logits).share)

        late = time.monotonic() + _SELF_TEST_SECONDS
        jobs = [Job(tokens=self._reader.tokens(each.trace), read=read, expires=lambda: late) for each in EXAMPLES]
        self._engine.run(jobs)
        if any(job.ended is not Ended.DONE for job in jobs):
            raise JudgeUnavailable(
                f"GGUF model {self._model.path.name}: {jobs[-1].error or 'no answer'} in its self-test"
            )
        share = float(np.mean(shares))
        log.info("self-test of %s: %.0f %% of its answer is a verdict", self._model.path.name, 100 * share)
        if not share >= LEAST_SHARE:  # also catches a share that is no number
            raise JudgeUnavailable(
                f"GGUF model {self._model.path.name} does not judge: asked in the form of prompt family "
                f"{self._prompt.name!r}, it gives {100 * share:.2g} % to the verdicts {self._prompt.faithful} and "
                f"{self._prompt.hallucinated} together; at least {100 * LEAST_SHARE:g} % are needed. Choose another "
                "family with gguf.prompt, or another model"
            )

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges, exactly."""
        return self._identity

    @property
    def shared_tokens(self) -> int:
        """Tokens that all prompts begin with; they are read once."""
        return self._engine.prefix_tokens

    def prompt_tokens(self, trace: Trace) -> Tokens:
        """The prompt of one trace whose documents fit whole."""
        return self._reader.tokens(trace)

    def close(self) -> None:
        """Free the model; work under way ends as late, and the judge cannot be used afterwards."""
        self._engine.cancel()
        with self._lock:
            self._context.close()
            self._model.close()

    def judge(self, trace: Trace, *, deadline_seconds: float) -> Opinion | CouldNotJudge:
        """Judge one trace; `raw_score` is the log-odds of the hallucinated verdict's word over the faithful one's."""
        return self.judge_many([trace], deadline_seconds=deadline_seconds)[0]

    def judge_many(
        self, traces: Sequence[Trace], *, deadline_seconds: float, explain: Explain | None = None
    ) -> list[Opinion | CouldNotJudge]:
        """One result a trace, in order.

        Args:
            traces: judged together, so that reading and writing of several overlap.
            deadline_seconds: for each trace, from when its reading begins; and for the wait until another thread's
                traces are through. Reasoning that is not done by then is kept as far as it came.
            explain: asked for each trace that fits one prompt; reasoning is written after its verdict.
        """
        if not self._lock.acquire(timeout=max(0.0, deadline_seconds)):
            busy = CouldNotJudge(reason=Unjudgeable.DEADLINE, detail="the judge was busy until the deadline")
            return [busy for _ in traces]
        try:
            works = [self._work(trace, deadline_seconds, explain or self._explain) for trace in traces]
            self._engine.run(job for work in works if isinstance(work, _Work) for job in work.jobs)
            return [work.result() if isinstance(work, _Work) else work for work in works]
        finally:
            self._lock.release()

    def _work(self, trace: Trace, deadline_seconds: float, explain: Explain) -> "_Work | CouldNotJudge":
        plan = self._reader.plan(trace)
        if isinstance(plan, CouldNotJudge):
            return plan
        return _Work(self, trace, plan, deadline_seconds, explain)

    def reasoning(self, log_odds: float) -> Reasoning:
        """Reasoning to be written after a verdict with this score."""
        word = self._prompt.hallucinated if log_odds >= 0 else self._prompt.faithful
        return Reasoning(self._model, self._prompt, word)

    def read(self, logits: NDArray[np.float32]) -> float:
        """The verdict's log-odds."""
        return self._verdict.read(logits).log_odds


class _Work:
    """One trace's prompts, and what came of them."""

    def __init__(self, judge: GgufJudge, trace: Trace, plan: Plan, deadline_seconds: float, explain: Explain) -> None:
        self._judge = judge
        self._trace = trace
        self._plan = plan
        self._seconds = deadline_seconds
        self._explain = explain
        self._expires: float | None = None
        self._scores: dict[int, float] = {}
        self._reasoning: Reasoning | None = None
        self.jobs: list[Job] = []
        for place, tokens in enumerate(plan.prompts):
            self.jobs.append(self._job(place, tokens))

    def _job(self, place: int, tokens: Tokens) -> Job:
        def read(logits: NDArray[np.float32]) -> Writer | None:
            return self._heard(place, logits)

        # Reasoning on one window or statement of several would explain a part as if it were the whole.
        may_write = MOST_TOKENS if len(self._plan.prompts) == 1 else 0
        before = self.jobs[-1] if self.jobs else None
        return Job(tokens=tokens, read=read, expires=self._begin, most_written=may_write, follows=before)

    def _begin(self) -> float:
        """The deadline of the whole trace runs from its first prompt."""
        if self._expires is None:
            self._expires = time.monotonic() + self._seconds
        return self._expires

    def _heard(self, place: int, logits: NDArray[np.float32]) -> Writer | None:
        score = self._scores[place] = self._judge.read(logits)
        if len(self._plan.prompts) == 1 and self._explain(self._trace, score):
            self._reasoning = self._judge.reasoning(score)
            return self._reasoning.writer
        return None

    def result(self) -> Opinion | CouldNotJudge:
        """The opinion, once every job has ended."""
        ends = {job.ended for job in self.jobs}
        if Ended.FAILED in ends:
            error = next(job.error for job in self.jobs if job.ended is Ended.FAILED)
            return CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=error)
        if Ended.LATE in ends:
            return CouldNotJudge(reason=Unjudgeable.DEADLINE, detail=f"not done within {self._seconds:g} s")
        scores = [self._scores[place] for place in range(len(self.jobs))]
        lines, written = None, 0
        if self._reasoning is not None:
            lines, written = self._reasoning.lines(), len(self._reasoning.writer.written)
        return Opinion(
            raw_score=self._plan.score(scores),
            unsupported=self._plan.spans(scores),
            reasoning=lines,
            usage=Usage(prompt_tokens=self._plan.tokens, completion_tokens=written),
            windows=self._plan.read_windows(scores),
        )
