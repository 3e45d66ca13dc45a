"""How much of the machine verdict-first judging gets: ratios within one process and one run, for they alone travel.

raw          the same tokens through `llama_decode` in full batches, no prefix shared, no verdict read
verdicts     `GgufJudge.judge` over the same prompts
completion   llama-cpp-python's `create_chat_completion`, asked for JSON with so many tokens of reasoning
"""

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import llama_cpp

from monitor.domain.errors import InvalidInput
from monitor.domain.judgement import CouldNotJudge
from monitor.domain.trace import Document, Trace
from monitor.inference.gguf.context import Context, ContextPlan, Piece, Step, Tokens
from monitor.inference.gguf.judge import GgufJudge, GgufPlan
from monitor.inference.gguf.model import Model
from monitor.judging.prompts import PromptFamily

REASONING_TOKENS = (88, 200, 400)
"""Lengths of reasoning for the comparison: what Lynx writes at least, often, and at most."""

_DEADLINE_SECONDS = 3600.0

_ENDLESS = {
    "type": "object",
    "properties": {"REASONING": {"type": "array", "items": {"type": "string"}, "minItems": 99}},
}
"""A schema that no short reply satisfies, so that each is as long as it may be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Repetition:
    """Seconds of one repetition over all prompts.

    Attributes:
        raw_seconds: reading all prompts whole.
        verdict_seconds: judging them.
    """

    raw_seconds: float
    verdict_seconds: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """The plain chat path.

    Attributes:
        reasoning_tokens: what it was made to write.
        seconds: a trace, all prompts' mean.
        ratio: how many times longer than a verdict.
    """

    reasoning_tokens: int
    seconds: float
    ratio: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Throughput:
    """What was measured.

    Attributes:
        model, prompt: who judged and how it was asked.
        traces: prompts in each repetition.
        nominal_tokens: tokens of all prompts, as a server would count them.
        computed_tokens: of these, those that were read anew.
        shared_share: share of a prompt that all prompts begin with.
    """

    model: str
    prompt: str
    traces: int
    nominal_tokens: int
    computed_tokens: int
    shared_share: float
    repetitions: tuple[Repetition, ...]
    completions: tuple[Completion, ...]

    @property
    def raw_rates(self) -> list[float]:
        """Tokens a second of plain reading, each repetition."""
        return [self.nominal_tokens / one.raw_seconds for one in self.repetitions]

    @property
    def computed_ratios(self) -> list[float]:
        """Tokens really read a second by the judge, over the raw rate of the same repetition."""
        rates = (self.computed_tokens / one.verdict_seconds for one in self.repetitions)
        return [rate / raw for rate, raw in zip(rates, self.raw_rates, strict=True)]

    @property
    def nominal_ratios(self) -> list[float]:
        """Nominal tokens a second by the judge, over the raw rate of the same repetition."""
        rates = (self.nominal_tokens / one.verdict_seconds for one in self.repetitions)
        return [rate / raw for rate, raw in zip(rates, self.raw_rates, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return {
            "model": self.model,
            "prompt": self.prompt,
            "traces": self.traces,
            "nominal_tokens": self.nominal_tokens,
            "computed_tokens": self.computed_tokens,
            "shared_share": self.shared_share,
            "raw_tokens_per_second": self.raw_rates,
            "computed_over_raw": self.computed_ratios,
            "nominal_over_raw": self.nominal_ratios,
            "completions": [
                {"reasoning_tokens": one.reasoning_tokens, "seconds_per_trace": one.seconds, "ratio": one.ratio}
                for one in self.completions
            ],
        }


@dataclass(frozen=True, kw_only=True, slots=True)
class Measurement:
    """What is to be measured.

    Attributes:
        path: the GGUF file.
        prompt: how to ask.
        plan: how to use the machine.
        shared_share: documents are brought to a length at which this share of each prompt is what all begin with.
        repetitions: turns of raw reading and judging.
        completion_traces: of the traces, so many go through the chat path, which is slow; 0 leaves it out.
    """

    path: Path
    prompt: PromptFamily
    plan: GgufPlan
    shared_share: float = 0.22
    repetitions: int = 5
    completion_traces: int = 2

    def run(self, traces: Sequence[Trace], progress: Callable[[str], None]) -> Throughput:
        """Measure; raw reading and judging take turns, so that what else the machine does touches both alike.

        Args:
            traces: the documents of all are the store from which each one's are filled up.
            progress: told what is being done.

        Raises:
            JudgeUnavailable: the model cannot judge.
            InvalidInput: the context is too short for prompts of that shape.
        """
        judge = GgufJudge(self.path, prompt=self.prompt, plan=self.plan)
        try:
            shaped = _shaped(traces, judge, self.shared_share)
            prompts = [judge.prompt_tokens(trace) for trace in shaped]
            turns = self._turns(judge, shaped, prompts, progress)
            shared = judge.shared_tokens
        finally:
            judge.close()
        nominal = sum(map(len, prompts))
        seconds = statistics.median(one.verdict_seconds for one in turns) / len(shaped)
        return Throughput(
            model=self.path.name,
            prompt=self.prompt.name,
            traces=len(shaped),
            nominal_tokens=nominal,
            computed_tokens=nominal - shared * len(prompts),
            shared_share=shared * len(prompts) / nominal,
            repetitions=tuple(turns),
            completions=tuple(self._completions(shaped[: self.completion_traces], seconds, progress)),
        )

    def _turns(
        self, judge: GgufJudge, traces: Sequence[Trace], prompts: Sequence[Tokens], progress: Callable[[str], None]
    ) -> list[Repetition]:
        model = Model(self.path, self.plan.offload)
        plan = ContextPlan(tokens=self.plan.context_tokens, sequences=1, threads=self.plan.threads)
        try:
            raw = Context(model, plan)
            try:
                _turn(judge, raw, traces[:1], prompts[:1])  # warms both up
                turns = []
                for number in range(self.repetitions):
                    progress(f"repetition {number + 1} of {self.repetitions}")
                    turns.append(_turn(judge, raw, traces, prompts))
                return turns
            finally:
                raw.close()
        finally:
            model.close()

    def _completions(
        self, traces: Sequence[Trace], verdict_seconds: float, progress: Callable[[str], None]
    ) -> Iterator[Completion]:
        if not traces:
            return
        threads = self.plan.threads or None
        chat = llama_cpp.Llama(
            str(self.path),
            n_ctx=self.plan.context_tokens,
            n_gpu_layers=self.plan.offload.layers,
            n_threads=threads,
            n_threads_batch=threads,
            verbose=False,
        )
        try:
            for length in REASONING_TOKENS:
                progress(f"chat completions with {length} tokens of reasoning")
                began = time.perf_counter()
                for trace in traces:
                    _complete(chat, self.prompt.render(trace), length)
                seconds = (time.perf_counter() - began) / len(traces)
                yield Completion(reasoning_tokens=length, seconds=seconds, ratio=seconds / verdict_seconds)
        finally:
            chat.close()


def _shaped(traces: Sequence[Trace], judge: GgufJudge, share: float) -> list[Trace]:
    """The traces, each one's documents filled up from the others' until its prompt has the wanted length."""
    wanted = round(judge.shared_tokens / share)
    store = " ".join(document.text for trace in traces for document in trace.documents).split() or ["text"]
    # Round and round, where the rows hold less text than one prompt is to have.
    store *= -(-wanted // len(store))
    shaped = []
    for number, trace in enumerate(traces):
        # Each begins elsewhere in the store, so that no two share more than what all share.
        turned = store[number * len(store) // len(traces) :] + store[: number * len(store) // len(traces)]
        low, high = 1, wanted
        while low < high:
            middle = (low + high + 1) // 2
            fits = len(judge.prompt_tokens(_with_documents(trace, turned[:middle]))) <= wanted
            low, high = (middle, high) if fits else (low, middle - 1)
        shaped.append(_with_documents(trace, turned[:low]))
    return shaped


def _with_documents(trace: Trace, words: Sequence[str]) -> Trace:
    return replace(trace, documents=(Document(id="filled-up", text=" ".join(words)),))


def _turn(judge: GgufJudge, raw: Context, traces: Sequence[Trace], prompts: Sequence[Tokens]) -> Repetition:
    began = time.perf_counter()
    for tokens in prompts:
        _read_whole(raw, tokens)
    between = time.perf_counter()
    for trace in traces:
        result = judge.judge(trace, deadline_seconds=_DEADLINE_SECONDS)
        if isinstance(result, CouldNotJudge):
            raise InvalidInput(f"{trace.trace_id} could not be judged: {result.reason}: {result.detail}")
    return Repetition(raw_seconds=between - began, verdict_seconds=time.perf_counter() - between)


def _read_whole(context: Context, tokens: Tokens) -> None:
    context.cut(0, 0)
    batch = context.plan.batch
    for start in range(0, len(tokens), batch):
        piece = tokens[start : start + batch]
        last = start + len(piece) == len(tokens)
        if context.step([Piece(0, start, piece, wants_logits=last)]) is not Step.DONE:
            raise InvalidInput(f"prompts of {len(tokens)} tokens do not fit; raise gguf.context_tokens")


def _complete(chat: llama_cpp.Llama, message: str, length: int) -> None:
    """One reply of exactly `length` tokens: its content does not matter for its price."""
    chat.create_chat_completion(
        messages=[{"role": "user", "content": message}],
        temperature=0.0,
        max_tokens=length,
        response_format={"type": "json_object", "schema": _ENDLESS},
    )
