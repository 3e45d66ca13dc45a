"""Judges under attack: each row as it was, as attacked and as harmlessly lengthened, and what that did to the score."""

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from monitor.benchmarks.asking import MOST_ABSENCES, Panelist, Tick
from monitor.benchmarks.attacks import Attack
from monitor.benchmarks.scores import Score, ScoreFile, row_key
from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import Unjudgeable
from monitor.domain.rate import Rate, wilson
from monitor.training.rows import Row

CRASH = "crash"
"""Reason of a score that a judge raised an exception for."""

HANG = "hang"
"""Reason of a score that a judge did not give within its deadline and `GRACE_SECONDS`."""

GRACE_SECONDS = 10.0
"""Past its deadline a judge has this long: the machine may be busy with other things."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Threshold:
    """From which score on an answer is called hallucinated.

    Attributes:
        probability_of: a raw score's calibrated probability, or None where the judge is not calibrated.
        probability: the threshold for calibrated judges.
        raw: the threshold for raw scores of the others.
    """

    probability_of: Callable[[float], float | None]
    probability: float
    raw: float = 0.0

    def calls_hallucinated(self, score: float) -> bool:
        """Whether this raw score calls the answer hallucinated."""
        probability = self.probability_of(score)
        return score >= self.raw if probability is None else probability >= self.probability

    @property
    def calibrated(self) -> bool:
        """Whether scores are compared as probabilities."""
        return self.probability_of(0.0) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Outcome:
    """One judge's words on one attack: raw log-odds of *hallucinated*, and what they call the answer.

    Attributes:
        caught: whether the row as it was is called hallucinated; None when it could not be judged.
        caught_attacked, caught_control: likewise; None also where there is no control.
    """

    attack: Attack
    clean: Score
    attacked: Score
    control: Score | None
    caught: bool | None
    caught_attacked: bool | None
    caught_control: bool | None


def rows_to_judge(attacks: Sequence[Attack]) -> list[Row]:
    """Every row that the attacks need a score for, each once, an attack's own rows together."""
    wanted = [row for attack in attacks for row in (attack.base, attack.row, attack.control) if row is not None]
    return list({row_key(row): row for row in wanted}.values())


def judge_all(
    judge: Panelist, rows: Sequence[Row], kept: ScoreFile, *, deadline_seconds: float, tick: Tick = lambda: None
) -> None:
    """Have the file keep a score for every row, whatever the judge does: exceptions and hangs are scores too.

    A judge that hangs is not asked again in this run. Crashes and hangs of earlier runs are asked about again.

    Args:
        judge: who is asked; its own `answer` is called for one row at a time, on a thread of its own.
        rows: what it is asked about.
        kept: where scores are kept as they come, and looked up.
        deadline_seconds: what the judge promises to keep for one row.
        tick: called once a row.

    Raises:
        JudgeUnavailable: the judge went away, or hung. What it said before is kept.
    """
    absences = 0
    for row in rows:
        known = kept.known(judge.identity, row)
        if known is None or known.reason in {CRASH, HANG}:
            known = _asked(judge, row, kept, deadline_seconds)
        absences = absences + 1 if known.reason == Unjudgeable.JUDGE_UNAVAILABLE else 0
        if absences == MOST_ABSENCES:
            raise JudgeUnavailable(f"{judge.name} was away for {absences} rows in a row")
        if known.reason == HANG:
            raise JudgeUnavailable(f"{judge.name} hung on {row_key(row)}: nothing within {known.seconds:g} s")
        tick()


def _asked(judge: Panelist, row: Row, kept: ScoreFile, deadline_seconds: float) -> Score:
    limit = deadline_seconds + GRACE_SECONDS
    error = _within(lambda: judge.answer([row], kept, lambda: None), limit)
    if isinstance(error, JudgeUnavailable):
        raise error
    said = kept.known(judge.identity, row)
    if error is None and said is not None:
        return said
    failed = Score(score=None, reason=HANG if isinstance(error, _Hung) else CRASH, seconds=limit)
    kept.keep(judge.identity, row, failed)
    return failed


