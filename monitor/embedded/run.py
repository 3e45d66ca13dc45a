"""One run of the demo: send the sample, watch the ledger until it has settled, gather what it says."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from monitor.domain.errors import LedgerUnavailable
from monitor.embedded.replay import Replay
from monitor.embedded.report import Findings, Judged, conclude
from monitor.embedded.sample import Sample
from monitor.embedded.stack import Stack
from monitor.storage.closed_minutes import closed_minutes, late_verdicts
from monitor.storage.engine import create_ledger_engine
from monitor.storage.progress import Progress, read_latency, read_outcomes, read_progress

_SETTLE_SECONDS = 90.0


class DemoRun:
    """The demo's own state; `until_settled` yields the ledger's progress while the caller shows it.

    Args:
        stack: what runs.
        sample: what to send.
        rate: traces a second.
    """

    def __init__(self, *, stack: Stack, sample: Sample, rate: float) -> None:
        self.sample = sample
        self.replay = Replay(stack.sidecar_url, [labelled.trace for labelled in sample.traces], rate=rate)
        self._stack = stack
        self._engine = create_ledger_engine(stack.settings.postgres, application_name="groundwatch-demo")
        self._lateness = timedelta(seconds=stack.settings.drift.allowed_lateness_seconds)
        self._started = time.monotonic()
        self._settled_seconds = 0.0

    @property
    def seconds(self) -> float:
        """Seconds since the run began."""
        return time.monotonic() - self._started

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send the traces from a thread of its own while the caller watches."""
        stop = threading.Event()
        sender = threading.Thread(target=self.replay.run, args=(stop,), name="replay", daemon=True)
        self._started = time.monotonic()
        sender.start()
        try:
            yield
        finally:
            stop.set()
            sender.join()
        self.replay.raise_failure()

    def until_settled(self, interval_seconds: float) -> Iterator[Progress]:
        """The ledger's progress, once an interval, until every accepted trace has its outcome and nobody has work left.

        It gives up waiting, and lets the report say so, 90 seconds after the last trace was sent.
        """
        sent_at: float | None = None
        while True:
            self._stack.check()
            finished = self.replay.finished
            progress = self._progress()
            if progress is not None:
                self._note_verdicts(progress)
                yield progress
            if finished:
                sent_at = sent_at or time.monotonic()
                if (progress and self._is_settled(progress)) or time.monotonic() - sent_at > _SETTLE_SECONDS:
                    return
            time.sleep(interval_seconds)

    def conclude(self) -> dict[str, Any]:
        """What the run has shown; see `report.conclude`."""
        outcomes = read_outcomes(self._engine, tenant=self.sample.traces[0].trace.tenant)
        progress = read_progress(self._engine)
        accounting = progress.accounting
        return conclude(
            self.sample,
            Findings(
                accepted=frozenset(self.replay.accepted),
                judged=[
                    Judged(trace_id=trace_id, hallucinated=label == "hallucinated", probability=probability)
                    for trace_id, label, probability in outcomes
                    if label is not None and probability is not None
                ],
                unjudged=frozenset(trace_id for trace_id, label, _ in outcomes if label is None),
                accounting={
                    "verdicts": accounting.verdicts,
                    "unjudged": accounting.unjudged,
                    "dead_letters": accounting.dead_letters,
                    "duplicates": accounting.duplicates,
                    "in_flight": accounting.in_flight,
                    "lost": accounting.lost,
                },
                alerts=progress.alerts,
                late_verdicts=sum(late_verdicts(self._engine).values()),
                latency={
                    tier: {"p50": round(seen.p50, 4), "p95": round(seen.p95, 4), "judgements": seen.judgements}
                    for tier, seen in read_latency(self._engine).items()
                },
                seconds=self._settled_seconds or self.seconds,
            ),
        )

    def _progress(self) -> Progress | None:
        try:
            return read_progress(self._engine)
        except LedgerUnavailable:
            return None

    def _is_settled(self, progress: Progress) -> bool:
        ended = self._accounted(progress) >= len(self.replay.accepted) and progress.pool_waiting == 0
        return ended and self._is_folded()

    def _is_folded(self) -> bool:
        try:
            return not closed_minutes(self._engine, lateness=self._lateness)
        except LedgerUnavailable:
            return False

    def _note_verdicts(self, progress: Progress) -> None:
        complete = self.replay.finished and self._accounted(progress) >= len(self.replay.accepted)
        if complete and not self._settled_seconds:
            self._settled_seconds = self.seconds

    @staticmethod
    def _accounted(progress: Progress) -> int:
        counted = progress.accounting
        return counted.verdicts + counted.unjudged + counted.dead_letters + counted.duplicates
