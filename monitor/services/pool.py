"""The pool worker's work: claimed escalations in, revised verdicts out.

    claim ─▶ PoolJudge ─┬─▶ a word, or a failure that is final ─▶ fuse with the local judgements ─▶ revise
                        ├─▶ the tenant's budget is spent ─▶ given up: the verdict stands, or could not be judged
                        ├─▶ every circuit is open ─▶ put back, uncounted; nothing is claimed for a while
                        ├─▶ not reached, or busy ─▶ put back for longer each time, uncounted
                        └─▶ failed on it, or too slow ─▶ the same, counted; after `MAX_ATTEMPTS` given up

A worker that dies leaves leases behind, which end by themselves; a result that finds its lease lost is dropped.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from monitor.config import PoolSettings
from monitor.domain.errors import InvalidMessage, LedgerUnavailable
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Judgement, Opinion, Unjudgeable
from monitor.domain.trace import Segment, Trace
from monitor.domain.verdict import Verdict
from monitor.inference.pool import LONGEST_PAUSE_SECONDS
from monitor.inference.pool_failure import Later, PassingFailure
from monitor.storage.escalations import Escalation, EscalationQueue

logger = logging.getLogger(__name__)

MAX_ATTEMPTS = 5
"""Tries of one escalation that may end in a deadline, a server's error or a vanished worker, before it is given up."""

POLL_SECONDS = 0.5
"""How often an idle worker looks into the queue."""

REPORT_SECONDS = 10.0
"""How often the length of the queue is told."""

STOP_SECONDS = 20.0
"""How long a worker that is told to stop waits for calls under way. The rest is put back."""

FIRST_RETRY_SECONDS = 10.0
"""How long an escalation that failed waits at least; it doubles with each failure."""

_MOST_DOUBLINGS = 10
_LONGEST_RETRY_SECONDS = 600.0
_FIRST_BACK_OFF_SECONDS = 0.25
_LONGEST_BACK_OFF_SECONDS = 10.0
_LEASE_MARGIN_SECONDS = 60.0
_PUT_BACK_SECONDS = 5.0

Outcome = Verdict | CouldNotJudge


class RemoteJudge(Protocol):
    """Judges through a server: `monitor.inference.pool.PoolJudge`."""

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges, exactly."""

    @property
    def capacity(self) -> int:
        """How many traces it can work on at a time now."""

    async def judge(self, trace: Trace) -> Opinion | CouldNotJudge:
        """Judge one trace; raises nothing for a trace's sake."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Revised:
    """One escalation that came to its end, durably: for telemetry.

    Attributes:
        judgement: the pool's; None when it was given up.
        outcome: what the trace comes to now.
    """

    escalation: Escalation
    judgement: Judgement | None
    outcome: Outcome


