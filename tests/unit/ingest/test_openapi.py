"""The description of the HTTP API: of all that is there, and of nothing else."""

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from starlette.routing import Route
from starlette.testclient import TestClient

from monitor.config import load_settings
from monitor.ingest.counters import Refusal
from monitor.ingest.openapi.document import document
from monitor.ingest.openapi.parts import Description
from monitor.services.sidecar import create_sidecar
from tests.support.sidecars import LocalSidecar

PAGE = (Path(__file__).parents[3] / "docs" / "sidecar.md").read_text("utf-8")


@pytest.fixture
def sidecar(tmp_path: Path) -> Iterator[LocalSidecar]:
    with closing(LocalSidecar(tmp_path)) as running:
        yield running


@pytest.fixture
def described(sidecar: LocalSidecar) -> dict[str, Any]:
    response = sidecar.client.get("/openapi.json")
    assert response.headers["content-type"] == "application/json"
    found: dict[str, Any] = response.json()
    return found


@pytest.mark.parametrize("checks", [False, True])
def test_every_route_of_the_sidecar_is_described_and_nothing_else(tmp_path: Path, checks: bool) -> None:  # noqa: FBT001 - parametrized
    settings = load_settings(
        sidecar={"spool_directory": tmp_path}, kafka={"bootstrap_servers": "127.0.0.1:1"}, check={"enabled": checks}
    )
    with create_sidecar(settings) as running:
        routes = [route for route in running.app.routes if isinstance(route, Route)]
        assert len(routes) == len(running.app.routes)
        paths = TestClient(running.app).get("/openapi.json").json()["paths"]
    there = {(route.path, method.lower()) for route in routes for method in (route.methods or ()) if method != "HEAD"}
    assert {(path, method) for path, item in paths.items() for method in item} == there
    assert ("/v1/check" in paths) is checks


def test_every_reference_leads_to_a_schema_and_every_schema_is_referred_to(described: dict[str, Any]) -> None:
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(described)))
    assert referred == set(described["components"]["schemas"])


def test_a_trace_is_described_as_its_contract_has_it(described: dict[str, Any]) -> None:
    contract = json.loads((Path(__file__).parents[3] / "schemas" / "rag_trace.v1.json").read_text("utf-8"))
    trace = described["components"]["schemas"]["RagTrace"]
    assert set(trace["required"]) == set(contract["required"]) - {"trace_id", "event_time"}
    for name in set(contract["properties"]) - {"trace_id", "event_time", "documents"}:
        assert trace["properties"][name] == contract["properties"][name]
    assert described["components"]["schemas"]["document"] == contract["$defs"]["document"]


def test_every_reason_of_a_refusal_is_described(described: dict[str, Any]) -> None:
    refusal = described["components"]["schemas"]["Refusal"]
    assert set(refusal["properties"]["reason"]["enum"]) == {str(reason) for reason in Refusal}


def test_every_example_is_taken(sidecar: LocalSidecar, described: dict[str, Any]) -> None:
    sent = 0
    for path, item in described["paths"].items():
        content = item.get("post", {}).get("requestBody", {}).get("content", {}).get("application/json", {})
        for example in content.get("examples", {}).values():
            response = sidecar.client.post(path, json=example["value"])
            assert response.is_success, response.text
            sent += 1
    assert sent >= 2


def test_two_meanings_of_one_name_are_refused() -> None:
    one = Description(paths={}, schemas={"Spool": {"type": "object"}})
    with pytest.raises(ValueError, match="two schemas are named Spool"):
        document([one, Description(paths={}, schemas={"Spool": {"type": "string"}})])
    with pytest.raises(ValueError, match="/a is described twice"):
        document([Description(paths={"/a": {"get": {}}}), Description(paths={"/a": {"post": {}}})])


def test_the_page_names_the_description() -> None:
    assert "GET /openapi.json" in PAGE
