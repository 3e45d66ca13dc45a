"""The drift worker's work: closed minutes in, detector states, alerts and their deliveries out, all or nothing.

Each segment under each judge version has a detector of its own, and so have its slices. What they folded, what they
now remember and what they raised are kept in one transaction, so a crash at any moment repeats the fold with the same
outcome: detectors are deterministic, and an alert's id follows from what raised it.
"""

import hashlib
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from monitor.alerts.rules import life_cycle
from monitor.config import AlertSettings, DriftSettings
from monitor.domain.alert import Alarm, Alert, AlertState, Direction
from monitor.domain.confirmation import Confirmation
from monitor.domain.errors import LedgerUnavailable
from monitor.domain.explanation import Explanation
from monitor.domain.lifecycle import severity_of
from monitor.domain.trace import Slice
from monitor.drift.detector import RateDetector
from monitor.drift.rhythm import SURELY
from monitor.drift.seasons import Seasons
from monitor.services.backlog import Backlog
from monitor.services.confirming import Confirming
from monitor.services.explaining import Explaining, explain
from monitor.services.run_lengths import RunLengths
from monitor.services.slice_watch import Plan, SliceDetectors
from monitor.services.stopping import Stop
from monitor.storage.accounting import accounting
from monitor.storage.closed_minutes import ClosedMinute, closed_minutes, late_verdicts
from monitor.storage.drift_store import DetectorState, SliceChanges, load_slice_states, load_states, save_fold
from monitor.storage.engine import LedgerEngine
from monitor.storage.segment_keys import SegmentKey
from monitor.telemetry.setup import Telemetry

logger = logging.getLogger(__name__)

_STEPS_PER_LATE_COUNT = 12


@dataclass(frozen=True, kw_only=True, slots=True)
class Watched:
    """What one step came to; `conflicts` are segments that another process folded meanwhile."""

    minutes: int = 0
    verdicts: int = 0
    alerts: tuple[Alert, ...] = ()
    conflicts: int = 0


