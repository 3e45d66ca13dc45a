"""Files that are not Python are found in a source tree."""

import pytest

from monitor.resources import resource


@pytest.mark.parametrize(
    ("name", "holds"), [("migrations", "env.py"), ("schemas", "rag_trace.v1.json"), ("queries", "coverage.sql")]
)
def test_folders_are_found(name: str, holds: str) -> None:
    assert (resource(name) / holds).is_file()


def test_a_missing_folder_says_what_to_do() -> None:
    with pytest.raises(FileNotFoundError, match="install groundwatch again"):
        resource("nothing-of-that-name")
