"""The pool worker: asks the 70B pool about escalated traces and revises their verdicts. No Kafka."""

import asyncio
import logging
import signal
from collections.abc import Callable, Sequence
from dataclasses import replace

from monitor.config import Settings
from monitor.domain.judgement import CouldNotJudge, Judgement, Tier
from monitor.domain.trace import Segment
from monitor.domain.verdict import Action, Verdict
from monitor.inference.loading import load_calibration, load_policy, now
from monitor.inference.outcome import outcome
from monitor.inference.pool import PoolJudge
from monitor.inference.pool_call import PoolCall
from monitor.inference.pool_protocol import most_reply_bytes
from monitor.outbound import AsyncHttpClient
from monitor.services.pool import PoolService, Revised
from monitor.services.spending import BudgetedSpending
from monitor.storage.engine import create_ledger_engine
from monitor.storage.escalations import EscalationQueue
from monitor.storage.spend import SpendStore
from monitor.telemetry.setup import Telemetry, setup_telemetry

logger = logging.getLogger(__name__)

_DATABASE_CONNECTIONS = 4


def run(settings: Settings) -> int:
    """Judge until SIGTERM or SIGINT; returns the exit code.

    Raises:
        JudgeUnavailable: no pool is set.
        InvalidSettings: the calibration or the policy is not usable.
    """
    asyncio.run(_run(settings))
    return 0


async def _run(settings: Settings) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    calibration = load_calibration(settings.policy.calibration)
    policy = load_policy(settings)

    def fuse(judgements: Sequence[Judgement], segment: Segment) -> Verdict | CouldNotJudge:
        return outcome(judgements, calibration, policy, segment=segment)

    most_calls = settings.pool.concurrency * (1 + len(settings.pool.urls))
    client = AsyncHttpClient(
        deadline_seconds=settings.pool.deadline_seconds,
        max_answer_bytes=most_reply_bytes(settings.pool),
        connections=most_calls,
    )
    telemetry = setup_telemetry(settings.telemetry, "groundwatch-pool")
    engine = create_ledger_engine(
        settings.postgres, application_name="groundwatch-pool", pool_size=_DATABASE_CONNECTIONS
    )
    async with client:
        try:
            judge = PoolJudge(
                settings.pool,
                client,
                spending=BudgetedSpending(SpendStore(engine), settings.pool),
                observe=_calls_told_to(telemetry),
            )
            logger.info("judging escalations", extra={"judge": judge.identity.version})
            await PoolService(
                queue=EscalationQueue(engine),
                judge=judge,
                settings=settings.pool,
                calibrate=lambda version, score, segment: calibration.probability(version, score, segment=segment),
                fuse=fuse,
                clock=now,
                observe=_Observer(telemetry),
                report_waiting=telemetry.instruments.escalations_waiting,
            ).run(stop)
        finally:
            engine.dispose()
            telemetry.shutdown()


def _calls_told_to(telemetry: Telemetry) -> Callable[[PoolCall], None]:
    def tell(call: PoolCall) -> None:
        telemetry.instruments.pool_called(call.endpoint, call.attempt.value, call.outcome.value)
        telemetry.instruments.pool_spent(
            prompt=call.tokens.prompt,
            cached=call.tokens.cached,
            completion=call.tokens.completion,
            usd=call.cost_usd,
        )
        telemetry.instruments.pool_server(call.endpoint, permits=call.permits, circuit_open=call.circuit_open)

    return tell


class _Observer:
    """Tells telemetry of each escalation that came to its end, once that is durable in Postgres."""

    def __init__(self, telemetry: Telemetry) -> None:
        self._telemetry = telemetry

    def __call__(self, revised: Revised) -> None:
        judgement, local = revised.judgement, revised.escalation.assessment
        self._telemetry.instruments.escalated("given_up" if judgement is None else "done")
        if local.origin.replay_id is not None:
            return  # Replays are old: told once more, they would pass for today's traffic. The queue is one for all.
        said = local.judgements
        if judgement is not None:
            spoke = judgement.probability is not None
            self._telemetry.instruments.judged(Tier.POOL, judgement.latency_seconds, spoke=spoke)
            said = (*said, judgement)
        elif isinstance(local.outcome, Verdict):
            return  # Given up, and the verdict stands: it has been told.
        # It is not waiting any more: what is said of it now is its last word.
        decision = replace(local.decision, action=Action.ACCEPT)
        final = replace(local, judgements=said, outcome=revised.outcome, decision=decision)
        self._telemetry.evaluations.emit(final)
