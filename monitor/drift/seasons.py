"""Hours that are compared with their like: a daily or weekly rhythm of the rate is no drift.

Each verdict belongs to a stratum by its event time, and each stratum has a rate of its own in the baseline. Without
seasons there is one; that the rate then has no rhythm is an assumption which `rhythm` watches.
"""

from datetime import datetime, timedelta
from enum import StrEnum

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
