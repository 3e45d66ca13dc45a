"""Which services' URLs pass, before anything is sent."""

import subprocess
import sys

import pytest

from monitor.alerts.sealing import Destination
from monitor.alerts.services import SERVICES, check_service, is_service
from monitor.alerts.targets import TargetRefused
from monitor.cli.alerts import subscribe

GOOD = [
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/%23alerts?footer=no",
    "pagerduty://integration@apikey?region=eu",
    "mailto://bot:secret@example.org?to=oncall@example.org&smtp=mail.example.org",
    "workflows://host.example.org:443/workflow/signature?api-version=2024",
    "tgram://123456789:abcdefg_hijklmnop/12315544",
]


@pytest.mark.parametrize("url", GOOD)
def test_known_services_pass(url: str) -> None:
    check_service(url)
    assert is_service(url)


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("syslog://", "is no service"),
        ("json://127.0.0.1/", "is no service"),
        ("file:///etc/passwd", "is no service"),
        ("schema://x", "is no service"),
        ("slack://a/b/c?template=/etc/passwd", "the option 'template'"),
        ("mailto://a@example.org?pgppub=/etc/passwd&pgp=yes", "the option 'pgppub'"),
        ("ntfys://topic?attach=http://10.0.0.1/", "the option 'attach'"),
        ("discord://1/2?avatar_url=http://10.0.0.1/", "the option 'avatar_url'"),
        ("slack://a/b/c?verify=no", "the option 'verify'"),
        ("slack://a/b/c?redirect=yes", "the option 'redirect'"),
        ("mmosts://example.org/x?+X-Header=1", "the option"),
        ("slack://a/b/c?store=yes", "the option 'store'"),
        ("slack://a/b\n/c", "printable ASCII"),
        ("mmosts://example.org/token#?redirect=yes", "no '#'"),
        ("tgram://123456789:abcdefg_hijklmnop/1?to=1;template=/etc/passwd", "no ';'"),
        ("mmosts://example.org/token?footer=no?verify=no", "one '.' at most"),
        ("slack://[/b", "not a URL"),
        ("slack://töken/b", "printable ASCII"),
    ],
)
def test_what_could_do_harm_is_refused(url: str, why: str) -> None:
    with pytest.raises(TargetRefused, match=why.replace("[", r"\[")):
        check_service(url)


def test_webhooks_are_no_services() -> None:
    assert not is_service("https://example.org/hook")
    assert not is_service("HTTP://example.org/hook")


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (GOOD[0], "slack://…"),
        (GOOD[1], "pagerduty://…"),
        (GOOD[2], "mailto://example.org/…"),
        ("mmosts://chat.example.org/3ccdd113474722377935511fc85d3dd4", "mmosts://chat.example.org/…"),
    ],
)
def test_no_token_is_shown(url: str, shown: str) -> None:
    assert Destination(url=url).shown == shown


def test_apprise_knows_every_service_of_the_list() -> None:
    asked = "import sys, apprise; print(*[name for name in sys.argv[1:] if name not in apprise.plugins.N_MGR])"
    unknown = subprocess.run([sys.executable, "-c", asked, *SERVICES], capture_output=True, text=True, check=True)
    assert unknown.stdout.split() == []


def test_the_help_names_every_service() -> None:
    words = subscribe.__doc__ or ""
    assert [name for name in SERVICES if name not in words and name.removesuffix("s") not in words] == []
