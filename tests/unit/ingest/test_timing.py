"""How long requests take is told for every answer, in words of which there are few."""

import asyncio
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from monitor.ingest.timing import Answered, Timed
from tests.support.sidecars import LocalSidecar
from tests.unit.ingest.test_app import trace
from tests.unit.ingest.test_forward import eventually


@pytest.fixture
def told() -> list[Answered]:
    return []


@pytest.fixture
def sidecar(tmp_path: Path, told: list[Answered]) -> Iterator[LocalSidecar]:
    with closing(LocalSidecar(tmp_path, tell=told.append)) as running:
        yield running


def test_each_answer_is_told_by_its_route_and_status(sidecar: LocalSidecar, told: list[Answered]) -> None:
    sidecar.post(trace())
    sidecar.post({"answer": 1})
    sidecar.post_raw(b"{")
    sidecar.client.get("/healthz")
    sidecar.client.get("/v1/rag/traces")
    sidecar.client.get("/v1/nothing/of/ours?really")
    sidecar.client.request("PROPFIND", "/healthz")
    eventually(lambda: len(told) == 7)  # it is told once the answer has gone
    assert [(one.method, one.route, one.status) for one in told] == [
        ("POST", "/v1/rag/traces", 202),
        ("POST", "/v1/rag/traces", 422),
        ("POST", "/v1/rag/traces", 400),
        ("GET", "/healthz", 200),
        ("GET", "/v1/rag/traces", 405),
        ("GET", None, 404),
        ("_OTHER", "/healthz", 405),
    ]
    assert {one.scheme for one in told} == {"http"}


def test_a_request_lasts_by_the_clock_that_is_given_even_where_it_fails(told: list[Answered]) -> None:
    now = 0.0

    async def failing(*_: object) -> None:
        nonlocal now
        now += 2.5
        raise RuntimeError("a defect")

    timed = Timed(failing, routes=["/x"], tell=told.append, clock=lambda: now)
    scope = {"type": "http", "method": "GET", "path": "/x", "scheme": "https"}
    with pytest.raises(RuntimeError):
        asyncio.run(timed(scope, None, None))  # type: ignore[arg-type] # neither is reached
    assert told == [Answered(method="GET", route="/x", status=500, scheme="https", seconds=2.5)]
