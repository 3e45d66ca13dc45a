"""A cascade of two stages whose judges are simulated: told the truth by the trace's id, and nearly always right."""

from types import MappingProxyType
from typing import Any

from monitor.domain.judgement import JudgeIdentity, Tier
from monitor.inference.simulated import SimulatedJudge
from monitor.inference.staged import StagedCascade
from monitor.judging.calibration import Calibration, JudgeCalibration
from monitor.judging.fusion import Fusion
from monitor.routing.policy import Policy
from tests.support.imaginary import imaginary_trace, is_hallucinated

FAITHFUL, HALLUCINATED = imaginary_trace(0), imaginary_trace(1)
UNSURE = Policy(unsure_low=0.0, unsure_high=1.0)
SURE = Policy(unsure_low=0.5, unsure_high=0.5)


def judge(name: str, tier: Tier, **skill: Any) -> SimulatedJudge:
    return SimulatedJudge(
        is_hallucinated, **{"sensitivity": 0.999, "specificity": 0.999, **skill}, name=name, tier=tier
    )


CHEAP, ALSO_CHEAP = judge("screen", Tier.SCREEN), judge("encoder", Tier.SCREEN)
DEAR = judge("gguf", Tier.EDGE)


def fitted(identity: JudgeIdentity, *, informative: bool = True) -> JudgeCalibration:
    quality = {"auroc": 0.8, "brier": 0.2, "ece": 0.1, "log_loss": 0.5}
    known = {"version": identity.version, "model": identity.model, "tier": identity.tier, "informative": informative}
    return JudgeCalibration(**known, **quality, slope=1.0, intercept=0.0, prior=0.5, rows=100)  # type: ignore[arg-type] # a test's shorthand


def calibration(*, dear_counts: bool = True) -> Calibration:
    judges = [fitted(CHEAP.identity), fitted(DEAR.identity, informative=dear_counts)]
    weights = {CHEAP.identity.version: 0.5, DEAR.identity.version: 0.5}
    fusion = Fusion(weights=weights, bias=0.0, prior=0.5, rows=100, log_loss=0.4)
    return Calibration(
        judges=MappingProxyType({one.version: one for one in judges}), fusions=(fusion,) if dear_counts else ()
    )


def staged(
    *,
    policy: Policy = UNSURE,
    cheap: Any = CHEAP,
    also_cheap: Any = None,
    dear: Any = DEAR,
    dear_counts: bool = True,
) -> StagedCascade:
    fit = calibration(dear_counts=dear_counts)
    everyones = [cheap] if also_cheap is None else [cheap, also_cheap]
    return StagedCascade(everyones, edge=dear, calibration=fit, policy=policy)
