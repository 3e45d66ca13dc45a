"""Text from a large model behind an OpenAI-compatible API: the `Generator` of the pool's servers.

generate ─▶ a server's slot ─▶ one POST, in the strictest form of reply that the server takes ─▶ text
                 ▲                           │
                 └── pause, another server ◀─┘  busy, failed, unreached: within attempts and deadline
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitor.config import PoolSettings
from monitor.domain.errors import JudgeUnavailable
from monitor.domain.generation import Generated, Message
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.inference.breaker import CircuitBreaker
from monitor.inference.concurrency import AdaptiveLimit
from monitor.inference.endpoints import CircuitOpen, Endpoint, Endpoints
from monitor.inference.pool_failure import BUSY, reported, retry_after
from monitor.inference.pool_protocol import Asking, ReplyForm, is_refusal, is_too_long, read_completion
from monitor.inference.pool_spending import price_of
from monitor.outbound import AsyncHttpClient, HttpAnswer, OutboundError, OutboundTimeout
from monitor.routing.spend import Tokens

log = logging.getLogger(__name__)

LONGEST_PAUSE_SECONDS = 30.0
"""A server that asks for a longer pause is taken for unavailable instead of waited for."""

_FIRST_PAUSE_SECONDS = 0.5
_OK = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class _Request:
    """What is asked, whatever the form of the reply."""

    messages: Sequence[Message]
    max_tokens: int
    json_schema: Mapping[str, Any] | None

    def body(self, model: str, form: ReplyForm) -> bytes:
        asked: dict[str, Any] = {
            "model": model,
            "messages": [{"role": message.role.value, "content": message.content} for message in self.messages],
            "temperature": 0.0,
            "max_tokens": self.max_tokens,
            "stream": False,
        }
        if self.json_schema is not None and (wanted := _response_format(self.json_schema, form)) is not None:
            asked["response_format"] = wanted
        return json.dumps(asked, ensure_ascii=False).encode(errors="replace")


class _Failed(Exception):
    """A call failed in a way that may pass; `pause` is what the server asked for."""

    def __init__(self, outcome: CouldNotJudge, *, endpoint: Endpoint, pause: float | None = None) -> None:
        super().__init__(outcome.detail)
        self.outcome = outcome
        self.endpoint = endpoint
        self.pause = pause


class HttpGenerator:
    """Writes through the pool's servers; for one event loop, any number of tasks. Tenants' budgets do not apply.

    Args:
        settings: where the servers are, the model, its price, and how many calls they bear.
        client: makes the calls; the caller closes it.
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
        self._price = price_of(settings)
        servers = [_endpoint(url, settings) for url in (settings.url, *settings.urls)]
        self.endpoints = Endpoints(servers, stopwatch=stopwatch)
        self._headers = {"content-type": "application/json", "accept": "application/json"}
        if settings.api_key is not None:
            self._headers["authorization"] = f"Bearer {settings.api_key.get_secret_value()}"

    @property
    def model(self) -> str:
        """Model and revision, as the settings name them."""
        return f"{self._settings.model}@{self._settings.revision}"

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None,
        deadline_seconds: float,
    ) -> Generated | CouldNotJudge:
        """See `Generator.generate`. Makes at most `max_attempts` attempts; refusals of a form are not counted."""
        request = _Request(messages=messages, max_tokens=max_tokens, json_schema=json_schema)
        try:
            async with asyncio.timeout(deadline_seconds):
                return await self._try(request)
        except TimeoutError:
            return CouldNotJudge(reason=Unjudgeable.DEADLINE, detail=f"no reply within {deadline_seconds:g} s")

    async def _try(self, request: _Request) -> Generated | CouldNotJudge:
        avoid: set[Endpoint] = set()
        outcome = CouldNotJudge(reason=Unjudgeable.JUDGE_UNAVAILABLE, detail="the circuit is open")
        for attempt in range(self._settings.max_attempts):
            try:
                with await self.endpoints.take(avoid=avoid) as slot:
                    return await self._negotiate(slot.endpoint, request)
            except CircuitOpen:
                break
            except _Failed as failed:
                outcome = failed.outcome
                avoid.add(failed.endpoint)
                pause = self._pause(failed, attempt)
            if pause > LONGEST_PAUSE_SECONDS or attempt + 1 == self._settings.max_attempts:
                break
            await self._sleep(pause)
        return outcome

    def _pause(self, failed: _Failed, attempt: int) -> float:
        if failed.pause is not None and not self.endpoints.other_than(failed.endpoint):
            return failed.pause
        # Full jitter, so that retries come in no waves.
        most = min(LONGEST_PAUSE_SECONDS, _FIRST_PAUSE_SECONDS * 2**attempt)
        return random.uniform(0.0, most)  # noqa: S311 - spreads load, no secret

    async def _negotiate(self, endpoint: Endpoint, request: _Request) -> Generated | CouldNotJudge:
        """Ask in the form that the server last took, then in looser ones as long as it refuses."""
        asking: Asking | None = endpoint.asking
        refusal = ""
        while asking is not None:
            answer = await self._call(endpoint, request.body(self._settings.model, asking.form))
            if answer.status == _OK:
                if asking != endpoint.asking:
                    log.info("%s accepts %s", endpoint.name, asking.form.name)
                    endpoint.asking = asking
                return self._read(answer)
            if is_too_long(answer.body):
                return CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail=reported(answer))
            refusal = reported(answer)
            asking = asking.after_refusal(answer.body) if request.json_schema is not None else None
        return CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=f"refused in every form: {refusal}")

    async def _call(self, endpoint: Endpoint, body: bytes) -> HttpAnswer:
        """One call: a 200 or a refusal of what was asked; raises `_Failed` for all else."""
        began = self._stopwatch()
        try:
            answer = await self._client.post(endpoint.url, body, self._headers)
        except OutboundError as error:
            now, late = self._stopwatch(), isinstance(error, OutboundTimeout)
            endpoint.breaker.failed(now)
            endpoint.failed(now)
            reason = Unjudgeable.DEADLINE if late else Unjudgeable.JUDGE_UNAVAILABLE
            raise _Failed(CouldNotJudge(reason=reason, detail=str(error)), endpoint=endpoint) from None
        except asyncio.CancelledError:
            # The deadline of the whole came before the call's own: the server was too slow all the same.
            now = self._stopwatch()
            endpoint.breaker.failed(now)
            endpoint.failed(now)
            raise
        now = self._stopwatch()
        if answer.status == _OK:
            endpoint.breaker.succeeded()
            endpoint.answered(now - began, now)
            return answer
        if is_refusal(answer.status, answer.body):
            endpoint.breaker.succeeded()
            return answer
        endpoint.failed(now)
        if answer.status in BUSY:
            endpoint.limit.overloaded(began=began, now=now)
        else:
            endpoint.breaker.failed(now)
        outcome = CouldNotJudge(reason=Unjudgeable.JUDGE_UNAVAILABLE, detail=reported(answer))
        raise _Failed(outcome, endpoint=endpoint, pause=retry_after(answer, now=time.time()))

    def _read(self, answer: HttpAnswer) -> Generated | CouldNotJudge:
        completion = read_completion(answer.body)
        if completion is None or completion.reply is None:
            return CouldNotJudge(reason=Unjudgeable.UNPARSEABLE, detail=f"no chat completion: {answer.text[:200]!r}")
        tokens = completion.tokens or Tokens()
        return Generated(
            text=completion.reply,
            prompt_tokens=tokens.prompt,
            completion_tokens=tokens.completion,
            cost_usd=self._price.micro_usd(tokens) / 1e6,
            cut_off=completion.choice.get("finish_reason") == "length",
        )


def _endpoint(url: str, settings: PoolSettings) -> Endpoint:
    return Endpoint(
        url,
        asking=Asking(top_logprobs=0),
        breaker=CircuitBreaker(failures=settings.breaker_failures, reset_seconds=settings.breaker_reset_seconds),
        limit=AdaptiveLimit(most=settings.concurrency),
    )


def _response_format(schema: Mapping[str, Any], form: ReplyForm) -> dict[str, Any] | None:
    if form is ReplyForm.JSON_SCHEMA:
        return {"type": "json_schema", "json_schema": {"name": "reply", "strict": True, "schema": schema}}
    if form is ReplyForm.JSON_OBJECT_WITH_SCHEMA:
        return {"type": "json_object", "schema": schema}
    return {"type": "json_object"} if form is ReplyForm.JSON_OBJECT else None
