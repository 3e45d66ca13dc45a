"""What a stream is compared with: a reference that is learned and goes on learning, and the first of it, frozen."""

from collections import deque
from datetime import datetime
from typing import Any, NamedTuple, Self

from monitor.drift.reference import Reference
from monitor.drift.rhythm import Rhythm, rhythm
from monitor.drift.seasons import Seasons

LAG_VERDICTS = 500
"""A verdict joins the reference only when this many younger ones have been seen: a change has that long to show."""

HELD_VERDICTS = 20 * LAG_VERDICTS
"""However long the evidence stays high, no more than this many verdicts wait outside the reference."""

CAUTION = 0.05
"""Standard errors that the tested rate lies away from the estimate, towards the alternatives, for a long baseline …"""

CAUTION_VERDICTS = 150
"""… and one more for a baseline of this many verdicts. Both chosen by simulation: see docs/drift.md."""

FROZEN_CAUTION = 1.5
"""The same for the frozen reference, whose error stays what it is for ever."""

_PRIOR_VERDICTS = (20.0, 2000.0)
"""A stratum's rate is drawn towards the rate of all by so many verdicts: the fewer, the more the strata differ."""

_BLOCK = LAG_VERDICTS // 20
_HOURS = 24


class Tested(NamedTuple):
    """The rates that verdicts of one stratum are tested against: for a rise and for a fall, learning and frozen."""

    rise: float
    rise_frozen: float
    fall: float
    fall_frozen: float


