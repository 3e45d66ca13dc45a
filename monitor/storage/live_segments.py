"""Which segments had verdicts when: what a budget of false alarms is divided by."""

from datetime import datetime, timedelta

from sqlalchemy import Engine, func, select

from monitor.storage.engine import snapshot
from monitor.storage.tables import segment_hours

SPAN = timedelta(hours=24)
"""Who had a verdict in that time is live: segments that sleep at night are."""

LAG = timedelta(hours=1)
"""What an hour is told of ended so long before it, so that the order of arrival cannot matter."""


def live_segments(engine: Engine, hour: datetime) -> int:
    """How many segments, judge versions apart, had a verdict in the `SPAN` that ended `LAG` before `hour`.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    end = hour - LAG
    keys = [column for column in segment_hours.primary_key.columns if column.name != "hour"]
    watched = select(*keys).where(segment_hours.c.hour >= end - SPAN, segment_hours.c.hour < end).distinct().subquery()
    with snapshot(engine) as connection:
        return connection.execute(select(func.count()).select_from(watched)).scalar_one()
