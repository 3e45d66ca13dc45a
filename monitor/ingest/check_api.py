"""`POST /v1/check`: a verdict on an answer before it is given, in the time that the caller gives. Nothing is kept."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Protocol

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from monitor.domain.errors import InvalidTrace
from monitor.domain.judgement import Unjudgeable
from monitor.domain.trace import Trace
from monitor.domain.verdict import Verdict
from monitor.ingest.body import BodyReader, decompressed
from monitor.ingest.callers import Caller, Gate
from monitor.ingest.check_link import Said
from monitor.ingest.check_request import Check, CheckLimits, read_check
from monitor.ingest.checker import CheckingState
from monitor.ingest.counters import IngestCounters, Refusal
from monitor.ingest.http import JsonResponse, media_type, refusal
from monitor.ingest.intake import JSON_TYPES, rejected
from monitor.ingest.json_requests import random_ids, utc_now
from monitor.ingest.openapi import check
from monitor.ingest.openapi.check import COULD_NOT_JUDGE, NO_VERDICT_IN_TIME
from monitor.ingest.openapi.parts import Description
from monitor.ingest.refused import RequestRefused

# Below this, reading takes less time than handing the body to a thread.
_INLINE_BYTES = 32 * 1024


class Checks(Protocol):
    """Judges while somebody waits: `monitor.ingest.checker.Checker`."""

    @property
    def state(self) -> CheckingState:
        """How it stands."""

    async def check(self, trace: Trace, *, until: float, owner: str | None) -> Said | None:
        """What the judges have said by then; raises RequestRefused 503."""


@dataclass(frozen=True, kw_only=True, slots=True)
class CheckAnswered:
    """What became of one check. Every field but the last has few values, whatever a caller sends.

    Attributes:
        outcome: `verdict`, `incomplete` (a verdict, while a further judge was wanted), `no_verdict_in_time`,
            `could_not_judge` or `refused`.
        detail: the label, or the reason; None where there is none.
        seconds: since the request came.
    """

    outcome: str
    detail: str | None
    seconds: float


class CheckApi:
    """The route over its collaborators.

    Args:
        checks: judges.
        bodies: reads them, under limits of their own.
        counters: told of callers that were not let in.
        tell: told of each check; must neither block nor raise.
        stopwatch: the clock of `checks`.
    """

    def __init__(
        self,
        checks: Checks,
        *,
        gate: Gate,
        bodies: BodyReader,
        limits: CheckLimits,
        counters: IngestCounters,
        tell: Callable[[CheckAnswered], None] = lambda _: None,
        clock: Callable[[], datetime] = utc_now,
        stopwatch: Callable[[], float] = time.monotonic,
        new_ids: Iterator[str] | None = None,
    ) -> None:
        self._checks = checks
        self._gate = gate
        self._bodies = bodies
        self._limits = limits
        self._counters = counters
        self._tell = tell
        self._clock = clock
        self._stopwatch = stopwatch
        self._new_ids = new_ids or random_ids()
        self._reading = asyncio.Semaphore(1)
        self._answered: Counter[str] = Counter()

    @property
    def routes(self) -> list[Route]:
        """What it answers to."""
        return [Route("/v1/check", self.check, methods=["POST"])]

    @property
    def openapi(self) -> Description:
        """What it takes and gives."""
        return check.description(self._limits.budget_milliseconds, self._limits.most_milliseconds)

    @property
    def state(self) -> Mapping[str, Any]:
        """How checking stands, and what became of checks since the start."""
        return {**asdict(self._checks.state), "answered": dict(self._answered)}

    async def check(self, request: Request) -> Response:
        """200 with a verdict or the reason why there is none, within the time that the request gives."""
        began = self._stopwatch()
        try:
            found = await self._read(request)
            said = await self._checks.check(found.trace, until=began + found.seconds, owner=found.owner)
        except RequestRefused as refused:
            refused.count_denial(self._counters)
            self._count("refused", str(refused.reason), began)
            return refusal(refused)
        except InvalidTrace as error:
            return self._invalid(error, began)
        except ClientDisconnect:
            return Response(status_code=400)
        return self._answer(found.trace, said, began)

    async def _read(self, request: Request) -> Check:
        caller = self._gate.admit(request.headers.get("authorization"))
        if media_type(request) not in JSON_TYPES:
            # As everywhere: a web page may post other types to a local port without asking.
            raise RequestRefused(415, Refusal.UNSUPPORTED, "Content-Type must be application/json")
        packed = request.headers.get("content-encoding", "")
        async with self._bodies.read(request) as body:
            if len(body) <= _INLINE_BYTES and not packed:
                return self._taken(body, caller)
            async with self._reading:
                return await asyncio.to_thread(self._unpacked, body, packed, caller)

    def _unpacked(self, body: bytes, packed: str, caller: Caller) -> Check:
        return self._taken(decompressed(body, packed, max_bytes=self._limits.most_bytes), caller)

    def _taken(self, body: bytes, caller: Caller) -> Check:
        return read_check(body, limits=self._limits, now=self._clock(), new_ids=self._new_ids, caller=caller)

    def _invalid(self, error: InvalidTrace, began: float) -> Response:
        told = rejected(0, None, error, id_field="trace_id", fields=())
        self._count("refused", str(told.reason), began)
        body = {"accepted": 0, "reason": str(told.reason), "field": told.field, "problem": told.problem}
        return JsonResponse(body, status_code=422)

    def _answer(self, trace: Trace, said: Said | None, began: float) -> Response:
        outcome, detail = _outcome(said)
        seconds = self._count(outcome, detail, began)
        verdict = _verdict(said.outcome, said) if said and isinstance(said.outcome, Verdict) else None
        reason = f"{outcome}: {detail}" if outcome == COULD_NOT_JUDGE else outcome
        return JsonResponse(
            {
                "trace_id": trace.trace_id,
                "verdict": verdict,
                "complete": said is not None and said.complete,
                "reason": None if verdict else reason,
                "elapsed_ms": round(1000 * seconds, 1),
            }
        )

    def _count(self, outcome: str, detail: str | None, began: float) -> float:
        seconds = self._stopwatch() - began
        self._answered[outcome] += 1
        self._tell(CheckAnswered(outcome=outcome, detail=detail, seconds=seconds))
        return seconds


def _outcome(said: Said | None) -> tuple[str, str | None]:
    if said is None:
        return NO_VERDICT_IN_TIME, None
    if isinstance(said.outcome, Verdict):
        return "verdict" if said.complete else "incomplete", str(said.outcome.label)
    if said.outcome.reason is Unjudgeable.DEADLINE:
        return NO_VERDICT_IN_TIME, None
    return COULD_NOT_JUDGE, str(said.outcome.reason)


def _verdict(verdict: Verdict, said: Said) -> dict[str, Any]:
    judge = said.judge
    return {
        "label": str(verdict.label),
        "hallucination_probability": verdict.probability,
        "tier": str(judge.tier) if judge else None,
        "judge": judge.version if judge else None,
        "version": said.version,
        "unsupported": [asdict(span) for span in verdict.unsupported],
    }
