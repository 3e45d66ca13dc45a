"""What people read of an alert."""

from dataclasses import replace
from typing import Any

import pytest

from monitor.alerts.message import Tone, message_of
from monitor.domain.alert import AlertState, Notification, Severity
from monitor.domain.confirmation import Confirmation
from monitor.domain.trace import Segment
from monitor.wire import alert_to_json
from tests.examples.alerts import alert

FIRING = replace(alert(), severity=Severity.CRITICAL)


def said(**changes: Any) -> dict[str, Any]:
    return {**alert_to_json(FIRING), **changes}


def test_it_says_who_what_since_when_and_what_to_do() -> None:
    message = message_of(said())
    assert message.title == "[critical] city/help-desk/production makes things up more often: 10.0% to 30.0%"
    assert "since 2026-" in message.body
    assert f"groundwatch drift explain {FIRING.alert_id}" in message.body
    assert (message.tone, message.thread) == (Tone.CRITICAL, f"groundwatch-{FIRING.alert_id}")


def test_causes_and_the_stronger_judge_are_named() -> None:
    causes = [{"dimension": "prompt_version", "value": f"v{number}"} for number in range(5)]
    message = message_of(said(explanation={"causes": causes}, confirmation={"state": "not_confirmed"}))
    assert "Behind it: prompt_version=v0, prompt_version=v1, prompt_version=v2 and 2 more." in message.body
    assert "The stronger judge says: not confirmed." in message.body


def test_a_confirmation_as_it_is_sent_can_be_told() -> None:
    asked = alert_to_json(replace(FIRING, confirmation=Confirmation()))
    assert "The stronger judge says: pending." in message_of(asked).body


@pytest.mark.parametrize(
    ("changes", "title", "tone"),
    [
        ({"state": AlertState.RESOLVED}, "[resolved] city/help-desk/production is back from 30.0%", Tone.GOOD),
        ({"state": AlertState.ACKNOWLEDGED}, "[acknowledged] city/help-desk/production: 10.0% to 30.0%", Tone.INFO),
        ({"severity": "warning"}, "[warning] city/help-desk/production makes", Tone.WARNING),
        ({"notification": Notification.REMINDER}, "Still: [critical]", Tone.CRITICAL),
        ({"test": True}, "Test: [critical]", Tone.CRITICAL),
    ],
)
def test_the_title_goes_by_the_state(changes: dict[str, Any], title: str, tone: Tone) -> None:
    message = message_of(said(**changes))
    assert message.title.startswith(title)
    assert message.tone is tone


HOSTILE = [
    "<!channel> look",
    "@everyone",
    "[click](https://evil.example)",
    "<b>bold</b>&amp;",
    "a\r\nBcc: all@example.org",
    "\u202etxet\x1b[31m",
    "```*_~`",
    "https://evil.example/x",
    "www.evil.example/login",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_names_can_be_no_mention_no_link_and_no_markup(name: str) -> None:
    hostile = replace(FIRING, segment=Segment(tenant=name, service=name, environment=name))
    causes = [{"dimension": name, "value": name}]
    message = message_of({**alert_to_json(hostile), "explanation": {"causes": causes}})
    text = message.title + message.body
    for mark in ("<", ">", "@", "](", "&", "\r", "\x1b", "\u202e", "`", "*", "://", "evil.example"):
        assert mark not in text
    assert "\n" not in message.title


def test_long_names_are_cut() -> None:
    long = replace(FIRING, segment=Segment(tenant="t" * 10_000, service="s", environment="e"))
    assert len(message_of(alert_to_json(long)).title) < 300
