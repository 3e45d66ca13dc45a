"""An alert in words, for people who read it in a chat, a mail or a pager."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

_UNSAFE = re.compile(r"[^\w .:=/+,%()-]")
_DOMAIN = re.compile(r"(?<=\w)\.(?=[^\W\d])")
_LONGEST_NAME = 100
_MOST_CAUSES = 3


class Tone(StrEnum):
    """What a receiver may colour it by, or page for."""

    CRITICAL = "critical"
    WARNING = "warning"
    INFO = "info"
    GOOD = "good"


@dataclass(frozen=True, kw_only=True, slots=True)
class Message:
    """What is said. `thread` is the same for all that is said of one alert, where receivers can group by it."""

    title: str
    body: str
    tone: Tone
    thread: str


def message_of(alert: Mapping[str, Any]) -> Message:
    """Say what an `alert.v1` says.

    Names in it are the tenants' own, and causes come from their traffic: whatever could be a mention, a link or markup
    to a receiver is blanked in them.
    """
    alarm, segment = alert["alarm"], alert["segment"]
    name = "/".join(_name(segment[part]) for part in ("tenant", "service", "environment"))
    if part := alert.get("part"):
        name += f" ({_name(part['dimension'])}={_name(part['value'])})"
    shown = f"{alarm['rate_before']:.1%} to {alarm['rate_after']:.1%}"
    state = str(alert["state"])
    severity = _name(alert.get("severity", "warning"))
    lead = {
        "firing": f"[{severity}] {name} makes things up more often: {shown}",
        "acknowledged": f"[acknowledged] {name}: {shown}",
        "resolved": f"[resolved] {name} is back from {alarm['rate_after']:.1%}",
    }.get(state, f"[{_name(state)}] {name}: {shown}")
    if alert.get("notification") == "reminder":
        lead = f"Still: {lead}"
    if alert.get("test"):
        lead = f"Test: {lead}"
    identity = _name(alert["alert_id"])
    return Message(
        title=lead,
        body="\n".join(_lines(alert, alarm, identity)),
        tone=_tone(state, severity),
        thread=f"groundwatch-{identity}",
    )


def _lines(alert: Mapping[str, Any], alarm: Mapping[str, Any], identity: str) -> list[str]:
    before, after, since = alarm["rate_before"], alarm["rate_after"], _time(alarm["change_at"])
    lines = [f"Hallucination rate {before:.1%} before, {after:.1%} since {since}."]
    causes = (alert.get("explanation") or {}).get("causes") or []
    if causes:
        told = ", ".join(f"{_name(cause['dimension'])}={_name(cause['value'])}" for cause in causes[:_MOST_CAUSES])
        more = len(causes) - _MOST_CAUSES
        lines.append(f"Behind it: {told}" + (f" and {more} more." if more > 0 else "."))
    confirmation = alert.get("confirmation")
    if confirmation:
        lines.append(f"The stronger judge says: {_name(confirmation['state']).replace('_', ' ')}.")
    lines.append(f"groundwatch drift explain {identity}")
    return lines


def _tone(state: str, severity: str) -> Tone:
    if state == "resolved":
        return Tone.GOOD
    if state != "firing":
        return Tone.INFO
    return Tone.CRITICAL if severity == "critical" else Tone.WARNING


def _name(value: Any) -> str:
    plain = _UNSAFE.sub(" ", str(value)[:_LONGEST_NAME]).replace("://", " ")
    # Mail and chat make links of bare domains: example.org, www.example.org.
    return _DOMAIN.sub(" ", plain)


def _time(value: str) -> str:
    return f"{datetime.fromisoformat(value):%Y-%m-%d %H:%M} UTC"
