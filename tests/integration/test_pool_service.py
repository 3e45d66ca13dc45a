"""The pool worker's work on a real queue: every escalation comes to its end, whatever the pool does."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from sqlalchemy import Engine, select

from monitor.config import PoolSettings
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Judgement, Opinion, Unjudgeable, Usage
from monitor.domain.trace import Segment, Trace
from monitor.domain.verdict import Verdict
from monitor.embedded.postgres import EmbeddedPostgres
from monitor.inference.pool_failure import Later, PassingFailure
from monitor.services import pool as pool_service
from monitor.services.pool import MAX_ATTEMPTS, PoolService, Revised
from monitor.storage.accounting import accounting
from monitor.storage.engine import transaction
from monitor.storage.escalations import EscalationQueue
from monitor.storage.ledger import Ledger
from monitor.storage.recount import recount
from monitor.storage.tables import escalations, verdicts
from tests.examples.assessments import NOON, POOL, assessment, verdict

Answer = Callable[[Trace], Awaitable[Opinion | CouldNotJudge]]
SURE = Opinion(raw_score=9.0, reasoning="The moon has no library.")
AWAY = PassingFailure(reason=Unjudgeable.JUDGE_UNAVAILABLE, detail="the circuit is open", later=Later.POOL_AWAY)
BUSY = PassingFailure(reason=Unjudgeable.JUDGE_UNAVAILABLE, detail="HTTP 503: ", later=Later.UNCOUNTED)
BROKEN = PassingFailure(reason=Unjudgeable.JUDGE_UNAVAILABLE, detail="HTTP 500: boom", later=Later.COUNTED)
LATE = PassingFailure(reason=Unjudgeable.DEADLINE, detail="60 s", later=Later.COUNTED)
DEADLINE = 60.0


class ScriptedPool:
    """A judge that answers as it is told, and remembers how many it worked on at once."""

    def __init__(self, answer: Answer, capacity: int) -> None:
        self._answer = answer
        self.bears = capacity
        self.asked: list[str] = []
        self.at_once = 0
        self.most_at_once = 0

    @property
    def identity(self) -> JudgeIdentity:
        return POOL

    @property
    def capacity(self) -> int:
        return self.bears

    async def judge(self, trace: Trace) -> Opinion | CouldNotJudge:
        self.asked.append(trace.trace_id)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            return await self._answer(trace)
        finally:
            self.at_once -= 1


def always(result: Opinion | CouldNotJudge) -> Answer:
    async def answer(trace: Trace) -> Opinion | CouldNotJudge:
        await asyncio.sleep(0)
        return result

    return answer


def calibrate(version: str, raw_score: float, _segment: Segment) -> float | None:
    return raw_score / 10 if version == POOL.version else None


def fuse(judgements: Sequence[Judgement], _segment: Segment) -> Verdict | CouldNotJudge:
    probability = judgements[-1].probability
    return verdict(probability, by=POOL) if probability is not None else LATE


class Worker:
    """A PoolService with a scripted pool on the test's own queue."""

    def __init__(self, engine: Engine, answer: Answer, *, concurrency: int = 4) -> None:
        self.pool = ScriptedPool(answer, concurrency)
        self.seen: list[Revised] = []
        self.waiting: list[int] = []
        self.stop = asyncio.Event()
        self.service = PoolService(
            queue=EscalationQueue(engine),
            judge=self.pool,
            settings=PoolSettings(breaker_reset_seconds=0.2),
            calibrate=calibrate,
            fuse=fuse,
            clock=lambda: NOON,
            observe=self.seen.append,
            report_waiting=self.waiting.append,
        )

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.create_task(self.service.run(self.stop))
        try:
            yield self
        finally:
            self.stop.set()
            await asyncio.wait_for(task, DEADLINE)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(DEADLINE):
            while not condition():  # noqa: ASYNC110 - what is waited for lies in Postgres, which sets no event
                await asyncio.sleep(0.02)


def queued(engine: Engine) -> list[dict[str, Any]]:
    with transaction(engine) as connection:
        return [dict(row) for row in connection.execute(select(escalations).order_by(escalations.c.id)).mappings()]


