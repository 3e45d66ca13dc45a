"""Hours that are compared with their like: a daily or weekly rhythm of the rate is no drift.

Each verdict belongs to a stratum by its event time. With seasons, a stratum has a rate of its own in the baseline;
without, hours are counted all the same, so that the assumption that the rate has no rhythm is watched, not believed.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

from scipy import stats

_HOURS = 24
_SATURDAY = 5


class Seasons(StrEnum):
    """What is compared with what."""

    NONE = "none"
    """One rate for all hours."""
    DAILY = "daily"
    """A rate for each hour of the day, UTC."""
    WEEKLY = "weekly"
    """A rate for each hour of the day, UTC, weekends apart."""

    @property
    def period(self) -> timedelta:
        """What a baseline must span at least, so that every stratum was seen."""
        days = {Seasons.NONE: 0, Seasons.DAILY: 1, Seasons.WEEKLY: 7}[self]
        return timedelta(days=days)

    def stratum(self, event_time: datetime) -> int:
        """The stratum that rates are kept by."""
        if self is Seasons.NONE:
            return 0
        weekend = self is Seasons.WEEKLY and event_time.weekday() >= _SATURDAY
        return event_time.hour + _HOURS * weekend


class Rhythm(NamedTuple):
    """Whether the hours of the day differ in their rate.

    Attributes:
        p_value: of the chi-squared test that all have the same.
        lowest, highest: the least and the greatest rate of an hour with enough verdicts.
    """

    p_value: float
    lowest: float
    highest: float


FEWEST_EXPECTED = 5.0
"""Verdicts of the rarer kind that an hour must be expected to have, or it says nothing (Cochran 1954)."""


def rhythm(hours: Sequence[tuple[int, float]]) -> Rhythm | None:
    """Test whether hours (verdicts, hallucinated among them) share one rate; None while fewer than two say anything.

    A small p-value without drift means a rhythm: set `drift.seasons`.
    """
    total, hallucinated = sum(n for n, _ in hours), sum(mass for _, mass in hours)
    if not 0 < hallucinated < total:
        return None
    rate = hallucinated / total
    telling = [(n, mass) for n, mass in hours if n * min(rate, 1 - rate) >= FEWEST_EXPECTED]
    if len(telling) < 2:  # noqa: PLR2004 - one hour differs from nothing
        return None
    n, mass = sum(n for n, _ in telling), sum(mass for _, mass in telling)
    shared = mass / n
    if not 0 < shared < 1:
        return None
    squares = sum((mass - n * shared) ** 2 / (n * shared * (1 - shared)) for n, mass in telling)
    rates = [mass / n for n, mass in telling]
    return Rhythm(p_value=float(stats.chi2.sf(squares, len(telling) - 1)), lowest=min(rates), highest=max(rates))
