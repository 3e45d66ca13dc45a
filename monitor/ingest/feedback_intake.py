"""From a request's bytes to feedback for the spool: each accepted or rejected on its own."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from monitor.domain.errors import InvalidFeedback
from monitor.domain.feedback import Feedback
from monitor.ingest.callers import ANYBODY, Caller
from monitor.ingest.intake import Rejected, as_json, as_object, items_of, rejected
from monitor.ingest.spool_records import Entry
from monitor.wire import FeedbackV1, decode_feedback, encode_feedback

_FIELDS = frozenset(f.alias or name for name, f in FeedbackV1.model_fields.items())


@dataclass(kw_only=True, slots=True)
class TakenFeedback:
    """What a request comes to: records to spool, the ids of their feedback, what was rejected."""

    entries: list[Entry] = field(default_factory=list)
    feedback_ids: list[str] = field(default_factory=list)
    rejected: list[Rejected] = field(default_factory=list)


def take_feedback(
    body: bytes,
    *,
    lines: bool,
    max_batch: int,
    now: datetime,
    new_ids: Iterator[str],
    caller: Caller = ANYBODY,
    treat: Callable[[Feedback], Feedback] = lambda feedback: feedback,
) -> TakenFeedback:
    """Decode a body: one feedback, a list, `{"feedback": [...]}`, or one a line.

    Feedback without `time` gets `now`, without `feedback_id` the next of `new_ids`, without `tenant` the caller's.
    `treat` is applied to each before it is kept.

    Raises:
        RequestRefused: 400 not JSON, 413 more than `max_batch` of it, 422 neither feedback nor a list of it.
    """
    taken = TakenFeedback()
    for index, item in enumerate(items_of(body, lines=lines, max_batch=max_batch, one="feedback", many="feedback")):
        try:
            feedback = treat(_decode(item, now=now, new_ids=new_ids, caller=caller))
        except InvalidFeedback as error:
            taken.rejected.append(rejected(index, item, error, id_field="feedback_id", fields=_FIELDS))
        else:
            taken.entries.append(feedback_entry(feedback))
            taken.feedback_ids.append(feedback.feedback_id)
    return taken


def feedback_entry(feedback: Feedback) -> Entry:
    """Feedback as it is spooled and sent: keyed by tenant and answer, so that its partition never changes."""
    answer = feedback.trace_id or feedback.otel_trace_id
    return Entry(key=f"{feedback.tenant}|{answer}".encode(), value=encode_feedback(feedback))


def _decode(item: Any, *, now: datetime, new_ids: Iterator[str], caller: Caller) -> Feedback:
    item = as_object(item, caller=caller, one="feedback", kind=InvalidFeedback)
    if item.get("time") is None:
        item["time"] = now.isoformat()
    if item.get("feedback_id") is None:
        item["feedback_id"] = next(new_ids)
    return decode_feedback(as_json(item, InvalidFeedback), now=now)
