"""Whether a stronger judge confirms a rise: samples drawn, waited for, and concluded from once."""

import logging
from collections.abc import Callable
from datetime import datetime, timedelta

from monitor.domain.alert import Alert
from monitor.domain.confirmation import Confirmation, ConfirmationState
from monitor.drift.confirmation import Agreement, confirm
from monitor.drift.corrected import Share
from monitor.services.explaining import change_of
from monitor.storage.confirmations import Sampled, conclude, pending_confirmations, read_samples, request_samples
from monitor.storage.engine import LedgerEngine
from monitor.storage.slices import count_slices

logger = logging.getLogger(__name__)


class Confirming:
    """Works on all alerts whose confirmation is pending. Two of them on one ledger are safe.

    Args:
        engine: of the ledger.
        per_side: answers to ask about from before a change, and as many from after it, at most.
        within: after so long a conclusion is drawn from what has been heard.
        clock: the time now, aware.
    """

    def __init__(
        self, engine: LedgerEngine, *, per_side: int, within: timedelta, clock: Callable[[], datetime]
    ) -> None:
        self._engine = engine
        self._per_side = per_side
        self._within = within
        self._clock = clock

    def step(self) -> list[Alert]:
        """Draw what is to be drawn, conclude what can be concluded; the alerts that were.

        Raises:
            LedgerUnavailable: some may be drawn or concluded, and are durable; step again.
        """
        done = (self._work(alert) for alert in pending_confirmations(self._engine))
        return [alert for alert in done if alert is not None]

    def _work(self, alert: Alert) -> Alert | None:
        change = change_of(alert)
        request_samples(self._engine, alert.alert_id, change, per_side=self._per_side)
        before, after = read_samples(self._engine, alert.alert_id)
        if before.open + after.open and self._clock() < alert.raised_at + self._within:
            return None
        counted = count_slices(self._engine, change).of(alert.part)
        said = confirm(
            _agreement(before, Share(hits=counted.hallucinated_before, n=counted.before)),
            _agreement(after, Share(hits=counted.hallucinated_after, n=counted.after)),
        )
        logger.warning("an alert is %s", said.state.value, extra={"alert": alert.alert_id, "heard": said.heard})
        return conclude(self._engine, alert.alert_id, said, at=self._clock(), note=in_words(said))


def _agreement(sampled: Sampled, flagged: Share) -> Agreement:
    return Agreement(flagged=flagged, agreed=sampled.agreed, sampled=sampled.asked)


def in_words(said: Confirmation) -> str:
    """What a stronger judge says of a rise, in a sentence."""
    if said.state is ConfirmationState.PENDING:
        return "the pool has not been heard yet"
    if said.state is ConfirmationState.INCONCLUSIVE:
        return f"inconclusive: the pool was heard about {said.heard} of {said.asked} answers only"
    rates = " → ".join("?" if rate is None else f"{rate.value:.1%}" for rate in (said.before, said.after))
    if said.state is ConfirmationState.CONFIRMED:
        return f"confirmed: what the pool calls hallucinated, too, rose {rates}"
    return f"not confirmed: the edge judge drifted; what the pool calls hallucinated, too, went {rates}"
