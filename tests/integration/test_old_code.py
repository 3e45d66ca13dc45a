"""Each migration under the code before it: that code's own tests, as they were, on the tables that the migration made.

The code before is what git has from just before the migration came; without that history there is nothing to run.
"""

import io
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FIRST = 22
"""Those before came all at once, with one that is no expand and contract (docs/decisions/0012-days-and-numbers.md)."""
NEWEST = 5
"""So many are looked at: those before have been, and neither they nor the code before them change any more."""

MIGRATIONS = {path.name[:4]: path for path in sorted((ROOT / "migrations" / "versions").glob("[0-9]*.py"))}
AT_WORK = ("test_ledger.py", "test_escalations.py", "test_feedback.py", "test_labels.py", "test_drift_store.py")
"""Tests of what goes on writing and reading while a release is rolled out: ledger, pool, feedback, labels, drift."""

BY_CHANCE = "tests/integration/test_labels.py::test_answers_that_nobody_got_round_to_only_make_the_draw_smaller"
"""In older trees its bound on a random draw is so narrow that one run in seventy fails."""


def git(*arguments: str) -> bytes:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, timeout=60).stdout


def before(migration: Path) -> str:
    """The commit before the one that brought it; skips where git does not know."""
    try:
        shallow = git("rev-parse", "--is-shallow-repository").strip() == b"true"
        name = str(migration.relative_to(ROOT))
        # Along the main line: the commit, or the merge, that brought it there under this number.
        came = git("log", "--first-parent", "-m", "--no-renames", "--diff-filter=A", "--format=%H", "--", name)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no git history: run this in a clone")
    if shallow:
        pytest.skip("a shallow clone has no history: run this in a whole one")
    # Not in git yet: the code before is what was committed last.
    commit = f"{came.decode().split()[-1]}^" if came.strip() else "HEAD"
    try:
        git("rev-parse", "--verify", "--quiet", f"{commit}^{{commit}}")
    except subprocess.CalledProcessError:
        # As where a history begins anew with the whole tree: no code before the migration is to be had.
        pytest.skip("its first commit is the history's first one")
    return commit


@pytest.mark.parametrize("revision", [name for name in MIGRATIONS if int(name) >= FIRST][-NEWEST:])
def test_the_code_before_a_migration_goes_on_after_it(tmp_path: Path, revision: str) -> None:
    commit = before(MIGRATIONS[revision])
    with tarfile.open(fileobj=io.BytesIO(git("archive", commit))) as archive:
        archive.extractall(tmp_path, filter="data")
    assert not (tmp_path / MIGRATIONS[revision].relative_to(ROOT)).exists()
    tests = [f"tests/integration/{name}" for name in AT_WORK]
    assert [name for name in tests if not (tmp_path / name).exists()] == []
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-n", "0", "-p", "newer_schema", "--deselect", BY_CHANCE, *tests],
        cwd=tmp_path,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(tmp_path), str(ROOT / "tests" / "support" / "old_code")]),
            "GROUNDWATCH_NEWER_TREE": str(ROOT),
            "GROUNDWATCH_NEWER_REVISION": revision,
        },
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-5000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
