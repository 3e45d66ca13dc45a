"""The documents speak of every outcome that the code knows, and their links lead somewhere."""

import re
from pathlib import Path

import pytest

from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.judgement import Unjudgeable
from monitor.ingest.counters import Denial, Refusal
from monitor.judging.judgeable import REDACTION_MARKS

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "schemas/*.md", "deploy/*.md")
    for path in ROOT.glob(pattern)
    if path.parts[-2] != ".venv"
)


def test_every_outcome_of_bad_input_is_documented() -> None:
    page = (ROOT / "docs/bad-input.md").read_text("utf-8")
    outcomes = {
        str(word) for kind in (DeadLetterReason, Unjudgeable, Refusal, Denial) for word in kind
    } | REDACTION_MARKS
    assert not [word for word in outcomes if f"`{word}`" not in page]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_between_documents_lead_somewhere(page: Path) -> None:
    targets = re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text("utf-8"))
    local = [target for target in targets if "://" not in target]
    assert not [target for target in local if not (page.parent / target).exists()]


def test_the_changelog_has_a_place_for_what_comes_next() -> None:
    assert "## [Unreleased]" in (ROOT / "CHANGELOG.md").read_text("utf-8")