class PoolService:
    """Keeps the pool busy with the most urgent escalations, at most `judge.capacity` at a time.

    Args:
        queue: where escalations wait.
        judge: the pool.
        settings: deadlines; the lease outlasts all attempts at one trace.
        calibrate: a judge version's raw score in a segment as a probability, or None without calibration.
        fuse: what all judgements on a trace of a segment come to.
        clock: the time now, aware; it dates judgements.
        observe: told of each escalation that came to its end.
        report_waiting: told from time to time how many escalations wait.
    """

    def __init__(
        self,
        *,
        queue: EscalationQueue,
        judge: RemoteJudge,
        settings: PoolSettings,
        calibrate: Callable[[str, float, Segment], float | None],
        fuse: Callable[[Sequence[Judgement], Segment], Outcome],
        clock: Callable[[], datetime],
        observe: Callable[[Revised], None],
        report_waiting: Callable[[int], None],
    ) -> None:
        self._queue = queue
        self._judge = judge
        self._away_seconds = settings.breaker_reset_seconds
        # An attempt waits for a slot, calls, may call a second time beside that, and pauses.
        attempt_seconds = 3 * settings.deadline_seconds + LONGEST_PAUSE_SECONDS
        self._lease_seconds = settings.max_attempts * attempt_seconds + _LEASE_MARGIN_SECONDS
        self._calibrate = calibrate
        self._fuse = fuse
        self._clock = clock
        self._observe = observe
        self._report_waiting = report_waiting
        self._report_at = 0.0
        self._under_way: dict[asyncio.Task[None], Escalation] = {}
        self._away_until = 0.0

    async def run(self, stop: asyncio.Event) -> None:
        """Work until told to stop; then finish what ends within `STOP_SECONDS`, and put the rest back."""
        pause = _FIRST_BACK_OFF_SECONDS
        while not stop.is_set():
            try:
                full = await self._fill()
                await self._report()
                pause = _FIRST_BACK_OFF_SECONDS
            except LedgerUnavailable as error:
                logger.warning("the ledger is away, escalations wait in it", extra={"error": str(error)})
                await _rest(stop, pause)
                pause = min(2 * pause, _LONGEST_BACK_OFF_SECONDS)
                continue
            await self._wait(stop, full=full)
        await self._wind_up()

    async def _fill(self) -> bool:
        """Claim as many as there are free slots; True when all slots are taken afterwards."""
        capacity = self._judge.capacity
        free = capacity - len(self._under_way)
        if free > 0 and time.monotonic() >= self._away_until:
            for escalation in await asyncio.to_thread(self._queue.claim, free, lease_seconds=self._lease_seconds):
                task = asyncio.create_task(self._work(escalation))
                self._under_way[task] = escalation
        return len(self._under_way) >= capacity

    async def _report(self) -> None:
        if time.monotonic() >= self._report_at:
            self._report_at = time.monotonic() + REPORT_SECONDS
            self._report_waiting((await asyncio.to_thread(self._queue.depth)).waiting)

    async def _wait(self, stop: asyncio.Event, *, full: bool) -> None:
        """Until a slot comes free; with slots free, until it is time to look into the queue again."""
        stopping = asyncio.create_task(stop.wait())
        timeout = None if full else POLL_SECONDS
        await asyncio.wait({stopping, *self._under_way}, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        for task in [task for task in self._under_way if task.done()]:
            del self._under_way[task]
            task.result()

    async def _wind_up(self) -> None:
        if not self._under_way:
            return
        _, late = await asyncio.wait(self._under_way, timeout=STOP_SECONDS)
        for task in late:
            task.cancel()
        await asyncio.gather(*late, return_exceptions=True)
        backs = [self._put_back(self._under_way[task], "the worker was stopped", 0.0, counted=False) for task in late]
        # Without the ledger they stay claimed, and come free when their leases end.
        with suppress(TimeoutError):
            await asyncio.wait_for(asyncio.gather(*backs), _PUT_BACK_SECONDS)

    async def _work(self, escalation: Escalation) -> None:
        if escalation.attempts > MAX_ATTEMPTS:
            detail = f"tried {escalation.attempts - 1} times without an answer"
            await self._give_up(escalation, CouldNotJudge(reason=Unjudgeable.DEADLINE, detail=detail))
            return
        began = time.monotonic()
        result = await self._judge.judge(escalation.assessment.trace)
        seconds = time.monotonic() - began
        if isinstance(result, PassingFailure):
            await self._try_later(escalation, result)
        elif isinstance(result, CouldNotJudge) and result.reason is Unjudgeable.BUDGET_EXHAUSTED:
            # The pool was not asked, or had no word yet: there is no judgement of its to keep.
            await self._give_up(escalation, result)
        else:
            await self._complete(escalation, result, seconds)

    async def _try_later(self, escalation: Escalation, failure: PassingFailure) -> None:
        counted = failure.later is Later.COUNTED
        if failure.later is Later.POOL_AWAY:
            self._away_until = time.monotonic() + self._away_seconds
            retry = self._away_seconds
        elif counted and escalation.attempts >= MAX_ATTEMPTS:
            await self._give_up(escalation, failure)
            return
        else:
            # Attempts do not grow when they are not counted; claims always do.
            retry = self._back_off(escalation.attempts if counted else escalation.claims)
        await self._put_back(escalation, f"{failure.reason.value}: {failure.detail}", retry, counted=counted)

    def _back_off(self, tries: int) -> float:
        """Seconds until the next try of an escalation."""
        # Longer than the circuit stays open: the call that may close it is then another trace's. Otherwise a few
        # urgent traces that the server always fails on would fail every such call, and hold the circuit open.
        first = max(FIRST_RETRY_SECONDS, 2 * self._away_seconds)
        doubled = first * 2.0 ** min(tries - 1, _MOST_DOUBLINGS)
        return min(doubled, max(first, _LONGEST_RETRY_SECONDS))

    async def _complete(self, escalation: Escalation, result: Opinion | CouldNotJudge, seconds: float) -> None:
        judgement = self._judgement(escalation, result, seconds)
        # Without an opinion there is nothing new to fuse: the trace stands as it stood.
        said = (*escalation.assessment.judgements, judgement)
        outcome = self._fuse(said, escalation.assessment.trace.segment) if isinstance(result, Opinion) else result
        at = self._clock()
        try:
            heard = await self._durably(lambda: self._queue.complete(escalation, judgement, outcome, at=at))
        except InvalidMessage as error:
            logger.exception("a judgement of the pool cannot be stored", extra={"escalation": escalation.id})
            failure = CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=str(error))
            await self._give_up(escalation, failure)
            return
        if heard:
            self._tell(escalation, judgement, outcome)

    async def _give_up(self, escalation: Escalation, failure: CouldNotJudge) -> None:
        at = self._clock()
        if await self._durably(lambda: self._queue.give_up(escalation, failure, at=at)):
            self._tell(escalation, None, failure)

    def _tell(self, escalation: Escalation, judgement: Judgement | None, outcome: Outcome) -> None:
        local = escalation.assessment.outcome
        stands = local if isinstance(local, Verdict) and not isinstance(outcome, Verdict) else outcome
        self._observe(Revised(escalation=escalation, judgement=judgement, outcome=stands))

    async def _put_back(self, escalation: Escalation, error: str, seconds: float, *, counted: bool) -> None:
        await self._durably(
            lambda: self._queue.put_back(escalation, error=error, retry_seconds=seconds, counted=counted)
        )

    def _judgement(self, escalation: Escalation, result: Opinion | CouldNotJudge, seconds: float) -> Judgement:
        identity, decision = self._judge.identity, escalation.assessment.decision
        probability = None
        if isinstance(result, Opinion):
            segment = escalation.assessment.trace.segment
            probability = self._calibrate(identity.version, result.raw_score, segment)
        return Judgement(
            judge=identity,
            result=result,
            probability=probability,
            latency_seconds=seconds,
            inclusion_probability=decision.inclusion_probability,
            chosen_because=decision.reason,
        )

    async def _durably(self, work: Callable[[], bool]) -> bool:
        """Do it once the ledger is back; False when the lease is over first, and someone else will."""
        deadline = time.monotonic() + self._lease_seconds
        pause = _FIRST_BACK_OFF_SECONDS
        while time.monotonic() < deadline:
            try:
                return await asyncio.to_thread(work)
            except LedgerUnavailable as error:
                logger.warning("the ledger is away, the pool's word waits", extra={"error": str(error)})
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_BACK_OFF_SECONDS)
        return False


async def _rest(stop: asyncio.Event, seconds: float) -> None:
    with suppress(TimeoutError):
        await asyncio.wait_for(stop.wait(), seconds)
