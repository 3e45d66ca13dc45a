"""What becomes of an alert, event by event; and over thousands of lives drawn at random, what never happens."""

import random
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from monitor.domain.alert import AlertState, Notification, Severity
from monitor.domain.lifecycle import (
    Change,
    LifeCycle,
    Rise,
    Standing,
    Told,
    is_owed,
    moved,
    opened,
    reopened,
    rise_of,
    severity_of,
    tended,
    worsened,
)

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
RULES = LifeCycle(pending=60, flap_window=3600, flap_reopenings=2, renotify=7200, critical_ratio=2)
EVERYONE = Told(record=True, subscriptions=True)
NOBODY = Told()
PENDING, FIRING, ACKNOWLEDGED, RESOLVED = AlertState


def after(**ago: float) -> datetime:
    return NOON + timedelta(**ago)


def standing(
    state: AlertState, *, heard: AlertState | None = None, reopened: int = 0, damped: bool = False
) -> Standing:
    return Standing(state=state, since=NOON, heard=heard, told_at=NOON, reopened=reopened, damped=damped)


@pytest.mark.parametrize(("rate", "severity"), [(0.19, Severity.WARNING), (0.2, Severity.CRITICAL)])
def test_a_rise_is_critical_from_the_ratio_on(rate: float, severity: Severity) -> None:
    assert severity_of(0.1, rate, RULES) is severity


@pytest.mark.parametrize(
    ("last", "resolved_at", "rise"),
    [
        (None, None, Rise.OPENS),
        (PENDING, None, Rise.CONTINUES),
        (FIRING, None, Rise.CONTINUES),
        (ACKNOWLEDGED, None, Rise.CONTINUES),
        (RESOLVED, after(hours=-1), Rise.REOPENS),
        (RESOLVED, after(minutes=5), Rise.REOPENS),
        (RESOLVED, after(hours=-1, seconds=-1), Rise.OPENS),
        (RESOLVED, after(days=300), Rise.OPENS),
        (RESOLVED, None, Rise.OPENS),
    ],
)
def test_an_alarm_opens_reopens_or_continues(last: AlertState | None, resolved_at: datetime | None, rise: Rise) -> None:
    assert rise_of(last, resolved_at, NOON, RULES) is rise


def test_a_pending_alert_fires_after_its_time() -> None:
    waiting = opened(NOON)
    assert tended(waiting, now=after(seconds=59), silenced=False, rules=RULES) is None
    change = tended(waiting, now=after(seconds=60), silenced=False, rules=RULES)
    assert change is not None
    assert (change.before, change.told) == (PENDING, EVERYONE)
    assert change.standing == Standing(state=FIRING, since=after(seconds=60), heard=FIRING, told_at=after(seconds=60))


def test_a_pending_alert_that_resolves_was_never_there() -> None:
    change = moved(opened(NOON), RESOLVED, now=NOON, silenced=False)
    assert change is not None
    assert change.told == NOBODY
    assert tended(change.standing, now=after(days=9), silenced=False, rules=RULES) is None


@pytest.mark.parametrize("to", [FIRING, ACKNOWLEDGED, RESOLVED])
def test_only_a_rise_leads_out_of_resolved(to: AlertState) -> None:
    assert moved(standing(RESOLVED), to, now=NOON, silenced=False) is None


def test_a_reopened_alert_is_damped_when_it_was_reopened_too_often() -> None:
    second = reopened(standing(RESOLVED, heard=RESOLVED, reopened=1), now=NOON, silenced=False, rules=RULES)
    assert (second.told, second.standing.damped) == (EVERYONE, False)
    third = reopened(standing(RESOLVED, heard=RESOLVED, reopened=2), now=NOON, silenced=False, rules=RULES)
    assert (third.told, third.standing.damped, third.standing.heard) == (NOBODY, True, RESOLVED)
    assert tended(third.standing, now=after(minutes=59), silenced=False, rules=RULES) is None
    calm = tended(third.standing, now=after(minutes=60), silenced=False, rules=RULES)
    assert calm is not None
    assert (calm.told, calm.standing.damped, calm.standing.heard) == (EVERYONE, False, FIRING)


def test_after_flapping_subscriptions_are_not_told_what_they_know() -> None:
    ended = standing(RESOLVED, heard=RESOLVED, reopened=3, damped=True)
    calm = tended(ended, now=after(hours=1), silenced=False, rules=RULES)
    assert calm is not None
    assert calm.told == Told(record=True)


def test_a_silence_keeps_from_subscriptions_what_they_are_told_at_its_end() -> None:
    fired = moved(opened(NOON), FIRING, now=NOON, silenced=True)
    assert fired is not None
    assert (fired.told, fired.standing.heard) == (Told(record=True), None)
    assert tended(fired.standing, now=after(days=1), silenced=True, rules=RULES) is None
    told = tended(fired.standing, now=after(hours=1), silenced=False, rules=RULES)
    assert told is not None
    assert told.told == Told(subscriptions=True)
    assert tended(told.standing, now=after(hours=1), silenced=False, rules=RULES) is None