def test_every_escalation_is_judged_and_revised(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(n, escalated=True, probability=None if n % 2 else 0.25) for n in range(12)])

    async def scenario() -> Worker:
        async with Worker(engine, always(SURE)).running() as worker:
            await worker.until(lambda: len(worker.seen) == 12)
        return worker

    worker = asyncio.run(scenario())
    assert sorted(worker.pool.asked) == sorted(f"t-0-{n}" for n in range(12))
    assert worker.pool.most_at_once <= 4
    # Told after the first claim of four.
    assert worker.waiting[0] == 8
    found = accounting(engine)
    assert (found.verdicts, found.pending, found.in_flight) == (12, 0, 0)
    assert all(revised.judgement and revised.judgement.probability == 0.9 for revised in worker.seen)
    assert recount(engine) == []


def test_a_pool_that_is_away_costs_no_attempt_and_is_left_alone_for_a_while(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(n, escalated=True) for n in range(3)])
    answers = [AWAY] * 4

    async def back_after_a_while(trace: Trace) -> Opinion | CouldNotJudge:
        return answers.pop() if answers else SURE

    async def scenario() -> Worker:
        async with Worker(engine, back_after_a_while).running() as worker:
            await worker.until(lambda: len(worker.seen) == 3)
        return worker

    worker = asyncio.run(scenario())
    assert len(worker.pool.asked) == 7
    assert [row["state"] for row in queued(engine)] == ["done"] * 3
    assert [row["attempts"] for row in queued(engine)] == [1] * 3


def test_a_deadline_counts_and_waits(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, escalated=True)])

    async def scenario() -> None:
        async with Worker(engine, always(LATE)).running() as worker:
            await worker.until(lambda: queued(engine)[0]["last_error"] is not None)

    asyncio.run(scenario())
    [row] = queued(engine)
    assert (row["state"], row["attempts"], row["last_error"]) == ("waiting", 1, "deadline: 60 s")
    assert row["available_at"] > row["created_at"]


def test_traces_that_the_server_fails_on_do_not_stop_the_others(
    engine: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_service, "FIRST_RETRY_SECONDS", 0.0)
    concurrency = 4
    # The poison is claimed first, and fills every slot.
    ledger.record([assessment(n, escalated=True) for n in range(concurrency + 6)])
    poison = {f"t-0-{n}" for n in range(concurrency)}

    async def fail_on_poison(trace: Trace) -> Opinion | CouldNotJudge:
        return BROKEN if trace.trace_id in poison else SURE

    async def scenario() -> Worker:
        async with Worker(engine, fail_on_poison, concurrency=concurrency).running() as worker:
            await worker.until(lambda: len(worker.seen) == concurrency + 6)
        return worker

    worker = asyncio.run(scenario())
    rows = queued(engine)
    assert [row["state"] for row in rows] == ["given_up"] * concurrency + ["done"] * 6
    assert {row["last_error"] for row in rows[:concurrency]} == {"judge_unavailable: HTTP 500: boom"}
    assert all(worker.pool.asked.count(trace_id) == MAX_ATTEMPTS for trace_id in poison)
    assert recount(engine) == []


def test_a_busy_server_costs_no_attempt_and_only_its_trace_waits(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(n, escalated=True) for n in range(2)])

    async def busy_for_one(trace: Trace) -> Opinion | CouldNotJudge:
        return BUSY if trace.trace_id == "t-0-0" else SURE

    async def scenario() -> None:
        async with Worker(engine, busy_for_one, concurrency=1).running() as worker:
            await worker.until(lambda: bool(worker.seen))

    asyncio.run(scenario())
    busy, done = queued(engine)
    assert (busy["state"], busy["attempts"], done["state"]) == ("waiting", 0, "done")
    assert busy["available_at"] > busy["created_at"]


def test_after_enough_attempts_the_pools_word_is_given_up(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, escalated=True, probability=None), assessment(1, escalated=True)])
    queue = EscalationQueue(engine)
    for _ in range(MAX_ATTEMPTS):
        assert len(queue.claim(2, lease_seconds=0)) == 2

    async def scenario() -> Worker:
        async with Worker(engine, always(SURE)).running() as worker:
            await worker.until(lambda: len(worker.seen) == 2)
        return worker

    worker = asyncio.run(scenario())
    assert worker.pool.asked == []
    assert {type(revised.outcome) for revised in worker.seen} == {CouldNotJudge, Verdict}
    found = accounting(engine)
    assert (found.verdicts, found.unjudged, found.pending) == (1, 1, 0)


