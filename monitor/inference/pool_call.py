"""One HTTP call to one of the pool's servers: paid for, timed, and told to all who keep count of that server."""

import asyncio
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from monitor.config import PoolSettings
from monitor.domain.generation import Message
from monitor.domain.judgement import Unjudgeable
from monitor.domain.trace import Trace
from monitor.inference.endpoints import Endpoint
from monitor.inference.pool_failure import BUSY, Later, PassingFailure, failure_of, passing, retry_after
from monitor.inference.pool_protocol import (
    Asking,
    Completion,
    is_refusal,
    most_completion_tokens,
    read_completion,
    request_body,
    tenant_salt,
)
from monitor.inference.pool_spending import Charged, Spending, price_of
from monitor.judging.prompts import PromptFamily
from monitor.outbound import AsyncHttpClient, HttpAnswer, OutboundError, OutboundTimeout
from monitor.routing.spend import Spend, Tokens, likely_tokens, most_tokens

_OK = 200
_TOO_MANY = 429
_OURS_TO_FIX = frozenset({401, 403, 404, 405})


class Attempt(StrEnum):
    """Why a call is made."""

    FIRST = "first"
    RETRY = "retry"
    HEDGE = "hedge"


class CallOutcome(StrEnum):
    """What became of a call."""

    ANSWERED = "answered"
    REFUSED = "refused"
    BUSY = "busy"
    FAILED = "failed"
    TIMEOUT = "timeout"
    UNREACHED = "unreached"
    CANCELLED = "cancelled"


@dataclass(frozen=True, kw_only=True, slots=True)
class PoolCall:
    """One call, for telemetry.

    Attributes:
        endpoint: host and port of the server.
        tokens, cost_usd: what it took, as far as is known; an estimate where the server does not say.
        permits: how many calls this server may have under way after this one.
        circuit_open: whether its circuit is open after this call.
    """

    endpoint: str
    attempt: Attempt
    outcome: CallOutcome
    tokens: Tokens
    cost_usd: float
    permits: int
    circuit_open: bool


class CallFailed(Exception):
    """A failure that may pass: what to report if it does not, and the pause that the server asked for."""

    def __init__(self, outcome: PassingFailure, *, endpoint: Endpoint, pause: float | None = None) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome
        self.endpoint = endpoint
        self.pause = pause


@dataclass(kw_only=True, slots=True)
class Case:
    """One trace on its way through the pool.

    Attributes:
        tenant: who pays.
        asked: the conversation.
        answer: what is judged.
        used: tokens of all its calls so far, as far as is known.
        struck: servers against which a failure on this trace was held.
        avoid: servers that just failed.
    """

    tenant: str
    asked: tuple[Message, ...]
    answer: str
    used: Tokens = Tokens()  # noqa: RUF009 - frozen
    struck: set[Endpoint] = field(default_factory=set)
    avoid: set[Endpoint] = field(default_factory=set)

    @property
    def prompt_bytes(self) -> int:
        """Of the conversation in UTF-8."""
        return sum(len(message.content.encode(errors="replace")) for message in self.asked)


@dataclass(frozen=True, kw_only=True, slots=True)
class Answer:
    """A 200 with the completion in it, if there is one; or a refusal of what was asked."""

    http: HttpAnswer
    completion: Completion | None

    @property
    def is_refusal(self) -> bool:
        """Whether the server will not do what was asked."""
        return self.http.status != _OK


@dataclass(frozen=True, kw_only=True, slots=True)
class _Call:
    endpoint: Endpoint
    case: Case
    attempt: Attempt
    charged: Charged | None
    began: float

    async def cost(self, tokens: Tokens, spend: Spend) -> None:
        if self.charged is not None:
            await self.charged.settle(tokens, spend)


