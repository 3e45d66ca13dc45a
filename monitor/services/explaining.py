"""Why a rate rose: the slices of the traffic that rose with it, and the answers to look at first."""

import math
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta

from monitor.domain.alert import Alarm, Alert
from monitor.domain.explanation import Explanation
from monitor.domain.trace import Slice
from monitor.drift.causes import causes, share_of_look
from monitor.storage.engine import LedgerEngine
from monitor.storage.findings import keep_explanation, unexplained
from monitor.storage.segment_keys import SegmentKey
from monitor.storage.slices import Change, Course, clearest_examples, count_slices, newest_minute, rate_course

BEFORE = timedelta(days=7)
"""How far back from the change traffic is compared with: whole weeks hold every hour equally often."""

MOST_LOOKS = 8
STEPS = 12
LONGEST_STEP = timedelta(hours=6)
_MINUTE = timedelta(minutes=1)


class Explaining:
    """Looks again at open alerts that nothing explained yet, each time that twice as many verdicts have come.

    An alarm is raised on few verdicts, which say little about slices. All looks together name a slice wrongly as often
    as one would.
    """

    def __init__(self, engine: LedgerEngine, *, clock: Callable[[], datetime]) -> None:
        self._engine = engine
        self._clock = clock

    def step(self) -> list[Alert]:
        """Look where it is time to; the alerts that are explained now.

        Raises:
            LedgerUnavailable: some may be explained, and that is durable; step again.
        """
        looked = (self._look(alert) for alert in unexplained(self._engine, looks=MOST_LOOKS))
        return [alert for alert in looked if alert is not None]

    def _look(self, alert: Alert) -> Alert | None:
        seen = alert.explanation.looks
        until = newest_minute(self._engine, key_of(alert)) or alert.alarm.event_time
        counted = count_slices(self._engine, _change(key_of(alert), alert.alarm, until)).of(alert.part)
        doublings = int(math.log2(max(counted.after / max(alert.alarm.delay_verdicts, 1), 1)))
        if doublings < seen:
            return None
        found = explain(self._engine, key_of(alert), alert.alarm, until=until, look=seen, part=alert.part)
        named = ", ".join(f"{cause.dimension} = {cause.value}" for cause in found.causes)
        text = f"explained by {named}" if named else ""
        found = replace(found, looks=doublings + 1)
        return keep_explanation(self._engine, alert, found, at=self._clock(), text=text)


def explain(
    engine: LedgerEngine,
    key: SegmentKey,
    alarm: Alarm,
    *,
    until: datetime | None = None,
    look: int = 0,
    part: Slice | None = None,
) -> Explanation:
    """What the ledger says about a rise now.

    Args:
        engine: of the ledger.
        key: whose rate rose.
        alarm: the rise.
        until: the last minute that counts; that of the alarm when absent.
        look: how often it was asked before, of the same alarm.
        part: the slice whose rate rose, where it was one's: examples are its own unless another explains more.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    change = _change(key, alarm, until or alarm.event_time)
    counted = count_slices(engine, change)
    named = tuple(causes(counted.whole, counted.slices, significant=share_of_look(look)))
    clearest = Slice(dimension=named[0].dimension, value=named[0].value) if named else part
    return Explanation(causes=named, examples=clearest_examples(engine, change, part=clearest), looks=look + 1)


def key_of(alert: Alert) -> SegmentKey:
    """What the detector watches that raised it."""
    return SegmentKey(segment=alert.segment, evaluator=alert.evaluator, judge_version=alert.judge_version)


def change_of(alert: Alert) -> Change:
    """The minutes that an alert was raised on, with those before that they are compared with."""
    return replace(_change(key_of(alert), alert.alarm, alert.alarm.event_time), part=alert.part)


def _change(key: SegmentKey, alarm: Alarm, until: datetime) -> Change:
    return Change(key=key, since=alarm.change_at - BEFORE, at=alarm.change_at, until=until)


def course(
    engine: LedgerEngine, key: SegmentKey, alarm: Alarm, *, until: datetime, part: Slice | None = None
) -> tuple[Course, ...]:
    """The rate around a change, in a dozen steps before it and at most a dozen since.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    changed = alarm.change_at.replace(second=0, microsecond=0)
    minutes = math.ceil(max(until - changed, _MINUTE) / _MINUTE / STEPS)
    step = min(timedelta(minutes=minutes), LONGEST_STEP)
    return rate_course(engine, key, since=changed - STEPS * step, until=changed + STEPS * step, step=step, part=part)