def test_a_final_failure_leaves_a_judgement_and_the_verdict(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, escalated=True, probability=0.25)])
    too_long = CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail="9000 tokens")

    async def scenario() -> Worker:
        async with Worker(engine, always(too_long)).running() as worker:
            await worker.until(lambda: bool(worker.seen))
        return worker

    [revised] = asyncio.run(scenario()).seen
    assert revised.judgement is not None
    assert revised.judgement.result == too_long
    assert isinstance(revised.outcome, Verdict)
    with transaction(engine) as connection:
        assert connection.execute(select(verdicts.c.revision, verdicts.c.outcome)).one() == (0, "verdict")
    assert recount(engine) == []


def test_a_spent_budget_ends_an_escalation_without_the_pools_word(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, escalated=True, probability=0.25), assessment(1, escalated=True, probability=None)])
    spent = CouldNotJudge(reason=Unjudgeable.BUDGET_EXHAUSTED, detail="nothing is left of 2,000 tokens")

    async def scenario() -> Worker:
        async with Worker(engine, always(spent)).running() as worker:
            await worker.until(lambda: len(worker.seen) == 2)
        return worker

    seen = asyncio.run(scenario()).seen
    assert [revised.judgement for revised in seen] == [None, None]
    assert [(row["state"], row["last_error"]) for row in queued(engine)] == [
        ("given_up", "budget_exhausted: nothing is left of 2,000 tokens")
    ] * 2
    with transaction(engine) as connection:
        stands = connection.execute(
            select(verdicts.c.outcome, verdicts.c.reason, verdicts.c.revision).order_by(verdicts.c.trace_id)
        ).all()
    assert stands == [("verdict", None, 0), ("unjudged", "budget_exhausted", 1)]
    found = accounting(engine)
    assert (found.verdicts, found.unjudged, found.pending) == (1, 1, 0)
    assert recount(engine) == []


def test_no_more_is_claimed_than_the_pool_bears_now(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(n, escalated=True) for n in range(9)])

    async def scenario() -> Worker:
        worker = Worker(engine, always(SURE), concurrency=8)
        worker.pool.bears = 2
        async with worker.running():
            await worker.until(lambda: len(worker.seen) == 9)
        return worker

    assert asyncio.run(scenario()).pool.most_at_once == 2


def test_a_judgement_that_cannot_be_stored_is_given_up(engine: Engine, ledger: Ledger) -> None:
    ledger.record([assessment(0, escalated=True)])
    monstrous = Opinion(raw_score=9.0, usage=Usage(prompt_tokens=2**40))

    async def scenario() -> None:
        async with Worker(engine, always(monstrous)).running() as worker:
            await worker.until(lambda: bool(worker.seen))

    asyncio.run(scenario())
    assert queued(engine)[0]["state"] == "given_up"
    assert recount(engine) == []


def test_an_outage_of_the_ledger_delays_the_pools_word(
    engine: Engine, ledger: Ledger, postgres_server: EmbeddedPostgres
) -> None:
    ledger.record([assessment(0, escalated=True)])

    async def scenario() -> None:
        asked = asyncio.Event()
        answer = asyncio.Event()

        async def slow(trace: Trace) -> Opinion | CouldNotJudge:
            asked.set()
            await answer.wait()
            return SURE

        async with Worker(engine, slow).running() as worker:
            await asyncio.wait_for(asked.wait(), DEADLINE)
            await asyncio.to_thread(postgres_server.stop)
            answer.set()
            await asyncio.sleep(0.5)
            # In this thread: a server dies with the thread that started it.
            postgres_server.start()
            await worker.until(lambda: bool(worker.seen))

    asyncio.run(scenario())
    assert queued(engine)[0]["state"] == "done"
    assert recount(engine) == []


def test_a_worker_that_is_stopped_puts_back_what_it_cannot_finish(
    engine: Engine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pool_service, "STOP_SECONDS", 0.2)
    ledger.record([assessment(0, escalated=True)])

    async def scenario() -> None:
        asked = asyncio.Event()

        async def never(trace: Trace) -> Opinion | CouldNotJudge:
            asked.set()
            await asyncio.Event().wait()
            raise AssertionError

        async with Worker(engine, never).running():
            await asyncio.wait_for(asked.wait(), DEADLINE)

    asyncio.run(scenario())
    [row] = queued(engine)
    assert (row["state"], row["attempts"]) == ("waiting", 0)
    assert len(EscalationQueue(engine).claim(1, lease_seconds=60)) == 1
