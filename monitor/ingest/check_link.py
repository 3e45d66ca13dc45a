"""What the process that judges checks and the one that receives say to each other, over a pipe between the two."""

from dataclasses import dataclass

from monitor.domain.judgement import CouldNotJudge, JudgeIdentity
from monitor.domain.trace import Trace
from monitor.domain.verdict import Verdict


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One check.

    Attributes:
        number: names it in this life of the process.
        until: `time.monotonic()`, which is system-wide, at which nobody waits any more.
    """

    number: int
    trace: Trace
    until: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Said:
    """What the judges say of one check, so far.

    Attributes:
        judge: the dearest of those whose word carried weight; None without a verdict.
        complete: whether every judge that should be asked has spoken.
        version: of all the judges together, with calibration and policy; None where nobody judged.
    """

    outcome: Verdict | CouldNotJudge
    judge: JudgeIdentity | None
    complete: bool
    version: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Word:
    """A word on one check; the last one has nothing `said` where the time was over before there was more to say."""

    number: int
    said: Said | None
    last: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Ready:
    """The judges are there.

    Attributes:
        judges: their versions, cheapest first.
        version: of all of them together, with calibration and policy.
    """

    judges: tuple[str, ...]
    version: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Unusable:
    """The judges cannot be had; the process ends."""

    problem: str


Told = Word | Ready | Unusable
