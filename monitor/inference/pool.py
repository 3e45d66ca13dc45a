"""The pool judge: a large model behind OpenAI-compatible APIs (vLLM, SGLang, llama.cpp's servers).

    trace ─▶ slot at a server that is well ─▶ call (and, past the 95th percentile, a second one elsewhere)
                ▲                                │
                └── pause, another server ◀──────┴─▶ opinion, or why there is none

Every call has a deadline and gives its slot back, whatever becomes of it. What servers refuse or fail is sorted into
what may be tried again at once, what later (the escalation stays queued), and what never.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace

from monitor.config import PoolSettings
from monitor.domain.errors import JudgeUnavailable, LedgerUnavailable
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Tier, Unjudgeable, Usage
from monitor.domain.trace import Trace
from monitor.inference.breaker import CircuitBreaker
from monitor.inference.concurrency import AdaptiveLimit
from monitor.inference.endpoints import CircuitOpen, Endpoint, Endpoints, Slot
from monitor.inference.hedging import Hedging
from monitor.inference.pool_call import Attempt, CallFailed, Case, PoolCall, PoolCaller
from monitor.inference.pool_failure import Later, passing, reported
from monitor.inference.pool_protocol import Asking, is_too_long, read_answer
from monitor.inference.pool_spending import BudgetSpent, Spending
from monitor.judging.prompts import PromptFamily, prompt_family
from monitor.outbound import AsyncHttpClient

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 30.0
"""A server that asks for a longer pause is taken for unavailable instead of waited for."""

_FIRST_PAUSE_SECONDS = 0.5
_EXCERPT_BYTES = 200

Result = Opinion | CouldNotJudge


class PoolJudge:
    """Judges through the pool; for one event loop, any number of tasks.

    Args:
        settings: where the pool is, its price and its limits.
        client: makes the calls, each within its deadline (`settings.deadline_seconds`); the caller closes it.
        spending: the tenants' budgets; without, nobody pays and nothing is limited.
        stopwatch: a steady clock, in seconds.
        sleep: waits between two attempts.
        choice: draws servers and pauses; seed it for a run that can be repeated.
        observe: told of each call.

    Raises:
        JudgeUnavailable: no URL is set, or the prompt family cannot be asked through a server.
    """

    def __init__(
        self,
        settings: PoolSettings,
        client: AsyncHttpClient,
        *,
        spending: Spending | None = None,
        stopwatch: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        choice: random.Random | None = None,
        observe: Callable[[PoolCall], None] = lambda _call: None,
    ) -> None:
        if settings.url is None:
            raise JudgeUnavailable("pool.url is not set")
        self._settings = settings
        self._sleep = sleep
        self._choice = choice or random.Random()  # noqa: S311 - spreads load, no secret
        self._prompt = prompt_family(settings.prompt)
        if self._prompt.by_sentence:
            raise JudgeUnavailable(f"pool.prompt = {settings.prompt!r} asks sentence by sentence: use it for the edge")
        servers = [_endpoint(url, settings, self._prompt) for url in (settings.url, *settings.urls)]
        self.endpoints = Endpoints(servers, stopwatch=stopwatch, choice=self._choice)
        hedges = settings.hedge == "always" or (settings.hedge == "auto" and len(servers) > 1)
        self._hedging = Hedging(share=settings.hedge_share) if hedges else None
        self._caller = PoolCaller(
            settings, client, self._prompt, spending=spending, stopwatch=stopwatch, took=self._took, observe=observe
        )

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges, as far as the settings tell: the revision is the operator's word, the same for all servers."""
        return JudgeIdentity(
            name="pool",
            tier=Tier.POOL,
            model=self._settings.model,
            model_digest=self._settings.revision,
            prompt_digest=self._prompt.digest,
        )

    @property
    def is_open(self) -> bool:
        """Whether every circuit is open: claim no work."""
        return self.endpoints.is_open

    @property
    def capacity(self) -> int:
        """How many traces may be judged at a time now: claim no more."""
        return self.endpoints.capacity

    @property
    def asking(self) -> Asking:
        """What the first server last accepted: the form of reply, and how many log-probabilities."""
        return next(iter(self.endpoints)).asking

    async def judge(self, trace: Trace) -> Result:
        """Judge one trace; raises nothing for a trace's sake. A `PassingFailure` may be tried again later.

        Makes at most `max_attempts` attempts with pauses of at most `LONGEST_PAUSE_SECONDS` between them. Each waits
        for a slot for at most the deadline, and then makes one call of at most the deadline, or two that overlap. A
        call that the server refuses only for its form is made again at once in the next form and is not counted.
        """
        case = self._caller.case(trace)
        outcome: Result = passing("the circuit is open", Later.POOL_AWAY)
        for attempt in range(self._settings.max_attempts):
            try:
                return self._paid(case, await self._attempt(case, Attempt.RETRY if attempt else Attempt.FIRST))
            except CircuitOpen:
                break
            except BudgetSpent as spent:
                return CouldNotJudge(reason=Unjudgeable.BUDGET_EXHAUSTED, detail=str(spent))
            except LedgerUnavailable as error:
                return passing(f"no budget can be asked: {error}", Later.UNCOUNTED)
            except TimeoutError:
                return passing("no slot came free", Later.UNCOUNTED)
            except CallFailed as failed:
                outcome = failed.outcome
                case.avoid.add(failed.endpoint)
                pause = self._pause(failed, attempt)
            if pause > LONGEST_PAUSE_SECONDS or attempt + 1 == self._settings.max_attempts:
                break
            await self._sleep(pause)
        return outcome

    def _pause(self, failed: CallFailed, attempt: int) -> float:
        if failed.pause is not None and not self.endpoints.other_than(failed.endpoint):
            return failed.pause
        # Full jitter: uniform between nothing and an exponentially growing cap, so that retries come in no waves.
        return self._choice.uniform(0.0, min(LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt))

    def _paid(self, case: Case, result: Result) -> Result:
        if not isinstance(result, Opinion):
            return result
        used, cost = case.used, self._caller.price.micro_usd(case.used) / 1e6
        return replace(result, usage=Usage(prompt_tokens=used.prompt, completion_tokens=used.completion, cost_usd=cost))

    async def _attempt(self, case: Case, attempt: Attempt) -> Result:
        """One call, and a second one where the first is slow: the first good answer counts, the other is ended."""
        async with asyncio.timeout(self._settings.deadline_seconds):
            slot = await self.endpoints.take(avoid=case.avoid)
        slow_after = self._hedging.called() if self._hedging is not None else None
        running = [self._begin(slot, case, attempt)]
        try:
            if slow_after is not None:
                await asyncio.wait(running, timeout=slow_after)
                second = None if running[0].done() else self._second(slot.endpoint)
                if second is not None:
                    running.append(self._begin(second, case, Attempt.HEDGE))
            return await _first_good(running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    def _begin(self, slot: Slot, case: Case, attempt: Attempt) -> "asyncio.Task[Result]":
        task = asyncio.create_task(self._negotiate(slot.endpoint, case, attempt))
        # Not inside the task: one that is cancelled before it begins runs none of its own code.
        task.add_done_callback(lambda _: slot.release())
        return task

    def _second(self, first: Endpoint) -> Slot | None:
        if self._hedging is None or not self._hedging.may_grant:
            return None
        slot = self.endpoints.take_now(avoid={first})
        if slot is None and self._settings.hedge == "always":
            slot = self.endpoints.take_now()
        if slot is not None:
            self._hedging.grant()
        return slot

    def _took(self, seconds: float) -> None:
        if self._hedging is not None:
            self._hedging.answered(seconds)

    async def _negotiate(self, endpoint: Endpoint, case: Case, attempt: Attempt) -> Result:
        asking: Asking | None = endpoint.asking
        refusal = ""
        while asking is not None:
            answer = await self._caller.call(endpoint, asking, case, attempt)
            if answer.is_refusal:
                if is_too_long(answer.http.body):
                    return CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail=reported(answer.http))
                refusal = reported(answer.http)
                asking = asking.after_refusal(answer.http.body)
                continue
            _remember(endpoint, asking)
            if answer.completion is None:
                begins = answer.http.body[:_EXCERPT_BYTES].decode(errors="replace")
                return CouldNotJudge(reason=Unjudgeable.UNPARSEABLE, detail=f"not a chat completion: {begins!r}")
            said = read_answer(answer.completion, self._prompt, asking, judged=case.answer)
            if said is not None:
                return said
            asking = replace(asking, first_token=False)
        return CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=f"refused in every form: {refusal}")


def _endpoint(url: str, settings: PoolSettings, prompt: PromptFamily) -> Endpoint:
    return Endpoint(
        url,
        asking=Asking.of(prompt),
        breaker=CircuitBreaker(failures=settings.breaker_failures, reset_seconds=settings.breaker_reset_seconds),
        limit=AdaptiveLimit(most=settings.concurrency),
    )


def _remember(endpoint: Endpoint, asking: Asking) -> None:
    # Only what was accepted is remembered: a refusal may be the trace's fault and not the form's.
    if asking != endpoint.asking:
        log.info("%s accepts %s, top_logprobs=%s", endpoint.name, asking.form.name, asking.top_logprobs)
        endpoint.asking = asking


async def _first_good(running: list["asyncio.Task[Result]"]) -> Result:
    """The first opinion; else the first word that is final; else the first call's failure is raised."""
    pending = set(running)
    while pending:
        done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            if task.exception() is None and isinstance(task.result(), Opinion):
                return task.result()
    final = [task.result() for task in running if task.exception() is None]
    return final[0] if final else running[0].result()
