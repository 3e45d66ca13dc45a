"""A judge of stated skill, for tests, demonstrations and capacity planning: it is told the truth and errs on purpose.

Evidence is binormal (Green and Swets 1966): one unit normal for hallucinated answers, one for faithful ones, placed
so that the sign of the score has the stated sensitivity and specificity. Its errors therefore gather where its score
is near 0, as a good judge's do; the area under its curve is `auroc`.
"""

import hashlib
import math
from collections.abc import Callable, Sequence

from scipy.special import ndtr, ndtri

from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Tier, Unjudgeable, Usage
from monitor.domain.trace import Trace
from monitor.judging.judgeable import why_unjudgeable
from monitor.routing.sampling import uniform

Truth = Callable[[Trace], bool | None]
"""Whether a trace's answer is hallucinated; None where that is not known."""

_HALF_STEP = 2.0**-54
"""`uniform` is a multiple of 2**-53 and may be 0, whose normal quantile is minus infinity."""


class SimulatedJudge:
    """Says of each trace what a judge of this skill would, the same every time. Safe to use from several threads.

    Args:
        truth: tells what is so.
        sensitivity: share of hallucinated answers with a score above 0; between 0 and 1, ends excluded.
        specificity: share of faithful answers with a score below 0; likewise.
        seed: another seed makes another judge of the same skill.
        name: part of its identity; judges of different names err independently of each other.
        tier: its rung in the cascade.
        shared: share of the variance of its errors that it has in common with every judge of the same seed, 0 to 1.
        usage: what each judgement is said to cost.
    """

    def __init__(
        self,
        truth: Truth,
        *,
        sensitivity: float,
        specificity: float,
        seed: int = 0,
        name: str = "simulated",
        tier: Tier = Tier.EDGE,
        shared: float = 0.0,
        usage: Usage | None = None,
    ) -> None:
        if not (0 < sensitivity < 1 and 0 < specificity < 1 and 0 <= shared <= 1):
            raise ValueError("sensitivity and specificity lie between 0 and 1, ends excluded; shared from 0 to 1")
        self._truth = truth
        self._hallucinated = float(ndtri(sensitivity))
        self._faithful = -float(ndtri(specificity))
        self._seed = seed
        self._shared = shared
        self._usage = usage or Usage()
        skill = f"binormal {sensitivity!r} {specificity!r} seed {seed} shared {shared!r}"
        self._identity = JudgeIdentity(
            name=name, tier=tier, model="simulated", model_digest=hashlib.sha256(skill.encode()).hexdigest()
        )

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges; in place of weights, the digest of its skill."""
        return self._identity

    @property
    def auroc(self) -> float:
        """Probability that it scores a random hallucinated answer above a random faithful one."""
        return float(ndtr((self._hallucinated - self._faithful) / math.sqrt(2.0)))

    def judge(self, trace: Trace, *, deadline_seconds: float) -> Opinion | CouldNotJudge:  # noqa: ARG002 - never waits
        """Judge one trace; without the truth it could not judge."""
        barred = why_unjudgeable(trace)
        if barred is not None:
            return barred
        hallucinated = self._truth(trace)
        if hallucinated is None:
            return CouldNotJudge(reason=Unjudgeable.JUDGE_UNAVAILABLE, detail="the simulation was not told the truth")
        evidence = (self._hallucinated if hallucinated else self._faithful) + self._error(trace)
        # Times the distance between the normals: the log-likelihood ratio, up to a constant.
        return Opinion(raw_score=(self._hallucinated - self._faithful) * evidence, usage=self._usage)

    def judge_many(
        self,
        traces: Sequence[Trace],
        *,
        deadline_seconds: float,
        explain: Callable[[Trace, float], bool] | None = None,  # noqa: ARG002 - it has no reasons to give
    ) -> list[Opinion | CouldNotJudge]:
        """One result a trace, in order."""
        return [self.judge(trace, deadline_seconds=deadline_seconds) for trace in traces]

    def _error(self, trace: Trace) -> float:
        common = self._normal(trace, "shared")
        own = self._normal(trace, self._identity.name)
        return math.sqrt(self._shared) * common + math.sqrt(1.0 - self._shared) * own

    def _normal(self, trace: Trace, purpose: str) -> float:
        drawn = uniform(trace.tenant, trace.trace_id, f"simulated/{self._seed}/{purpose}")
        return float(ndtri(drawn + _HALF_STEP))
