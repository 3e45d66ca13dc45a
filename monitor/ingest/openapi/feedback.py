"""What `POST /v1/feedback` takes and answers."""

from functools import cache

from monitor.ingest.openapi import items
from monitor.ingest.openapi.parts import Description

_FEEDBACK = items.Items(
    path="/v1/feedback",
    operation="sendFeedback",
    summary="Tell what became of answers",
    one="one piece of feedback",
    many="feedback",
    id_field="feedback_id",
    contract="feedback.v1.json",
    component="Feedback",
    receipt="FeedbackReceipt",
    otherwise={"feedback_id": "it gets a random one", "time": "it gets the time of its receipt"},
    example={"feedback_id": "fb-1", "trace_id": "req-4711", "thumb": "down", "corrected_answer": "At ten."},
    receipt_extras={},
)


@cache
def description() -> Description:
    """The route."""
    return items.description(_FEEDBACK)
