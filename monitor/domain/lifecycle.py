"""How an alert lives: what each event makes of it, and who is told. Pure: times are given, nothing is sent here.

    pending → firing → acknowledged → resolved, and from resolved back to firing when the rate rises again soon.

Two kinds of listeners: the *record* (the topic) hears whatever was made public, the *subscriptions* only what no
silence withholds. `heard` is what the subscriptions were told last, so that what a silence kept from them can be made
good when it ends.
"""

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Self

from monitor.domain.alert import AlertState, Notification, Severity
from monitor.domain.trace import hold_utc


@dataclass(frozen=True, kw_only=True, slots=True)
class LifeCycle:
    """The rules that an installation may choose, in seconds.

    Attributes:
        pending: how long an alert waits before it fires.
        flap_window: an alarm this soon after the alert was resolved reopens it; a damped alert is told of after as
            long a time in one state.
        flap_reopenings: reopened more often than this, an alert is damped.
        renotify: between reminders; 0 for none.
        critical_ratio: from this many times the rate before on, an alert is critical.
    """

    pending: float
    flap_window: float
    flap_reopenings: int
    renotify: float
    critical_ratio: float


@dataclass(frozen=True, kw_only=True, slots=True)
class Standing:
    """Where one alert stands.

    Attributes:
        since: when it came to its state.
        heard: the state that subscriptions were told last; None when they were told of none.
        told_at: when they were told.
        damped: whether it flaps: what happens to it is kept, and not told.
        worse: whether it became critical since subscriptions were told.
    """

    state: AlertState
    since: datetime
    heard: AlertState | None
    told_at: datetime
    reopened: int = 0
    damped: bool = False
    worse: bool = False

    def __post_init__(self) -> None:
        hold_utc(self, "since", "told_at")


@dataclass(frozen=True, kw_only=True, slots=True)
class Told:
    """Who hears of a change, and why. `supersedes`: what still waits to tell of the same state need not be told."""

    record: bool = False
    subscriptions: bool = False
    notification: Notification = Notification.STATE
    supersedes: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Change:
    """What an event made of an alert. `before` is the state that it was in; `standing` says how it stands now."""

    before: AlertState
    standing: Standing
    told: Told

    @classmethod
    def none(cls, standing: Standing) -> Self:
        """Nothing changes, and nobody is told."""
        return cls(before=standing.state, standing=standing, told=Told())


class Rise(StrEnum):
    """What an alarm does."""

    OPENS = "opens"
    REOPENS = "reopens"
    CONTINUES = "continues"


def severity_of(rate_before: float, rate_after: float, rules: LifeCycle) -> Severity:
    """How bad a rise is."""
    return Severity.CRITICAL if rate_after >= rules.critical_ratio * rate_before else Severity.WARNING


def rise_of(last: AlertState | None, resolved_at: datetime | None, alarm_at: datetime, rules: LifeCycle) -> Rise:
    """What an alarm does, given the last alert of the same segment, evaluator and judge version.

    Args:
        last: that alert's state; None when there was none.
        resolved_at: the event time at which its rate was back. Event times decide, so that a replay, in which a
            day passes in seconds, comes to the same alerts. One resolved by hand is dated by the clock, which may
            be past the events that come: soon is near it on either side.
        alarm_at: the alarm's event time.
        rules: of this installation.
    """
    if last is None:
        return Rise.OPENS
    if last is not AlertState.RESOLVED:
        return Rise.CONTINUES
    soon = resolved_at is not None and abs(alarm_at - resolved_at) <= timedelta(seconds=rules.flap_window)
    return Rise.REOPENS if soon else Rise.OPENS


def opened(now: datetime) -> Standing:
    """An alert as an alarm opens it: nobody knows of it yet."""
    return Standing(state=AlertState.PENDING, since=now, heard=None, told_at=now)


