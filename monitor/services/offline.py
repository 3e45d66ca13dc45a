"""The whole cascade over a file: the local judges, and the pool for what they escalate, at once and in one process.

What the workers do through Kafka and Postgres is done here trace by trace, with the same judges, policy and fusion.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Protocol

from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Judgement, Opinion
from monitor.domain.trace import Origin, Trace
from monitor.domain.verdict import Action, Assessment, Verdict
from monitor.inference.cascade import Cascade
from monitor.inference.outcome import outcome
from monitor.judging.calibration import Calibration
from monitor.routing.policy import Policy


class Pool(Protocol):
    """Judges through a server: `monitor.inference.pool.PoolJudge`."""

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges."""

    async def judge(self, trace: Trace) -> Opinion | CouldNotJudge:
        """Judge one trace; within its own deadlines."""


class OfflineCascade:
    """Assesses traces to their end. Not thread-safe.

    Args:
        cascade: the local judges.
        pool: asked about what they escalate; None leaves their word as it is.
        calibration, policy: those of the cascade.
        runner: runs the pool's calls, as many at once as the pool's own limit lets through.
    """

    def __init__(
        self,
        *,
        cascade: Cascade,
        pool: Pool | None,
        calibration: Calibration,
        policy: Policy,
        runner: asyncio.Runner,
    ) -> None:
        self._cascade = cascade
        self._pool = pool
        self._calibration = calibration
        self._policy = policy
        self._runner = runner

    @property
    def version(self) -> str:
        """The local cascade's version: what is stored with its verdicts, whether or not the pool revised them."""
        return self._cascade.version

    @property
    def judges(self) -> tuple[JudgeIdentity, ...]:
        """All judges, cheapest first."""
        return (*self._cascade.judges, *([self._pool.identity] if self._pool else []))

    def assess(self, items: Sequence[tuple[Trace, Origin]]) -> list[Assessment]:
        """One assessment an item, in order; escalated ones with the pool's judgement, and revised by it."""
        assessments = self._cascade.assess(items)
        if self._pool is None:
            return assessments
        return self._runner.run(self._revised(self._pool, assessments))

    async def _revised(self, pool: Pool, assessments: Sequence[Assessment]) -> list[Assessment]:
        async def to_its_end(assessment: Assessment) -> Assessment:
            escalated = assessment.decision.action is Action.ESCALATE
            return await self._ask(pool, assessment) if escalated else assessment

        return list(await asyncio.gather(*map(to_its_end, assessments)))

    async def _ask(self, pool: Pool, assessment: Assessment) -> Assessment:
        began = time.perf_counter()
        result = await pool.judge(assessment.trace)
        segment = assessment.trace.segment
        probability = None
        if isinstance(result, Opinion):
            version = pool.identity.version
            probability = self._calibration.probability(version, result.raw_score, segment=segment)
        judgement = Judgement(
            judge=pool.identity,
            result=result,
            probability=probability,
            latency_seconds=time.perf_counter() - began,
            inclusion_probability=assessment.decision.inclusion_probability,
            chosen_because=assessment.decision.reason,
        )
        said = (*assessment.judgements, judgement)
        return replace(assessment, judgements=said, outcome=self._outcome(assessment, said, result))

    def _outcome(
        self, assessment: Assessment, said: Sequence[Judgement], result: Opinion | CouldNotJudge
    ) -> Verdict | CouldNotJudge:
        if isinstance(result, Opinion):
            return outcome(said, self._calibration, self._policy, segment=assessment.trace.segment)
        # Without the pool's word a local verdict stands; without that, the pool's reason is the last one.
        return assessment.outcome if isinstance(assessment.outcome, Verdict) else result
