"""Names are documented, and nothing is documented that is not a name."""

import re
from pathlib import Path

import pytest

from monitor.telemetry import names

PAGE = (Path(__file__).parents[3] / "docs" / "telemetry.md").read_text(encoding="utf-8")
NAMES = {value for name, value in vars(names).items() if name.isupper()}


@pytest.mark.parametrize("name", sorted(NAMES))
def test_every_name_is_documented(name: str) -> None:
    assert f"`{name}`" in PAGE


def test_every_documented_name_exists() -> None:
    written = set(re.findall(r"`((?:gen_ai|groundwatch)\.[a-z_.]+)`", PAGE))
    assert written - NAMES == set()


RULES = (Path(__file__).parents[3] / "deploy" / "prometheus" / "groundwatch.rules.yml").read_text(encoding="utf-8")
TRANSLATED = {
    name.replace(".", "_") + suffix
    for name in NAMES
    for suffix in ("", "_total", "_bytes", "_seconds", "_seconds_bucket")
}


def test_the_alert_rules_speak_of_nothing_else() -> None:
    written = set(re.findall(r"\bgroundwatch_[a-z_]+", RULES))
    assert len(written) > 15
    assert written - TRANSLATED == set()