class Baseline:
    """A rate with its uncertainty, from the verdicts that are old enough to trust.

    The first `verdicts` go straight into the reference. Later ones wait in a lag window and leave it, oldest first,
    while `hold` is false; while it is true they stay, so that a change in progress does not become the norm that it
    is measured against. Held verdicts are learned later, never dropped: dropping the ones seen at times of high
    evidence would bias the reference and with it raise the false-alarm rate.

    A drift so slow that it is always within the lag would be learned as it comes. So the reference is the mean of all
    that was ever learned, which a drift can only pull along more and more slowly; and beside it stands what the first
    `verdicts` said, which nothing pulls along.

    Memory is bounded: verdicts wait in blocks of about 25, and no more than `HELD_VERDICTS` of them.
    """

    __slots__ = (
        "_began",
        "_ended",
        "_frozen",
        "_hours",
        "_pending",
        "_strata",
        "_waiting",
        "_whole",
        "seasons",
        "verdicts",
    )

    def __init__(self, verdicts: int, seasons: Seasons = Seasons.NONE) -> None:
        self.verdicts = verdicts
        self.seasons = seasons
        self._whole = Reference()
        self._frozen: Reference | None = None
        self._strata: dict[int, Reference] = {}
        self._hours = [Reference() for _ in range(_HOURS)]
        self._began: datetime | None = None
        self._ended: datetime | None = None
        self._pending: deque[list[Any]] = deque()
        self._waiting = 0

    @property
    def learned(self) -> bool:
        """Whether there is a reference to compare with."""
        return self._frozen is not None

    @property
    def total(self) -> int:
        """Verdicts learned."""
        return self._whole.total

    @property
    def hallucinated(self) -> float:
        """The sum of the verdicts learned."""
        return self._whole.hallucinated

    @property
    def rate(self) -> float:
        """The estimate over all strata."""
        return self._whole.rate

    @property
    def rhythm(self) -> Rhythm | None:
        """Whether the reference's hours of the day share one rate."""
        return rhythm([(each.total, each.hallucinated) for each in self._hours])

    def tested(self, stratum: int = 0) -> Tested:
        """The rates that verdicts of this stratum are tested against."""
        assert self._frozen is not None
        here, scale = self._here(stratum)
        frozen = self._frozen
        caution = CAUTION + CAUTION_VERDICTS / here.total
        return Tested(
            rise=here.shifted(caution),
            rise_frozen=_scaled(frozen.shifted(FROZEN_CAUTION), scale),
            fall=here.shifted(-caution),
            fall_frozen=_scaled(frozen.shifted(-FROZEN_CAUTION), scale),
        )

    def _here(self, stratum: int) -> tuple[Reference, float]:
        """The stratum's reference, drawn towards that of all, and its rate as a multiple of theirs."""
        if self.seasons is Seasons.NONE:
            return self._whole, 1.0
        seen, whole, prior = self._strata.get(stratum, Reference()), self._whole, self._prior()
        drawn = Reference(seen.total + round(prior), seen.hallucinated + round(prior) * whole.rate)
        return drawn, drawn.rate / whole.rate

    def _prior(self) -> float:
        """The weight of the common rate: the verdicts' variance over that between strata, by the method of moments."""
        fewest, most = _PRIOR_VERDICTS
        rate, strata = self._whole.rate, self._strata.values()
        squares = sum((each.hallucinated - each.total * rate) ** 2 / each.total for each in strata)
        excess = squares / (rate * (1 - rate)) - (len(strata) - 1)
        sizes = self._whole.total - sum(each.total**2 for each in strata) / self._whole.total
        return min(most, max(fewest, sizes / excess)) if excess > 0 else most

    def learn(self, event_time: datetime, total: int, hallucinated: float) -> None:
        """Take verdicts into the reference at once; it is learned when it is long enough, and spans the seasons."""
        self._began = self._began or event_time
        self._ended = event_time
        self._take(self.seasons.stratum(event_time), event_time.hour, total, hallucinated)
        if self._whole.total >= self.verdicts and self._ended - self._began >= self.seasons.period:
            self._frozen = Reference(self._whole.total, self._whole.hallucinated)

    def _take(self, stratum: int, hour: int, total: int, hallucinated: float) -> None:
        self._whole.add(total, hallucinated)
        self._hours[hour].add(total, hallucinated)
        if self.seasons is not Seasons.NONE:
            self._strata.setdefault(stratum, Reference()).add(total, hallucinated)

    def observe(self, event_time: datetime, total: int, hallucinated: float, *, hold: bool) -> bool:
        """Put verdicts into the lag window, and learn what has waited long enough; True when the reference grew."""
        pending, stratum, hour = self._pending, self.seasons.stratum(event_time), event_time.hour
        if pending and pending[-1][2] < _BLOCK and pending[-1][0] == stratum and pending[-1][1] == hour:
            pending[-1][2] += total
            pending[-1][3] += hallucinated
        else:
            pending.append([stratum, hour, total, hallucinated])
        self._waiting += total
        keep = HELD_VERDICTS if hold else LAG_VERDICTS
        grew = False
        # The newest block never leaves: it may still be filling, and a batch is not its own reference.
        while len(pending) > 1 and self._waiting - pending[0][2] >= keep:
            stratum, hour, oldest, mass = pending.popleft()
            self._waiting -= oldest
            self._take(stratum, hour, oldest, mass)
            grew = True
        return grew

    def state(self) -> dict[str, Any]:
        """Everything, as a JSON value."""
        return {
            "verdicts": self.verdicts,
            "seasons": self.seasons.value,
            "whole": self._whole.state(),
            "frozen": None if self._frozen is None else self._frozen.state(),
            "strata": {str(stratum): each.state() for stratum, each in self._strata.items()},
            "hours": [each.state() for each in self._hours],
            "began": None if self._began is None else self._began.isoformat(),
            "ended": None if self._ended is None else self._ended.isoformat(),
            "pending": [list(block) for block in self._pending],
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """The baseline whose `state()` this is."""
        baseline = cls(state["verdicts"], Seasons(state["seasons"]))
        baseline._whole = Reference(*state["whole"])
        baseline._frozen = None if state["frozen"] is None else Reference(*state["frozen"])
        baseline._strata = {int(stratum): Reference(*each) for stratum, each in state["strata"].items()}
        baseline._hours = [Reference(*each) for each in state["hours"]]
        baseline._began = None if state["began"] is None else datetime.fromisoformat(state["began"])
        baseline._ended = None if state["ended"] is None else datetime.fromisoformat(state["ended"])
        baseline._pending = deque(list(block) for block in state["pending"])
        baseline._waiting = sum(total for _, _, total, _ in baseline._pending)
        return baseline


def _scaled(rate: float, scale: float) -> float:
    return min(1 - 1e-6, max(1e-6, rate * scale))