class PoolCaller:
    """Makes calls; for one event loop, any number at a time.

    Args:
        settings: model, price, and how long a server rests.
        client: makes the request, within its deadline.
        prompt: the prompt family.
        spending: pays; None for calls that nobody pays for.
        stopwatch: a steady clock, in seconds.
        took: told how long each good answer took, and each that was not waited for to the end.
        observe: told of each call.
    """

    def __init__(
        self,
        settings: PoolSettings,
        client: AsyncHttpClient,
        prompt: PromptFamily,
        *,
        spending: Spending | None,
        stopwatch: Callable[[], float],
        took: Callable[[float], None],
        observe: Callable[[PoolCall], None],
    ) -> None:
        self._settings = settings
        self._client = client
        self._prompt = prompt
        self._spending = spending
        self._stopwatch = stopwatch
        self._took = took
        self._observe = observe
        self.price = price_of(settings)
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if settings.api_key is not None:
            self._headers["authorization"] = f"Bearer {settings.api_key.get_secret_value()}"

    def case(self, trace: Trace) -> Case:
        """A trace to be asked about."""
        return Case(tenant=trace.tenant, asked=self._prompt.messages(trace), answer=trace.answer)

    async def call(self, endpoint: Endpoint, asking: Asking, case: Case, attempt: Attempt) -> Answer:
        """One call, within the client's deadline.

        Raises:
            CallFailed: the call failed in a way that may pass.
            BudgetSpent: the tenant's budget does not bear it; no call was made.
            LedgerUnavailable: nobody can tell what is left of it; no call was made.
        """
        salt = self._settings.cache_salt
        salted = None if salt is None else tenant_salt(salt.get_secret_value(), case.tenant)
        body = request_body(case.asked, self._prompt, self._settings, asking, salt=salted)
        charged = await self._charge(case, asking)
        call = _Call(endpoint=endpoint, case=case, attempt=attempt, charged=charged, began=self._stopwatch())
        try:
            answer = await self._client.post(endpoint.url, body, self._headers)
        except OutboundError as error:
            raise await self._unanswered(call, error) from None
        except asyncio.CancelledError:
            self._abandoned(call)
            raise
        if answer.status == _OK:
            return await self._completed(call, answer)
        if is_refusal(answer.status, answer.body):
            endpoint.breaker.succeeded()
            await call.cost(Tokens(), Spend())
            self._tell(call, CallOutcome.REFUSED)
            return Answer(http=answer, completion=None)
        raise await self._failed(call, answer)

    async def _charge(self, case: Case, asking: Asking) -> Charged | None:
        if self._spending is None:
            return None
        completion = most_completion_tokens(self._prompt, self._settings, asking)
        most = most_tokens(prompt_bytes=case.prompt_bytes, completion=completion)
        return await self._spending.charge(case.tenant, self.price.most(most))

    async def _completed(self, call: _Call, answer: HttpAnswer) -> Answer:
        now = self._stopwatch()
        call.endpoint.breaker.succeeded()
        call.endpoint.answered(now - call.began, now)
        self._took(now - call.began)
        completion = read_completion(answer.body)
        tokens = completion.tokens if completion is not None else None
        if tokens is not None:
            await call.cost(tokens, self.price.spend(tokens))
        else:
            # What is charged stays the upper estimate; what is told is a likely one.
            written = "" if completion is None else completion.reply or ""
            tokens = likely_tokens(
                prompt_bytes=call.case.prompt_bytes, completion_bytes=len(written.encode(errors="replace"))
            )
        call.case.used = call.case.used + tokens
        self._tell(call, CallOutcome.ANSWERED, tokens)
        return Answer(http=answer, completion=completion)

    async def _unanswered(self, call: _Call, error: OutboundError) -> CallFailed:
        """No complete answer came: the circuit counts each such call."""
        now = self._stopwatch()
        late = isinstance(error, OutboundTimeout)
        call.endpoint.breaker.failed(now)
        call.endpoint.failed(now)
        if late:
            call.endpoint.limit.overloaded(began=call.began, now=now)
        if not error.sent:
            # Otherwise the server may have worked for it: the estimate stays charged.
            await call.cost(Tokens(), Spend())
        self._tell(call, CallOutcome.TIMEOUT if late else CallOutcome.UNREACHED)
        reason = Unjudgeable.DEADLINE if late else Unjudgeable.JUDGE_UNAVAILABLE
        # A server that had the trace may have died of it: that must not go on without end.
        outcome = passing(str(error), Later.COUNTED if error.sent else Later.UNCOUNTED, reason)
        return CallFailed(outcome, endpoint=call.endpoint)

    async def _failed(self, call: _Call, answer: HttpAnswer) -> CallFailed:
        """The server, or something before it, answered that it could not."""
        now, endpoint, busy = self._stopwatch(), call.endpoint, answer.status in BUSY
        endpoint.failed(now)
        if busy:
            endpoint.limit.overloaded(began=call.began, now=now)
        self._strike(call, answer, now)
        pause = retry_after(answer, now=time.time())
        if answer.status in _OURS_TO_FIX:
            # Asking again at once does not mend a wrong key or address: no pause is short enough.
            pause = math.inf
        if pause is not None:
            endpoint.rests_until = now + min(pause, self._settings.breaker_reset_seconds)
        outcome = failure_of(answer)
        if outcome.later is Later.UNCOUNTED:
            await call.cost(Tokens(), Spend())
        self._tell(call, CallOutcome.BUSY if busy else CallOutcome.FAILED)
        return CallFailed(outcome, endpoint=endpoint, pause=pause)

    def _strike(self, call: _Call, answer: HttpAnswer, now: float) -> None:
        # 429 comes from a server that is well and busy: pausing is enough. Any other answer that is a failure is
        # held against the server once a trace, lest one prompt that it cannot bear opens the circuit by itself.
        if answer.status != _TOO_MANY and call.endpoint not in call.case.struck:
            call.case.struck.add(call.endpoint)
            call.endpoint.breaker.failed(now)

    def _abandoned(self, call: _Call) -> None:
        """Nobody waits for the answer any more. What the server did until then is not known: it stays charged."""
        now = self._stopwatch()
        if call.attempt is not Attempt.HEDGE:
            # It would have taken at least as long: left out, the slow calls would make all look fast.
            self._took(now - call.began)
            call.endpoint.outrun(now - call.began, now)
        self._tell(call, CallOutcome.CANCELLED)

    def _tell(self, call: _Call, outcome: CallOutcome, tokens: Tokens | None = None) -> None:
        tokens = tokens or Tokens()
        self._observe(
            PoolCall(
                endpoint=call.endpoint.name,
                attempt=call.attempt,
                outcome=outcome,
                tokens=tokens,
                cost_usd=self.price.micro_usd(tokens) / 1e6,
                permits=call.endpoint.limit.permits,
                circuit_open=call.endpoint.breaker.is_open,
            )
        )
