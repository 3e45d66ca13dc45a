import contextlib
import io
import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from monitor.ingest.intake import take
from monitor.wire import EARLIEST
from tests.support.sidecars import LocalSidecar

PAGE = (Path(__file__).parents[3] / "docs" / "sidecar.md").read_text("utf-8")
ADDRESS = "http://127.0.0.1:8710"


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture
def url(tmp_path: Path) -> Iterator[str]:
    with closing(LocalSidecar(tmp_path)) as sidecar:
        yield sidecar.url


def test_the_python_example_runs_as_it_stands(url: str) -> None:
    (example,) = blocks("python")
    assert ADDRESS in example
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(example.replace(ADDRESS, url), "docs/sidecar.md", "exec"), {})
    assert printed.getvalue() == "1 []\n"


def test_the_curl_example_is_answered_as_the_page_says() -> None:
    (command,) = (block for block in blocks("sh") if block.startswith("curl"))
    sent = re.findall(r"-d '(.*)'", command, flags=re.DOTALL)[0].encode()
    (answer,) = blocks("json")

    now = EARLIEST.replace(year=2026, month=6)
    taken = take(sent, lines=False, max_batch=1, now=now, new_ids=iter(()))

    assert {"accepted": len(taken.entries), "trace_ids": taken.trace_ids, "rejected": []} == json.loads(answer)
    assert taken.rejected == []