@pytest.mark.parametrize(
    ("state", "heard", "owed"),
    [
        (FIRING, None, True),
        (FIRING, RESOLVED, True),
        (FIRING, FIRING, False),
        (ACKNOWLEDGED, None, False),
        (ACKNOWLEDGED, FIRING, True),
        (RESOLVED, None, False),
        (RESOLVED, FIRING, True),
        (RESOLVED, ACKNOWLEDGED, True),
        (RESOLVED, RESOLVED, False),
    ],
)
def test_owed_is_what_leaves_no_one_with_a_wrong_belief(
    *, state: AlertState, heard: AlertState | None, owed: bool
) -> None:
    assert is_owed(standing(state, heard=heard)) is owed


def test_what_fires_unanswered_is_told_again_and_again() -> None:
    firing = standing(FIRING, heard=FIRING)
    assert tended(firing, now=after(minutes=119), silenced=False, rules=RULES) is None
    assert tended(firing, now=after(minutes=120), silenced=True, rules=RULES) is None
    change = tended(firing, now=after(minutes=120), silenced=False, rules=RULES)
    assert change is not None
    assert change.told == replace(EVERYONE, notification=Notification.REMINDER)
    assert tended(change.standing, now=after(minutes=239), silenced=False, rules=RULES) is None
    never = replace(RULES, renotify=0)
    assert tended(firing, now=after(days=99), silenced=False, rules=never) is None
    assert tended(standing(ACKNOWLEDGED, heard=ACKNOWLEDGED), now=after(days=9), silenced=False, rules=RULES) is None


def test_an_alert_that_became_critical_is_told_at_once_or_as_soon_as_it_may_be() -> None:
    firing = standing(FIRING, heard=FIRING)
    assert worsened(firing, now=after(minutes=1), silenced=False).told == EVERYONE
    kept = worsened(firing, now=after(minutes=1), silenced=True)
    assert kept.told == Told(record=True)
    owed = tended(kept.standing, now=after(minutes=2), silenced=False, rules=RULES)
    assert owed is not None
    assert (owed.told, owed.standing.worse) == (Told(subscriptions=True), False)
    assert worsened(standing(PENDING), now=NOON, silenced=False).told == NOBODY


@pytest.mark.parametrize("state", [FIRING, ACKNOWLEDGED])
@pytest.mark.parametrize("renotify", [0.0, RULES.renotify])
def test_what_became_critical_in_silence_is_told_once_after_it(state: AlertState, renotify: float) -> None:
    rules = replace(RULES, renotify=renotify)
    kept = worsened(standing(state, heard=state), now=after(minutes=1), silenced=True).standing
    assert tended(kept, now=after(minutes=2), silenced=True, rules=rules) is None
    told = tended(kept, now=after(minutes=3), silenced=False, rules=rules)
    assert told is not None
    assert told.told == Told(subscriptions=True)
    assert tended(told.standing, now=after(minutes=4), silenced=False, rules=rules) is None


@dataclass
class Life:
    """One alert under events, and what its listeners were told."""

    now: datetime = NOON
    silenced: bool = False
    stand: Standing = field(default_factory=lambda: opened(NOON))
    sent: list[tuple[datetime, AlertState, Notification]] = field(default_factory=list)
    recorded: int = 0

    def take(self, change: Change | None) -> None:
        if change is None:
            return
        assert change.before is self.stand.state
        if change.before is RESOLVED and change.standing.state is not RESOLVED:
            assert change.standing.reopened == self.stand.reopened + 1
        flapping = self.stand.damped and change.standing.damped
        self.stand = change.standing
        self.recorded += change.told.record
        if change.told.subscriptions:
            assert not self.silenced
            assert not flapping
            assert self.stand.state is not PENDING
            self.sent.append((self.now, self.stand.state, change.told.notification))

    def tend(self) -> None:
        self.take(tended(self.stand, now=self.now, silenced=self.silenced, rules=RULES))

    def happen(self, rng: random.Random) -> None:
        self.now += timedelta(minutes=rng.choice((0, 1, 20, 70, 200)))
        event = rng.choice(("recover", "rise", "acknowledge", "resolve", "silence", "tend", "tend"))
        if event == "silence":
            self.silenced = not self.silenced
        elif event == "tend":
            self.tend()
        elif event != "rise":
            to = ACKNOWLEDGED if event == "acknowledge" else RESOLVED
            self.take(moved(self.stand, to, now=self.now, silenced=self.silenced))
        elif self.stand.state is RESOLVED:
            self.take(reopened(self.stand, now=self.now, silenced=self.silenced, rules=RULES))


@pytest.mark.parametrize("seed", range(300))
def test_in_the_end_subscriptions_believe_what_is_so(seed: int) -> None:
    rng = random.Random(seed)
    life = Life()
    for _ in range(rng.randrange(1, 60)):
        life.happen(rng)
    life.silenced = False
    for _ in range(4):
        life.now += timedelta(seconds=RULES.flap_window)
        life.tend()
    assert not is_owed(life.stand)
    assert not life.stand.damped
    assert life.stand.state is not PENDING
    states = [state for _, state, _ in life.sent]
    assert not states or states[0] is not RESOLVED
    if life.stand.state is FIRING:
        assert states[-1] is FIRING
    if life.stand.state is RESOLVED and states:
        assert states[-1] is RESOLVED
    for (earlier, *_), (later, state, notification) in zip(life.sent, life.sent[1:], strict=False):
        if notification is Notification.REMINDER:
            assert state is FIRING
            assert later - earlier >= timedelta(seconds=RULES.renotify)
