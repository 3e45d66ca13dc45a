"""What all the judgements on one trace come to."""

from collections.abc import Sequence

from monitor.domain.judgement import CouldNotJudge, Judgement, Opinion, Unjudgeable
from monitor.domain.trace import Segment
from monitor.domain.verdict import Label, Verdict
from monitor.judging.calibration import Calibration
from monitor.routing.policy import Policy


def outcome(
    judgements: Sequence[Judgement], calibration: Calibration, policy: Policy, *, segment: Segment | None = None
) -> Verdict | CouldNotJudge:
    """What all the judgements on one trace come to; also for a trace that the pool has judged since.

    Args:
        judgements: of every tier that was asked, cheapest first.
        calibration: fuses them.
        policy: its threshold makes the label.
        segment: the trace's, where the calibration may know it apart.
    """
    fused = calibration.fuse(judgements, segment=segment)
    if fused is None:
        return _why_not(judgements)
    probability, decided_by = fused
    label = policy.label(probability)
    opinions = [judgement.result for judgement in judgements if isinstance(judgement.result, Opinion)]
    # The cheapest judge's spans: the screen's are the finest, and name the nearest support.
    spans = next((opinion.unsupported for opinion in opinions if opinion.unsupported), ())
    # The dearest judge's reasoning is the best there is; a judge without a say does not explain the verdict.
    reasoned = [
        judgement.result.reasoning
        for judgement in reversed(judgements)
        if isinstance(judgement.result, Opinion) and judgement.judge.version in decided_by
    ]
    return Verdict(
        label=label,
        probability=probability,
        reasoning=next((text for text in reasoned if text), None),
        unsupported=spans if label is Label.HALLUCINATED else (),
        decided_by=decided_by,
    )


def _why_not(judgements: Sequence[Judgement]) -> CouldNotJudge:
    failures = [judgement.result for judgement in judgements if isinstance(judgement.result, CouldNotJudge)]
    if len(failures) == len(judgements) and failures:
        return failures[-1]
    heard = ", ".join(judgement.judge.version for judgement in judgements if isinstance(judgement.result, Opinion))
    detail = f"no calibration gives weight to {heard}" if heard else "no judge was asked"
    reason = Unjudgeable.UNCALIBRATED if heard else Unjudgeable.JUDGE_UNAVAILABLE
    return CouldNotJudge(reason=reason, detail=detail)
