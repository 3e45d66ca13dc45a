"""Feedback made to measure: the smallest that is taken, each of its parts open to change."""

from typing import Any

from monitor.domain.feedback import Feedback, FeedbackSource
from tests.examples.assessments import NOON


def feedback(feedback_id: str, **said: Any) -> Feedback:
    """Of tenant city at noon, by an end user."""
    fields = {"tenant": "city", "time": NOON, "source": FeedbackSource.END_USER, **said}
    return Feedback(feedback_id=feedback_id, **fields)
