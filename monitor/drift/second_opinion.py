"""ADWIN's word beside ours: shown to whoever looks into an alert, and never paging.

Bifet and Gavalda: "Learning from Time-Changing Data with Adaptive Windowing" (SDM 2007), as river implements it, with
its defaults. It makes no promise about the run length to a false alarm and needs two to three times as many verdicts.
"""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any


def changes(batches: Iterable[tuple[datetime, int, float]]) -> Iterator[datetime]:
    """Event times of the batches at which ADWIN sees that the rate changed.

    Args:
        batches: event time, verdicts, and the sum of them, in event-time order. Within a batch the hallucinated
            verdicts are spread evenly: their order is not known, and the same batches must give the same answer.
    """
    from river.drift import ADWIN  # noqa: PLC0415 - takes seconds to load, and most commands do without

    adwin: Any = ADWIN()  # type: ignore[no-untyped-call]  # river has no types for it
    for event_time, total, hallucinated in batches:
        seen = False
        for verdict in _spread(total, hallucinated):
            adwin.update(verdict)
            seen = seen or adwin.drift_detected
        if seen:
            yield event_time


def _spread(total: int, hallucinated: float) -> Iterator[float]:
    if total == 1:
        yield hallucinated
        return
    whole = round(hallucinated)
    for place in range(total):
        yield float((place + 1) * whole // total - place * whole // total)
