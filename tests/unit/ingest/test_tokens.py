"""Tokens, over real HTTP: who is let in, for whom, and what is written for those who are not."""

import errno
import gzip
import hmac
import json
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from monitor.domain.errors import InvalidSettings
from monitor.ingest.counters import Denial, Refusal
from monitor.ingest.refused import RequestRefused
from monitor.ingest.token_gate import TokenGate
from monitor.ingest.tokens import PREFIX, Token, digest, new_secret, read_tokens, write_tokens
from monitor.otlp import TENANT
from tests.examples.spans import answers, recorded_bytes
from tests.support.collectors import until
from tests.support.sidecars import LocalSidecar, Seconds

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
PROTOBUF = {"content-type": "application/x-protobuf"}
OTLP_JSON = {"content-type": "application/json"}
RECORDED = "oi-langchain"
FEEDBACK = {"trace_id": "t", "thumb": "down"}


class Tokens:
    """A file of four tokens, and their secrets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.secrets = {name: new_secret() for name in ("acme", "globex", "over", "early")}
        self.kept = [
            Token(name="acme", tenant="acme", sha256=digest(self.secrets["acme"])),
            Token(name="globex", tenant="globex", sha256=digest(self.secrets["globex"]), expires=NOW + HOUR),
            Token(name="over", tenant="acme", sha256=digest(self.secrets["over"]), expires=NOW),
            Token(name="early", tenant="acme", sha256=digest(self.secrets["early"]), not_before=NOW + HOUR),
        ]
        write_tokens(path, self.kept)

    def header(self, name: str) -> dict[str, str]:
        return {"authorization": f"Bearer {self.secrets[name]}"}


@pytest.fixture
def tokens(tmp_path: Path) -> Tokens:
    return Tokens(tmp_path / "tokens.json")


@pytest.fixture
def sidecar(tmp_path: Path, tokens: Tokens) -> Iterator[LocalSidecar]:
    gate = TokenGate(tokens.path, now=lambda: NOW)
    with closing(LocalSidecar(tmp_path / "spools", gate=gate, max_request_bytes=1 << 24, body_seconds=20)) as running:
        yield running


def trace(**changes: Any) -> dict[str, Any]:
    documents = [{"id": "d", "text": "The office opens at nine."}]
    return {
        "trace_id": "t",
        "service": "s",
        "question": "When?",
        "documents": documents,
        "answer": "At nine.",
        **changes,
    }


def wrong(tokens: Tokens) -> list[dict[str, str]]:
    good = tokens.secrets["acme"]
    headers = ["", "Bearer", f"Bearer {good}x", f"Bearer {good[:-1]}", f"Basic {good}", good, "Bearer \xe9"]
    headers += [f"Bearer {digest(good)}", f"Bearer {tokens.secrets['over']}", f"Bearer {tokens.secrets['early']}"]
    return [{}, *({"authorization": header} for header in headers)]


def test_a_wrong_expired_or_early_token_is_refused_by_every_route_and_nothing_is_written(
    sidecar: LocalSidecar, tokens: Tokens
) -> None:
    for header in wrong(tokens):
        sent = {name: value.encode("latin-1") for name, value in header.items()}
        answers = [
            sidecar.client.post("/v1/rag/traces", json=trace(), headers=sent),
            sidecar.client.post("/v1/traces", content=recorded_bytes(RECORDED, "pb"), headers={**PROTOBUF, **sent}),
            sidecar.client.post("/v1/traces", content=recorded_bytes(RECORDED, "json"), headers={**OTLP_JSON, **sent}),
            sidecar.client.post("/v1/feedback", json=FEEDBACK, headers=sent),
            sidecar.client.get("/v1/status", headers=sent),
        ]
        assert [answer.status_code for answer in answers] == [401] * 5, header
        assert all(answer.headers["www-authenticate"] == "Bearer" for answer in answers)
    assert sidecar.spool.durable == sidecar.exports.durable == sidecar.feedback_spool.durable == 0
    assert sidecar.tally.refusals == {"unauthenticated": 3 * len(wrong(tokens))}
    told = sidecar.client.get("/v1/status", headers=tokens.header("acme")).json()["access"]
    # Five headers without a bearer token, four with one that nobody has; each to five routes.
    assert told["refused"] == {"missing": 5 * 5, "unknown": 4 * 5, "expired": 5, "not_yet_valid": 5}


@pytest.mark.parametrize("batch", [[{"tenant": "globex"}], [{}, {"tenant": "globex"}], [{"tenant": "default"}]])
def test_another_tenants_trace_refuses_the_request_and_nothing_is_written(
    sidecar: LocalSidecar, tokens: Tokens, batch: list[dict[str, str]]
) -> None:
    sent = [trace(trace_id=f"t{number}", **changes) for number, changes in enumerate(batch)]
    answer = sidecar.client.post("/v1/rag/traces", json=sent, headers=tokens.header("acme"))

    assert (answer.status_code, answer.json()["reason"]) == (403, "forbidden")
    assert "acme" in answer.json()["problem"]
    assert "globex" not in answer.json()["problem"]
    assert sidecar.spool.durable == 0


def test_another_tenants_feedback_refuses_the_request_and_nothing_is_written(
    sidecar: LocalSidecar, tokens: Tokens
) -> None:
    sent = [FEEDBACK, {**FEEDBACK, "tenant": "globex"}]
    answer = sidecar.client.post("/v1/feedback", json=sent, headers=tokens.header("acme"))
    assert (answer.status_code, answer.json()["reason"]) == (403, "forbidden")
    assert sidecar.feedback_spool.durable == 0
    assert sidecar.client.post("/v1/feedback", json=FEEDBACK, headers=tokens.header("acme")).status_code == 202


def naming(*tenants: Any) -> tuple[bytes, bytes]:
    """An export of two spans for each, in protobuf and in JSON, whose resource names the tenant; None names nobody."""
    request = ExportTraceServiceRequest()
    for number, tenant in enumerate(tenants):
        resource_spans = request.resource_spans.add()
        if tenant is not None:
            kind = "int_value" if isinstance(tenant, int) else "string_value"
            pair = resource_spans.resource.attributes.add(key=TENANT)
            setattr(pair.value, kind, tenant)
        scope_spans = resource_spans.scope_spans.add()
        for one in (1, 2):
            scope_spans.spans.add(trace_id=bytes([number + 1]) * 16, span_id=bytes([one]) * 8, name="span")
    resources = [
        {
            "resource": {"attributes": [] if tenant is None else [{"key": TENANT, "value": {_kind(tenant): tenant}}]},
            "scopeSpans": [
                {"spans": [{"traceId": f"{number + 1:02x}" * 16, "spanId": f"{one:02x}" * 8} for one in (1, 2)]}
            ],
        }
        for number, tenant in enumerate(tenants)
    ]
    return request.SerializeToString(), json.dumps({"resourceSpans": resources}).encode()


def _kind(value: str | int) -> str:
    return "intValue" if isinstance(value, int) else "stringValue"


@pytest.mark.parametrize("named", [["globex"], ["acme", "globex"], [None, "globex"], [7], ["Acme"], ["acme "]])
@pytest.mark.parametrize("packing", ["identity", "gzip"])
def test_spans_that_name_another_tenant_refuse_the_export_and_nothing_is_written(
    sidecar: LocalSidecar, tokens: Tokens, named: list[str | int | None], packing: str
) -> None:
    for body, kind in zip(naming(*named), (PROTOBUF, OTLP_JSON), strict=True):
        sent = gzip.compress(body) if packing == "gzip" else body
        answer = sidecar.export(sent, {**kind, "content-encoding": packing, **tokens.header("acme")})
        assert answer.status_code == 403
        assert b"acme" in answer.content
        assert b"globex" not in answer.content
    assert sidecar.exports.durable == 0
    assert (sidecar.tally.refusals, sidecar.tally.denials) == ({"forbidden": 2}, {"other_tenant": 2})


@pytest.mark.parametrize("named", [["acme"], ["acme", None], [""], [None]])
def test_spans_that_name_their_own_tenant_or_none_are_taken(
    sidecar: LocalSidecar, tokens: Tokens, named: list[str | None]
) -> None:
    for body, kind in zip(naming(*named), (PROTOBUF, OTLP_JSON), strict=True):
        assert sidecar.export(body, {**kind, **tokens.header("acme")}).status_code == 200
    assert sidecar.exports.durable == 2


def test_without_tokens_no_attribute_chooses_a_tenant(tmp_path: Path) -> None:
    request = ExportTraceServiceRequest.FromString(recorded_bytes(RECORDED, "pb"))
    for resource_spans in request.resource_spans:
        resource_spans.resource.attributes.add(key=TENANT).value.string_value = "globex"
    with closing(LocalSidecar(tmp_path, max_request_bytes=1 << 24, body_seconds=20)) as open_to_all:
        assert open_to_all.export(request.SerializeToString(), PROTOBUF).status_code == 200
        assert {trace["tenant"] for trace in open_to_all.assembled()} == {"default"}


def test_what_is_sent_belongs_to_the_tokens_tenant(sidecar: LocalSidecar, tokens: Tokens) -> None:
    for name in ("acme", "globex"):
        assert sidecar.post(trace(), **tokens.header(name)).status_code == 202
        assert sidecar.post(trace(trace_id="own", tenant=name), **tokens.header(name)).status_code == 202
    stored = {(found["tenant"], found["trace_id"]) for found in sidecar.stored()}
    assert stored == {("acme", "t"), ("globex", "t"), ("acme", "own"), ("globex", "own")}


def test_two_tenants_share_a_sidecar_and_trace_ids(sidecar: LocalSidecar, tokens: Tokens) -> None:
    for name in ("acme", "globex"):
        body = recorded_bytes(RECORDED, "pb")
        assert sidecar.export(body, {**PROTOBUF, **tokens.header(name)}).status_code == 200
    stored = sidecar.assembled()
    for name in ("acme", "globex"):
        found = {one["trace_id"]: one["answer"] for one in stored if one["tenant"] == name}
        assert found == {trace_id: row["answer"] for trace_id, row in answers(RECORDED).items()}


def test_health_and_readiness_need_no_token(sidecar: LocalSidecar, tokens: Tokens) -> None:
    assert sidecar.client.get("/healthz").status_code == 200
    assert sidecar.client.get("/readyz").status_code == 200
    assert sidecar.client.get("/v1/status", headers=tokens.header("acme")).status_code == 200


def test_no_request_is_refused_while_tokens_are_rotated(sidecar: LocalSidecar, tokens: Tokens) -> None:
    statuses: list[int] = []
    using = ["acme"]
    done = threading.Event()

    def send() -> None:
        while not done.is_set():
            statuses.append(sidecar.post(trace(), **tokens.header(using[0])).status_code)

    sender = threading.Thread(target=send)
    sender.start()
    try:
        for number in range(3):
            name = f"next-{number}"
            tokens.secrets[name] = new_secret()
            tokens.kept.append(Token(name=name, tenant="acme", sha256=digest(tokens.secrets[name])))
            write_tokens(tokens.path, tokens.kept)
            wait_for(lambda name=name: sidecar.post(trace(), **tokens.header(name)).status_code == 202)
            using[0] = name
            wait_for(lambda before=len(statuses): len(statuses) > before + 5)  # noqa: B008 - the count as it is now
            tokens.kept = [token for token in tokens.kept if token.name == name]
            write_tokens(tokens.path, tokens.kept)
    finally:
        done.set()
        sender.join(20)
    assert len(statuses) > 15
    assert set(statuses) == {202}


def wait_for(condition: Any) -> None:
    for _ in range(500):
        if condition():
            return
        threading.Event().wait(0.02)
    pytest.fail("it did not come about")


def gate_of(path: Path) -> tuple[TokenGate, Seconds]:
    clock = Seconds()
    return TokenGate(path, now=lambda: NOW, clock=clock), clock


def admitted(gate: TokenGate, secret: str) -> str | None:
    try:
        return gate.admit(f"bearer {secret}").tenant
    except RequestRefused:
        return None


def test_a_token_that_is_taken_out_of_the_file_holds_no_longer(tokens: Tokens) -> None:
    gate, clock = gate_of(tokens.path)
    assert admitted(gate, tokens.secrets["acme"]) == "acme"
    write_tokens(tokens.path, tokens.kept[1:])
    assert admitted(gate, tokens.secrets["acme"]) == "acme"
    clock.now += 1
    assert admitted(gate, tokens.secrets["acme"]) is None
    assert admitted(gate, tokens.secrets["globex"]) == "globex"


@pytest.mark.parametrize("broken", [b"", b"{", b'{"tokens": [{"name": "a"}]}', None])
def test_a_broken_file_changes_nothing_and_is_told_of(tokens: Tokens, broken: bytes | None) -> None:
    gate, clock = gate_of(tokens.path)
    tokens.path.unlink()
    if broken is not None:
        tokens.path.write_bytes(broken)
    clock.now += 1
    assert admitted(gate, tokens.secrets["acme"]) == "acme"
    assert str(tokens.path) in (gate.problem or "")
    write_tokens(tokens.path, tokens.kept)
    clock.now += 1
    assert admitted(gate, tokens.secrets["acme"]) == "acme"
    assert gate.problem is None


def test_a_file_that_could_not_be_read_is_tried_again_though_it_has_not_changed(
    tokens: Tokens, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    gate, clock = gate_of(tokens.path)
    write_tokens(tokens.path, tokens.kept[1:])  # acme's token is revoked

    def no_room(*_: Any, **__: Any) -> Any:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with monkeypatch.context() as failing:
        failing.setattr(Path, "open", no_room)
        for _ in range(3):
            clock.now += 1
            assert admitted(gate, tokens.secrets["acme"]) == "acme"
    assert [record.getMessage() for record in caplog.records if "stay as they were" in record.message] == [
        f"the tokens stay as they were: {gate.problem}"
    ]
    clock.now += 1
    assert admitted(gate, tokens.secrets["acme"]) is None
    assert gate.problem is None


def test_the_log_tells_of_a_token_outside_its_time_once_and_again_when_it_has_changed(
    tokens: Tokens, caplog: pytest.LogCaptureFixture
) -> None:
    gate, clock = gate_of(tokens.path)
    for _ in range(20):
        for name in ("over", "early", "acme"):
            admitted(gate, tokens.secrets[name])
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    assert "token over of tenant acme was used and is over since" in told[0]
    assert "token early of tenant acme was used and does not hold before" in told[1]

    tokens.kept[2] = replace(tokens.kept[2], expires=NOW - HOUR)
    write_tokens(tokens.path, tokens.kept)
    clock.now += 1
    caplog.clear()
    for name in ("over", "over", "early"):
        admitted(gate, tokens.secrets[name])
    assert [record.getMessage().split(" was")[0] for record in caplog.records] == [
        "tokens were read anew: 4",
        "token over of tenant acme",
    ]


@pytest.mark.parametrize(
    ("header", "cause"),
    [
        (None, Denial.MISSING),
        ("", Denial.MISSING),
        ("Bearer ", Denial.MISSING),
        ("Basic {acme}", Denial.MISSING),
        ("Bearer {acme}x", Denial.UNKNOWN),
        ("Bearer {over}", Denial.EXPIRED),
        ("Bearer {early}", Denial.NOT_YET_VALID),
    ],
)
def test_each_cause_is_told_apart_from_the_others_to_the_operator_alone(
    tokens: Tokens, header: str | None, cause: Denial
) -> None:
    gate, _ = gate_of(tokens.path)
    with pytest.raises(RequestRefused) as refused:
        gate.admit(header and header.format(**tokens.secrets))
    assert refused.value.denial is cause
    assert (refused.value.status, refused.value.reason) == (401, Refusal.UNAUTHENTICATED)
    with pytest.raises(RequestRefused) as unknown:
        gate.admit("Bearer nobody")
    assert refused.value.problem == unknown.value.problem


def test_every_token_is_compared_in_constant_time(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []

    def compare(kept: str, sent: str) -> bool:
        compared.append(kept)
        return hmac.compare_digest(kept, sent)

    gate, _ = gate_of(tokens.path)
    monkeypatch.setattr("monitor.ingest.token_gate.hmac", SimpleNamespace(compare_digest=compare))
    for secret in (tokens.secrets["acme"], "gw_unknown", tokens.secrets["early"]):
        compared.clear()
        admitted(gate, secret)
        assert compared == [token.sha256 for token in tokens.kept]


def test_secrets_and_hashes_are_in_no_log(tokens: Tokens, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    gate, clock = gate_of(tokens.path)
    for name in tokens.secrets:
        admitted(gate, tokens.secrets[name])
    tokens.path.write_text('{"tokens": [{"name": "a", "tenant": "b", "sha256": "' + tokens.secrets["acme"] + '"}]}')
    clock.now += 1
    admitted(gate, "gw_unknown")
    assert "over" in caplog.text
    for secret in tokens.secrets.values():
        assert secret not in caplog.text + (gate.problem or "")
        assert digest(secret) not in caplog.text + (gate.problem or "")


def test_the_file_holds_hashes_and_belongs_to_its_owner_alone(tokens: Tokens) -> None:
    text = tokens.path.read_text()
    assert not any(secret in text or secret.removeprefix(PREFIX) in text for secret in tokens.secrets.values())
    assert tokens.path.stat().st_mode & 0o777 == 0o600
    assert list(read_tokens(tokens.path)) == tokens.kept


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"sha256": "gw_a-secret-by-mistake"}, "tokens.0.sha256"),
        ({"tenant": "two words"}, "tokens.0.tenant"),
        ({"expires": "2026-05-01T12:00:00"}, "tokens.0.expires"),
        ({"tennant": "acme"}, "tokens.0.tennant"),
    ],
)
def test_a_bad_entry_is_named_and_its_value_is_not_shown(tmp_path: Path, change: dict[str, str], problem: str) -> None:
    path = tmp_path / "tokens.json"
    entry = {"name": "a", "tenant": "acme", "sha256": "0" * 64, **change}
    path.write_text(json.dumps({"tokens": [entry]}))
    with pytest.raises(InvalidSettings) as raised:
        read_tokens(path)
    assert problem in str(raised.value)
    assert "by-mistake" not in str(raised.value)


def test_requests_do_not_wait_for_a_large_file(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    gate, clock = gate_of(tokens.path)
    slow, readers = threading.Event(), list[str]()

    def held_up(path: Path) -> tuple[Token, ...]:
        readers.append(threading.current_thread().name)
        slow.wait(60)
        return read_tokens(path)

    monkeypatch.setattr("monitor.ingest.token_gate.read_tokens", held_up)
    write_tokens(tokens.path, [Token(name=f"t{n}", tenant="acme", sha256=digest(f"{n}")) for n in range(2000)])
    clock.now += 1
    assert admitted(gate, tokens.secrets["acme"]) == "acme"
    assert admitted(gate, tokens.secrets["globex"]) == "globex"
    slow.set()
    until(lambda: admitted(gate, "1999") == "acme")
    assert admitted(gate, tokens.secrets["globex"]) is None
    assert readers == ["tokens"]


def test_two_tokens_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidSettings, match="two are named a"):
        write_tokens(tmp_path / "t", [Token(name="a", tenant="b", sha256="0" * 64)] * 2)


def test_one_token_under_two_names_is_refused(tmp_path: Path) -> None:
    token = Token(name="a", tenant="acme", sha256=digest("x"))
    with pytest.raises(InvalidSettings, match="a and b are the same token"):
        write_tokens(tmp_path / "tokens", [token, replace(token, name="b", tenant="globex")])


def test_a_file_that_others_may_write_is_refused_with_the_command_that_mends_it(tokens: Tokens) -> None:
    os.chmod(tokens.path, 0o660)  # noqa: PTH101 - Path.chmod would read the same
    with pytest.raises(InvalidSettings, match="chmod go-w"):
        TokenGate(tokens.path)
