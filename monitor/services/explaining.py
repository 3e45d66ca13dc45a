"""Why a rate rose: the slices of the traffic that rose with it, and the answers to look at first."""

import math
from datetime import datetime, timedelta

from monitor.domain.alert import Alarm, Alert
from monitor.domain.explanation import Explanation
from monitor.drift.causes import causes
from monitor.storage.drift_store import SegmentKey
from monitor.storage.engine import LedgerEngine
from monitor.storage.slices import Change, Course, clearest_examples, count_slices, rate_course

BEFORE = timedelta(days=7)
"""How far back from the change traffic is compared with: whole weeks hold every hour equally often."""

STEPS = 12
LONGEST_STEP = timedelta(hours=6)
_MINUTE = timedelta(minutes=1)


def explain(engine: LedgerEngine, key: SegmentKey, alarm: Alarm, *, until: datetime | None = None) -> Explanation:
    """What the ledger says about a rise now.

    Args:
        engine: of the ledger.
        key: whose rate rose.
        alarm: the rise.
        until: the last minute that counts; that of the alarm when absent.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    change = _change(key, alarm, until or alarm.event_time)
    counted = count_slices(engine, change)
    named = tuple(causes(counted.whole, counted.slices))
    part = (named[0].dimension, named[0].value) if named else None
    return Explanation(causes=named, examples=clearest_examples(engine, change, part=part))


def change_of(alert: Alert) -> Change:
    """The minutes that an alert is about, with those before that they are compared with."""
    key = SegmentKey(segment=alert.segment, evaluator=alert.evaluator, judge_version=alert.judge_version)
    return _change(key, alert.alarm, alert.alarm.event_time)


def _change(key: SegmentKey, alarm: Alarm, until: datetime) -> Change:
    return Change(key=key, since=alarm.change_at - BEFORE, at=alarm.change_at, until=until)


def course(engine: LedgerEngine, key: SegmentKey, alarm: Alarm, *, until: datetime) -> tuple[Course, ...]:
    """The rate around a change, in a dozen steps before it and at most a dozen since.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    changed = alarm.change_at.replace(second=0, microsecond=0)
    minutes = math.ceil(max(until - changed, _MINUTE) / _MINUTE / STEPS)
    step = min(timedelta(minutes=minutes), LONGEST_STEP)
    return rate_course(engine, key, since=changed - STEPS * step, until=changed + STEPS * step, step=step)
