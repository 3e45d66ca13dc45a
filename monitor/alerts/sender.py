"""`python -m monitor.alerts.sender`: one message to one service, in a process that connects to public addresses only.

Reads one JSON object from standard input (`url`, `message`, `allow_private`), and writes one to standard output: `{}`,
`{"refused": why}` for what will never be sent, or `{"failed": why}`.

The guard is an audit hook (PEP 578): whatever a plugin does to connect, the address is checked at that moment, after
name resolution and on every redirect; no code that runs later can take it off. Starting programs is refused likewise.
"""

import json
import logging
import re
import sys
from ipaddress import ip_address
from typing import Any

from apprise import Apprise, AppriseAsset, NotifyFormat, NotifyType

from monitor.alerts.message import Tone
from monitor.alerts.targets import TargetRefused, check_address

_KINDS = {
    Tone.CRITICAL: NotifyType.FAILURE,
    Tone.WARNING: NotifyType.WARNING,
    Tone.INFO: NotifyType.INFO,
    Tone.GOOD: NotifyType.SUCCESS,
}
_CONNECTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_STARTS = frozenset({"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork"})
_LONGEST_REASON = 500


class Guard:
    """Refuses connections to addresses that are not public, and remembers why."""

    def __init__(self, *, allow_private: bool) -> None:
        self._allow_private = allow_private
        self.refusal: str | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        """An audit hook; raises PermissionError."""
        if event in _STARTS:
            self._refuse(f"starting programs is not allowed ({event})")
        if event in _CONNECTS and arguments[1] is not None:
            self._check(arguments[1])

    def _check(self, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else address
        try:
            # A scope (fe80::1%eth0) belongs to link-local addresses only.
            known = ip_address(str(host).partition("%")[0])
        except ValueError:
            self._refuse("a connection to something that is no address")
            return
        try:
            check_address(known, allow_private=self._allow_private)
        except TargetRefused as refused:
            self._refuse(str(refused))

    def _refuse(self, why: str) -> None:
        self.refusal = why
        raise PermissionError(why)


class _Heard(logging.Handler):
    """The last warning: why a plugin gave up."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.last: str | None = None

    def emit(self, record: logging.LogRecord) -> None:
        self.last = record.getMessage()


def send(request: dict[str, Any]) -> dict[str, str]:
    """Send one message; what became of it, as the module says."""
    guard = Guard(allow_private=request["allow_private"])
    sys.addaudithook(guard)
    heard = _Heard()
    logger = logging.getLogger("apprise")
    logger.addHandler(heard)
    logger.propagate = False
    asset = AppriseAsset(
        app_id="groundwatch",
        app_desc="groundwatch",
        async_mode=False,
        http_redirects=False,
        allow_templates=False,
        secure_logging=True,
        pgp_autogen=False,
        pem_autogen=False,
    )
    url, message = request["url"], request["message"]
    plugin = Apprise.instantiate(url, asset=asset, suppress_exceptions=True)
    if plugin is None:
        return {"refused": "Apprise does not understand this URL; see https://appriseit.com/services"}
    if getattr(plugin, "template", None):
        return {"refused": "templates are not allowed in a service's URL"}
    if len(plugin) > 1:
        # Sent again because one receiver failed, a message would reach the others twice.
        return {"refused": "the URL names several receivers: make a subscription for each"}
    plugin.redirects, plugin.verify_certificate = False, True
    sent = plugin.notify(
        title=message["title"],
        body=message["body"],
        notify_type=_KINDS[Tone(message["tone"])],
        body_format=NotifyFormat.TEXT,
    )
    if guard.refusal is not None and not sent:
        return {"refused": guard.refusal}
    return {} if sent else {"failed": _without_secrets(heard.last or "the service did not take it", url)}


def _without_secrets(reason: str, url: str) -> str:
    # Plugins write what they tried: every part of the URL that could be a token is blanked.
    for part in sorted(set(re.split(r"[^\w.-]+", url.partition("://")[2])), key=len, reverse=True):
        if len(part) >= 4:  # noqa: PLR2004 - shorter parts are words, and no secret
            reason = reason.replace(part, "…")
    return reason[:_LONGEST_REASON]


if __name__ == "__main__":
    said = send(json.loads(sys.stdin.buffer.read()))
    sys.stdout.write(json.dumps(said) + "\n")