class DriftWatch:
    """Folds closed minutes into detectors. Two of them on one ledger are safe, and one waits for nothing.

    Args:
        engine: of the ledger.
        settings: run length, baseline, lateness, pace.
        telemetry: told of alerts once they are durable.
        alerts: the life cycle of the alerts that are raised.
        clock: the time now, aware: it dates alerts, and says when to wait for the pool no longer.
        pool: whether there is one, to confirm alerts.
    """

    def __init__(
        self,
        engine: LedgerEngine,
        settings: DriftSettings,
        telemetry: Telemetry,
        *,
        alerts: AlertSettings,
        clock: Callable[[], datetime],
        pool: bool = False,
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._telemetry = telemetry
        self._rules = life_cycle(settings, alerts)
        self._clock = clock
        self._plan = Plan(
            average_run_length=settings.average_run_length,
            baseline_verdicts=settings.baseline_verdicts,
            seasons=settings.seasons,
        )
        self._most_slices = settings.watched_slices
        dimensions = len(settings.dimensions) if settings.watched_slices else 0
        self._run_lengths = RunLengths(engine, budget=settings.average_run_length, dimensions=dimensions)
        self._backlog = Backlog(patience=timedelta(seconds=settings.backlog_patience_seconds))
        self._explaining = Explaining(engine, clock=clock)
        self._confirming: Confirming | None = None
        if pool and settings.confirm_with:
            within = timedelta(seconds=settings.confirm_within_seconds)
            self._confirming = Confirming(engine, per_side=settings.confirm_with, within=within, clock=clock)
        self._states: dict[SegmentKey, DetectorState] | None = None
        self._slices: dict[SegmentKey, dict[Slice, DetectorState]] = {}
        self._late: dict[SegmentKey, int] | None = None
        self._rhythmic: set[SegmentKey] = set()
        self._steps = 0

    def run(self, stop: Stop) -> None:
        """Step until told to stop. While Postgres is away it waits: nothing is lost by being late."""
        while not stop.is_set():
            try:
                self.step()
            except LedgerUnavailable as error:
                logger.warning("the ledger is away, drift detection waits", extra={"error": str(error)})
            stop.wait(self._settings.poll_seconds)

    def step(self) -> Watched:
        """Fold all minutes that are closed now.

        Raises:
            LedgerUnavailable: some segments may be folded and durable, the others are not; step again.
        """
        lateness = timedelta(seconds=self._settings.allowed_lateness_seconds)
        folded = Watched()
        while minutes := closed_minutes(self._engine, lateness=lateness, waited_for=self._backlog.waited_for):
            round_ = self._fold_all(minutes)
            folded = Watched(
                minutes=folded.minutes + round_.minutes,
                verdicts=folded.verdicts + round_.verdicts,
                alerts=folded.alerts + round_.alerts,
                conflicts=folded.conflicts + round_.conflicts,
            )
            if not round_.minutes:
                break
        # Told from here because this worker reads the ledger at a steady pace, traffic or none.
        self._telemetry.instruments.accounting(accounting(self._engine).as_json())
        learned = self._explaining.step()
        learned += self._confirming.step() if self._confirming else []
        for alert in learned:
            self._telemetry.alerts.emit(alert, at=self._clock())
        if self._steps % _STEPS_PER_LATE_COUNT == 0:
            self._count_late()
        self._steps += 1
        return folded

    def _fold_all(self, waiting: dict[SegmentKey, tuple[ClosedMinute, ...]]) -> Watched:
        if self._states is None:
            self._states = load_states(self._engine)
            self._slices = load_slice_states(self._engine)
        done: list[ClosedMinute] = []
        alerts: list[Alert] = []
        conflicts = 0
        for key, minutes in waiting.items():
            raised = self._fold(key, minutes, self._states)
            if raised is None:
                conflicts += 1
                continue
            done += minutes
            alerts += raised
        if conflicts:
            # Another process works on this ledger: what it saved is what to go on from.
            self._states = None
        return Watched(
            minutes=len(done),
            verdicts=sum(minute.total for minute in done),
            alerts=tuple(alerts),
            conflicts=conflicts,
        )

    def _fold(
        self, key: SegmentKey, minutes: Sequence[ClosedMinute], states: dict[SegmentKey, DetectorState]
    ) -> list[Alert] | None:
        kept = states.get(key)
        # Fresh copies each time: when saving fails, what is remembered here is still what the ledger has.
        detector = self._detector(key, kept)
        slices = SliceDetectors(self._plan, most=self._most_slices, kept=self._slices.get(key, {}))
        alarms: list[tuple[Slice | None, Alarm]] = []
        alerts: list[Alert] = []
        for minute in minutes:
            run_length = self._run_lengths.at(minute.minute)
            detector.average_run_length = run_length.segment
            alarm = detector.fold(minute.minute, minute.total, minute.hallucinated)
            raised: list[tuple[Slice | None, Alarm]] = [(None, alarm)] if alarm else []
            raised += slices.fold(minute, run_length=run_length.slice)
            for part, alarm in raised:
                # A rate that fell below its baseline is good news, which nobody is woken for.
                if alarm.direction is Direction.RISE or alarm.recovers:
                    alerts.append(self._alert(key, part, alarm, run_length.slice if part else run_length.segment))
            alarms += raised
        state = detector.state()
        previous = kept.folded_through if kept else None
        changes = SliceChanges(kept=slices.changed, forgotten=slices.dropped)
        changed = save_fold(
            self._engine,
            key,
            minutes=minutes,
            state=state,
            previous=previous,
            rules=self._rules,
            alerts=alerts,
            slices=changes,
        )
        if changed is None:
            return None
        self._count_raised(alerts, changed)
        states[key] = DetectorState(state=state, folded_through=minutes[-1].minute)
        self._remember_slices(key, changes)
        self._tell(key, detector, alarms, changed)
        return changed

    def _remember_slices(self, key: SegmentKey, changes: SliceChanges) -> None:
        known = self._slices.setdefault(key, {})
        for part in changes.forgotten:
            known.pop(part, None)
        known.update(changes.kept)

    def _detector(self, key: SegmentKey, kept: DetectorState | None) -> RateDetector:
        if kept is None:
            return self._plan.fresh()
        detector = self._plan.resumed(kept.state)
        if detector is None:
            extra = {"segment": str(key.segment)}
            logger.warning("another release or other drift settings: a new baseline is learned", extra=extra)
            return self._plan.fresh()
        return detector

    def _alert(self, key: SegmentKey, part: Slice | None, alarm: Alarm, run_length: float) -> Alert:
        parts = (part.dimension, part.value) if part else ()
        raised_by = "\x1f".join((*key.columns().values(), *parts, alarm.event_time.isoformat()))
        return Alert(
            alert_id=hashlib.sha256(raised_by.encode()).hexdigest()[:24],
            segment=key.segment,
            evaluator=key.evaluator,
            judge_version=key.judge_version,
            part=part,
            alarm=alarm,
            state=AlertState.PENDING if self._rules.pending else AlertState.FIRING,
            raised_at=self._clock(),
            average_run_length=run_length,
            severity=severity_of(alarm.rate_before, alarm.rate_after, self._rules),
            explanation=Explanation() if alarm.recovers else self._explanation(key, part, alarm),
            confirmation=None if alarm.recovers or self._confirming is None else Confirmation(),
        )

    def _explanation(self, key: SegmentKey, part: Slice | None, alarm: Alarm) -> Explanation:
        try:
            return explain(self._engine, key, alarm, part=part)
        except LedgerUnavailable as error:
            # An alert that waits for its reasons is late. They are looked for again.
            logger.warning("an alert is raised unexplained", extra={"segment": str(key.segment), "error": str(error)})
            return Explanation()

    def _count_raised(self, alarmed: Sequence[Alert], changed: Sequence[Alert]) -> None:
        # Alarms that belong to an older alert, and recoveries, changed that one: their own ids came to nothing.
        ids = {alert.alert_id for alert in changed}
        for alert in alarmed:
            if alert.alert_id in ids:
                self._telemetry.instruments.alert_raised(alert)

    def _tell(
        self,
        key: SegmentKey,
        detector: RateDetector,
        alarms: Sequence[tuple[Slice | None, Alarm]],
        changed: Sequence[Alert],
    ) -> None:
        instruments = self._telemetry.instruments
        self._tell_rhythm(key, detector)
        if detector.evidence is not None:
            threshold = math.log(detector.average_run_length)
            instruments.evidence(key.segment, detector.evidence, threshold=threshold)
        for part, alarm in alarms:
            of = {"segment": str(key.segment), **({"slice": str(part)} if part else {})}
            logger.warning(
                "hallucination rate rose" if alarm.direction is Direction.RISE else "hallucination rate fell",
                extra={**of, "before": alarm.rate_before, "after": alarm.rate_after},
            )
        for alert in changed:
            self._telemetry.alerts.emit(alert, at=self._clock())

    def _tell_rhythm(self, key: SegmentKey, detector: RateDetector) -> None:
        rhythm = detector.rhythm
        differs = detector.seasons is Seasons.NONE and rhythm is not None and rhythm.p_value < SURELY
        if differs and rhythm is not None and key not in self._rhythmic:
            logger.warning(
                "the baseline's hours of the day differ: set drift.seasons, or expect an alarm at each high tide",
                extra={"segment": str(key.segment), "lowest": rhythm.lowest, "highest": rhythm.highest},
            )
        (self._rhythmic.add if differs else self._rhythmic.discard)(key)

    def _count_late(self) -> None:
        counted = late_verdicts(self._engine)
        # What was late before this process began was counted by the one before it.
        if self._late is not None:
            for key, count in counted.items():
                if (more := count - self._late.get(key, 0)) > 0:
                    self._telemetry.instruments.late_verdicts(key.segment, more)
        self._late = counted