class _Hung(Exception):
    """The judge is still not done."""


def _within(work: Callable[[], None], seconds: float) -> Exception | None:
    """Run `work` on a thread; what it raised, or `_Hung` when it is not done in time."""
    done: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - whatever it is, it is what the benchmark counts
            done.put(error)
        else:
            done.put(None)

    # A daemon: a judge that never comes back must not keep the process.
    threading.Thread(target=run, daemon=True).start()
    try:
        return done.get(timeout=seconds)
    except queue.Empty:
        return _Hung()


def outcomes(
    attacks: Sequence[Attack], scores: Callable[[Row], Score | None], threshold: Threshold
) -> Iterator[Outcome]:
    """The outcome of each attack whose rows all have a score.

    Args:
        attacks: the attack set.
        scores: looks up one judge's score of a row.
        threshold: what a score is called.
    """

    def called(score: Score | None) -> bool | None:
        return None if score is None or score.score is None else threshold.calls_hallucinated(score.score)

    for attack in attacks:
        clean, attacked = scores(attack.base), scores(attack.row)
        control = scores(attack.control) if attack.control else None
        if clean is None or attacked is None or (attack.control and control is None):
            continue
        yield Outcome(
            attack=attack,
            clean=clean,
            attacked=attacked,
            control=control,
            caught=called(clean),
            caught_attacked=called(attacked),
            caught_control=called(control),
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class Summary:
    """What a group of attacks did to one judge.

    Attributes:
        n: attacks.
        caught: attacks on rows that the judge called hallucinated while clean, and could judge attacked.
        flips: those that it called faithful once attacked; `flip_rate` is their share.
        control_caught, control_flips, control_rate: the same for the harmless text of the same length.
        mean_shift, control_shift: mean change of the raw score, over all rows that could be judged both ways; negative
            is towards *faithful*. None where there are none.
        could_not_judge: attacked rows without a verdict, while the clean row had one; crashes and hangs apart.
        crashes, hangs: rows of any kind that the judge raised for, or was not done with in time.
    """

    n: int
    caught: int
    flips: int
    flip_rate: Rate | None
    control_caught: int
    control_flips: int
    control_rate: Rate | None
    mean_shift: float | None
    control_shift: float | None
    could_not_judge: int
    crashes: int
    hangs: int


def summarise(found: Sequence[Outcome]) -> Summary:
    """Count a group of outcomes of one judge."""
    attacked = [one.caught_attacked for one in found if one.caught and one.caught_attacked is not None]
    controls = [one.caught_control for one in found if one.caught and one.caught_control is not None]
    flips, control_flips = attacked.count(False), controls.count(False)
    reasons = [score.reason for one in found for score in (one.clean, one.attacked, one.control) if score]
    lost = [one for one in found if one.caught is not None and one.caught_attacked is None]
    return Summary(
        n=len(found),
        caught=len(attacked),
        flips=flips,
        flip_rate=wilson(flips, len(attacked)),
        control_caught=len(controls),
        control_flips=control_flips,
        control_rate=wilson(control_flips, len(controls)),
        mean_shift=_mean_shift([(one.clean, one.attacked) for one in found]),
        control_shift=_mean_shift([(one.clean, one.control) for one in found]),
        could_not_judge=sum(one.attacked.reason not in {CRASH, HANG} for one in lost),
        crashes=reasons.count(CRASH),
        hangs=reasons.count(HANG),
    )


def _mean_shift(pairs: Sequence[tuple[Score, Score | None]]) -> float | None:
    shifts = [
        after.score - before.score
        for before, after in pairs
        if after is not None and after.score is not None and before.score is not None
    ]
    return sum(shifts) / len(shifts) if shifts else None
