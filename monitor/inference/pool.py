"""The pool judge: a large model behind an OpenAI-compatible API (vLLM, SGLang, llama.cpp's servers).

Every call has a deadline and releases its slot when it passes. What the server refuses or fails is sorted into
what may be tried again at once, what later (the escalation stays queued), and what never.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from enum import Enum

from monitor.config import PoolSettings
from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Tier, Unjudgeable
from monitor.domain.trace import Trace
from monitor.inference.breaker import CircuitBreaker
from monitor.inference.pool_protocol import Asking, is_refusal, is_too_long, read_answer, request_body
from monitor.judging.prompts import prompt_family
from monitor.outbound import AsyncHttpClient, HttpAnswer, OutboundError, OutboundTimeout

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 30.0
"""A server that asks for a longer pause is taken for unavailable instead of waited for."""

_FIRST_PAUSE_SECONDS = 0.5
_OK = 200
_TOO_MANY = 429
_SERVER_ERROR = 500
_UNAVAILABLE = 503
_OURS_TO_FIX = frozenset({401, 403, 404, 405})


class Later(Enum):
    """What a failure that may pass says about trying its trace again."""

    POOL_AWAY = "pool away"
    """The circuit is open and the server was not asked: ask for no trace for a while."""
    UNCOUNTED = "uncounted"
    """The server was not reached, is busy, or refuses whoever asks: not this trace's fault, as far as one can tell."""
    COUNTED = "counted"
    """The server had the trace, and failed on it or was too slow: after some tries it is the trace's fault."""


@dataclass(frozen=True, kw_only=True, slots=True)
class PassingFailure(CouldNotJudge):
    """A failure that may pass: leave the escalation queued. Every other failure is final for the trace."""

    later: Later


class _Retry(Exception):
    """A failure that may pass: what to report if it does not, and the pause that the server asked for."""

    def __init__(self, outcome: PassingFailure, *, status: int | None = None, pause: float | None = None) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome
        self.status = status
        self.pause = pause


class _CircuitOpen(Exception):
    """No call was made."""