def moved(standing: Standing, to: AlertState, *, now: datetime, silenced: bool) -> Change | None:
    """Bring an alert to another state; None where it is there already, or was resolved.

    Only `reopened` leads out of resolved.
    """
    if standing.state in {to, AlertState.RESOLVED}:
        return None
    unknown = standing.state is AlertState.PENDING and to is AlertState.RESOLVED
    return _changed(standing, replace(standing, state=to, since=now), now=now, silenced=silenced, quiet=unknown)


def reopened(standing: Standing, *, now: datetime, silenced: bool, rules: LifeCycle) -> Change:
    """Let a resolved alert fire again; damped from the time on that it was reopened too often."""
    count = standing.reopened + 1
    after = replace(
        standing,
        state=AlertState.FIRING,
        since=now,
        reopened=count,
        damped=standing.damped or count > rules.flap_reopenings,
    )
    return _changed(standing, after, now=now, silenced=silenced)


def worsened(standing: Standing, *, now: datetime, silenced: bool) -> Change:
    """An open alert that became critical: told again, as state, because others may listen for that.

    Where nobody may be told now, it is owed until someone may.
    """
    after = replace(standing, worse=True)
    return _changed(standing, after, now=now, silenced=silenced, quiet=standing.state is AlertState.PENDING)


def learned(standing: Standing, *, now: datetime, silenced: bool) -> Change:
    """More is known of an alert than when it was told: told again, as state, to those who may be told now."""
    change = _changed(standing, standing, now=now, silenced=silenced, quiet=standing.state is AlertState.PENDING)
    return replace(change, told=replace(change.told, supersedes=True))


def tended(standing: Standing, *, now: datetime, silenced: bool, rules: LifeCycle) -> Change | None:
    """What has fallen due by `now`: firing, the end of flapping, what a silence withheld, a reminder."""
    calm = (now - standing.since).total_seconds()
    if standing.state is AlertState.PENDING:
        return moved(standing, AlertState.FIRING, now=now, silenced=silenced) if calm >= rules.pending else None
    if standing.damped:
        return _calmed(standing, now=now, silenced=silenced) if calm >= rules.flap_window else None
    if silenced:
        return None
    if is_owed(standing):
        told = Told(subscriptions=True)
    elif _needs_reminding(standing, now, rules):
        told = Told(record=True, subscriptions=True, notification=Notification.REMINDER)
    else:
        return None
    return Change(before=standing.state, standing=_after_telling(standing, told, now), told=told)


def _calmed(standing: Standing, *, now: datetime, silenced: bool) -> Change:
    after = replace(standing, damped=False)
    told = Told(record=True, subscriptions=not silenced and is_owed(after))
    return Change(before=standing.state, standing=_after_telling(after, told, now), told=told)


def is_owed(standing: Standing) -> bool:
    """Whether subscriptions believe something else: that it does not fire, that it still does, or is no worse."""
    if standing.state is AlertState.FIRING:
        return standing.heard is not AlertState.FIRING or standing.worse
    if standing.heard not in {AlertState.FIRING, AlertState.ACKNOWLEDGED}:
        return False
    return standing.heard is not standing.state or (standing.worse and standing.state is AlertState.ACKNOWLEDGED)


def _needs_reminding(standing: Standing, now: datetime, rules: LifeCycle) -> bool:
    unanswered = standing.state is AlertState.FIRING and rules.renotify > 0
    return unanswered and now - standing.told_at >= timedelta(seconds=rules.renotify)


def _changed(before: Standing, after: Standing, *, now: datetime, silenced: bool, quiet: bool = False) -> Change:
    public = not (quiet or after.damped)
    # An end is news only to those who know of a beginning.
    ends_nothing = after.state is AlertState.RESOLVED and after.heard in {None, AlertState.RESOLVED}
    told = Told(record=public, subscriptions=public and not silenced and not ends_nothing)
    return Change(before=before.state, standing=_after_telling(after, told, now), told=told)


def _after_telling(standing: Standing, told: Told, now: datetime) -> Standing:
    return replace(standing, heard=standing.state, told_at=now, worse=False) if told.subscriptions else standing
