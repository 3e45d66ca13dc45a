"""Alerts to Slack, Teams, PagerDuty, mail and others, by Apprise (https://github.com/caronc/apprise).

A service's URL is as hostile as a webhook's: it may name a file, a private host or a command in its options. So only
known services and harmless options pass, and what speaks to the network is a process of its own, made for one message,
that refuses every connection to an address that is not public (`monitor.alerts.sender`).
"""

import asyncio
import json
import sys
from dataclasses import asdict
from urllib.parse import SplitResult, parse_qsl, urlsplit

from monitor.alerts.message import Message
from monitor.alerts.targets import TargetRefused
from monitor.alerts.webhook import NotDelivered

SERVICES = {
    "betterstack": "Better Stack",
    "discord": "Discord",
    "gchat": "Google Chat",
    "incidentio": "incident.io",
    "mailto": "e-mail",
    "mailtos": "e-mail over TLS",
    "mmost": "Mattermost over http",
    "mmosts": "Mattermost",
    "ntfys": "ntfy",
    "opsgenie": "Opsgenie",
    "pagerduty": "PagerDuty",
    "pover": "Pushover",
    "rockets": "Rocket.Chat",
    "slack": "Slack",
    "splunk": "Splunk On-Call",
    "squadcast": "Squadcast",
    "tgram": "Telegram",
    "webex": "Webex",
    "workflows": "Microsoft Teams",
    "zulip": "Zulip",
}
"""Schemes of Apprise URLs that pass, and whom they reach."""

# fmt: off
_OPTIONS = frozenset({
    "api-version", "bcc", "botname", "cc", "channel", "class", "component", "entity", "footer", "from", "group", "id",
    "image", "key", "mode", "name", "pass", "priority", "region", "reply", "route", "routeid", "routing_key", "service",
    "severity", "sid", "sig", "smtp", "sound", "source", "tags", "team", "thread", "to", "token", "topic", "user",
    "ver", "workspace",
})
# fmt: on
# The option under which a service knows that two messages are of one incident.
_THREADS = {"pagerduty": "dedup", "incidentio": "dedup", "opsgenie": "alias"}
_HOSTED = frozenset({"mailto", "mailtos", "mmost", "mmosts", "ntfys", "rockets"})
AT_A_TIME = 8
"""Messages being sent; further ones wait."""


def is_service(url: str) -> bool:
    """Whether a subscription's URL is a service's; else it is a webhook's."""
    return urlsplit(url).scheme.lower() not in {"http", "https"}


def shown(url: str) -> str:
    """The service, with the host where that is the receiver's and no token."""
    parts = urlsplit(url)
    host = f"{parts.hostname}/" if parts.scheme.lower() in _HOSTED else ""
    return f"{parts.scheme.lower()}://{host}…"


def check_service(url: str) -> SplitResult:
    """What can be said about a service's URL without asking anyone.

    Raises:
        TargetRefused: no service that is known, an option that could do harm, or nothing that Apprise understands.
    """
    if not url.isascii() or any(character <= " " or character == "\x7f" for character in url):
        raise TargetRefused("a service's URL is printable ASCII without spaces")
    if "#" in url or ";" in url or url.count("?") > 1:
        # Apprise reads options behind these, too; our reading of the URL must be its.
        raise TargetRefused("a service's URL has no '#' (write %23), no ';' and one '?' at most")
    try:
        parts = urlsplit(url)
        options = parse_qsl(parts.query, keep_blank_values=True)
    except ValueError as error:
        raise TargetRefused(f"not a URL: {error}") from None
    if parts.scheme.lower() not in SERVICES:
        raise TargetRefused(
            f"{parts.scheme[:20]!r} is no service that alerts go to; there are http(s) webhooks, {', '.join(SERVICES)}"
        )
    for name, _ in options:
        if name.lower() not in _OPTIONS:
            raise TargetRefused(f"the option {name[:40]!r} is not allowed in a service's URL")
    return parts


class Services:
    """Sends messages, each by a process of its own.

    Args:
        allow_private: let receivers on loopback, link-local and private addresses pass.
        deadline_seconds: for one message; its process is ended then.
    """

    def __init__(self, *, allow_private: bool, deadline_seconds: float) -> None:
        self._allow_private = allow_private
        self._deadline = deadline_seconds
        self._places = asyncio.Semaphore(AT_A_TIME)

    async def send(self, url: str, message: Message) -> None:
        """Send one message.

        Raises:
            NotDelivered: the service did not take it, or the deadline passed.
            TargetRefused: the URL is refused, or what it leads to.
        """
        parts = check_service(url)
        request = {
            "url": _threaded(url, parts, message.thread),
            "message": asdict(message),
            "allow_private": self._allow_private,
        }
        async with self._places:
            try:
                async with asyncio.timeout(self._deadline):
                    answer = await _ask(json.dumps(request).encode())
            except TimeoutError:
                raise NotDelivered(f"no answer from {SERVICES[parts.scheme.lower()]} in {self._deadline:g} s") from None
        if refused := answer.get("refused"):
            raise TargetRefused(refused)
        if failed := answer.get("failed"):
            raise NotDelivered(failed)


def _threaded(url: str, parts: SplitResult, thread: str) -> str:
    option = _THREADS.get(parts.scheme.lower())
    if option is None:
        return url
    return parts._replace(query="&".join(filter(None, [parts.query, f"action=map&{option}={thread}"]))).geturl()


async def _ask(request: bytes) -> dict[str, str]:
    # No environment: proxies, credentials files and Apprise's own variables decide nothing. No working directory.
    sender = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "monitor.alerts.sender"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        cwd="/",
        env={"PYTHONPATH": ":".join(filter(None, sys.path)), "HOME": "/nonexistent", "NETRC": "/dev/null"},
    )
    try:
        said, _ = await sender.communicate(request)
    finally:
        if sender.returncode is None:
            sender.kill()
            await sender.wait()
    try:
        answer = json.loads(said.splitlines()[-1])
    except (IndexError, ValueError):
        return {"failed": f"the sending process ended with status {sender.returncode}"}
    return {key: str(value) for key, value in answer.items()}