class PoolJudge:
    """Judges through the pool; for one event loop, any number of tasks.

    Args:
        settings: where the pool is, its price and its limits.
        client: makes the calls, each within its deadline (`settings.deadline_seconds`); the caller closes it.
        stopwatch: a steady clock, in seconds.
        sleep: waits between two attempts.

    Raises:
        JudgeUnavailable: no URL is set.
    """

    def __init__(
        self,
        settings: PoolSettings,
        client: AsyncHttpClient,
        *,
        stopwatch: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        if settings.url is None:
            raise JudgeUnavailable("pool.url is not set")
        self._settings = settings
        self._client = client
        self._stopwatch = stopwatch
        self._sleep = sleep
        self._url = f"{settings.url.rstrip('/')}/chat/completions"
        self._prompt = prompt_family(settings.prompt)
        self._slots = asyncio.Semaphore(settings.concurrency)
        self._breaker = CircuitBreaker(failures=settings.breaker_failures, reset_seconds=settings.breaker_reset_seconds)
        self._asking = Asking.of(self._prompt)
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if settings.api_key is not None:
            self._headers["authorization"] = f"Bearer {settings.api_key.get_secret_value()}"

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges, as far as the settings tell: the revision is the operator's word."""
        return JudgeIdentity(
            name="pool",
            tier=Tier.POOL,
            model=self._settings.model,
            model_digest=self._settings.revision,
            prompt_digest=self._prompt.digest,
        )

    @property
    def is_open(self) -> bool:
        """Whether the circuit is open: claim no work."""
        return self._breaker.is_open

    @property
    def asking(self) -> Asking:
        """What the server last accepted: the form of reply, and whether log-probabilities."""
        return self._asking

    async def judge(self, trace: Trace) -> Opinion | CouldNotJudge:
        """Judge one trace; raises nothing for a trace's sake. A `PassingFailure` may be tried again later.

        Takes at most `max_attempts` calls of `deadline_seconds` each, with pauses of at most
        `LONGEST_PAUSE_SECONDS` between them. A call that the server refuses only for its form is made again
        at once in the next form and is not counted.
        """
        message = self._prompt.render(trace)
        outcome = _passing("the circuit is open", Later.POOL_AWAY)
        for attempt in range(self._settings.max_attempts):
            try:
                async with self._slots:
                    return await self._negotiate(message)
            except _CircuitOpen:
                break
            except _Retry as retry:
                self._strike(retry, attempt)
                outcome = retry.outcome
                pause = retry.pause if retry.pause is not None else _jittered(attempt)
            if pause > LONGEST_PAUSE_SECONDS or attempt + 1 == self._settings.max_attempts:
                break
            await self._sleep(pause)
        return outcome

    async def _negotiate(self, message: str) -> Opinion | CouldNotJudge:
        asking: Asking | None = self._asking
        refusal = ""
        while asking is not None:
            if not self._breaker.allows(self._stopwatch()):
                raise _CircuitOpen
            answer = await self._call(request_body(message, self._prompt, self._settings, asking))
            if answer.status == _OK:
                self._remember(asking)
                said = read_answer(answer.body, self._prompt, self._settings, asking)
                if said is not None:
                    return said
                asking = replace(asking, first_token=False)
                continue
            if is_too_long(answer.body):
                return CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail=_reported(answer))
            refusal = _reported(answer)
            asking = asking.after_refusal(answer.body)
        return CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=f"refused in every form: {refusal}")

    def _strike(self, retry: _Retry, attempt: int) -> None:
        """Tell the breaker of a failed call."""
        # 429 comes from a server that is well and busy: pausing is enough. Any other answer that is a failure is
        # held against the server once a trace, lest one prompt that it cannot bear opens the circuit by itself.
        if retry.status is None or (retry.status != _TOO_MANY and attempt == 0):
            self._breaker.failed(self._stopwatch())

    def _remember(self, asking: Asking) -> None:
        # Only what was accepted is remembered: a refusal may be the trace's fault and not the form's.
        if asking != self._asking:
            log.info("the pool accepts %s, top_logprobs=%s", asking.form.name, asking.top_logprobs)
            self._asking = asking

    async def _call(self, body: bytes) -> HttpAnswer:
        """One call: an answer with a status of 200 or a refusal, else `_Retry`."""
        try:
            answer = await self._client.post(self._url, body, self._headers)
        except OutboundTimeout as error:
            raise _Retry(_passing(str(error), Later.COUNTED, Unjudgeable.DEADLINE)) from None
        except OutboundError as error:
            raise _Retry(_passing(str(error), Later.UNCOUNTED)) from None
        if answer.status == _OK or is_refusal(answer.status, answer.body):
            self._breaker.succeeded()
            return answer
        failed_on_it = answer.status >= _SERVER_ERROR and answer.status != _UNAVAILABLE
        outcome = _passing(_reported(answer), Later.COUNTED if failed_on_it else Later.UNCOUNTED)
        # Asking again at once does not mend a wrong key or address: no pause is short enough.
        pause = float("inf") if answer.status in _OURS_TO_FIX else _retry_after(answer)
        raise _Retry(outcome, status=answer.status, pause=pause)


def _passing(detail: str, later: Later, reason: Unjudgeable = Unjudgeable.JUDGE_UNAVAILABLE) -> PassingFailure:
    return PassingFailure(reason=reason, detail=detail, later=later)


def _jittered(attempt: int) -> float:
    """Full jitter: uniform between nothing and an exponentially growing cap, so that retries do not come in waves."""
    return random.uniform(0.0, min(LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt))  # noqa: S311 - no secret


def _retry_after(answer: HttpAnswer) -> float | None:
    """Seconds that the server asked for (RFC 9110, section 10.2.3: a number, or a date), or None."""
    value = answer.headers.get("retry-after", "").strip()
    if value.isascii() and value.isdigit():
        return float(value)
    try:
        at = parsedate_to_datetime(value).timestamp()
    except (ValueError, TypeError):
        return None
    return max(0.0, at - time.time())


def _reported(answer: HttpAnswer) -> str:
    return f"HTTP {answer.status}: {answer.text[:300]}"
