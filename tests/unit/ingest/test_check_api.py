"""What the judges' word becomes over HTTP. Judges in processes: test_checker; whole sidecars: integration."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Tier, Unjudgeable, UnsupportedSpan
from monitor.domain.trace import Trace
from monitor.domain.verdict import Label, Verdict
from monitor.ingest.app import create_app
from monitor.ingest.body import BodyReader
from monitor.ingest.callers import Gate, OpenGate
from monitor.ingest.check_api import CheckAnswered, CheckApi
from monitor.ingest.check_link import Said
from monitor.ingest.check_request import CheckLimits
from monitor.ingest.checker import Checking, CheckingState
from monitor.ingest.counters import Tally
from monitor.ingest.token_gate import TokenGate
from monitor.ingest.tokens import Token, digest, new_secret, write_tokens

SCREEN = JudgeIdentity(name="screen", tier=Tier.SCREEN, model="screen.onnx", model_digest="00")
SPAN = UnsupportedSpan(start=0, end=2, score=0.75, document_id="d")
VERDICT = Verdict(label=Label.HALLUCINATED, probability=0.9, unsupported=(SPAN,), decided_by=(SCREEN.version,))
CHECK = {"question": "?", "documents": [], "answer": "No."}


@dataclass
class Says:
    """Judges who have their word ready, and remember how long they were given."""

    said: Said | None
    state: CheckingState = CheckingState(state=Checking.READY)  # noqa: RUF009 - frozen
    until: float = 0.0
    owner: str | None = None

    async def check(self, _: Trace, *, until: float, owner: str | None) -> Said | None:
        self.until = until
        self.owner = owner
        return self.said


def served(
    said: Said | None, *, gate: Gate | None = None, tally: Tally | None = None
) -> tuple[TestClient, Says, list[CheckAnswered]]:
    told: list[CheckAnswered] = []
    judges = Says(said)
    api = CheckApi(
        judges,
        gate=gate or OpenGate(),
        bodies=BodyReader(max_bytes=4096, max_total_bytes=8192, seconds=5),
        limits=CheckLimits(budget_milliseconds=500, most_milliseconds=2000, most_bytes=4096),
        counters=tally or Tally(),
        tell=told.append,
        stopwatch=lambda: 100.0,
        new_ids=iter(["made"]),
    )
    return TestClient(create_app(api)), judges, told


def word(outcome: Verdict | CouldNotJudge, *, complete: bool = True) -> Said:
    judge = SCREEN if isinstance(outcome, Verdict) else None
    return Said(outcome=outcome, judge=judge, complete=complete, version="check@1")


@pytest.mark.parametrize(("complete", "outcome"), [(True, "verdict"), (False, "incomplete")])
def test_a_verdict_is_told_with_its_evidence(complete: bool, outcome: str) -> None:  # noqa: FBT001 - parametrized
    client, _, told = served(word(VERDICT, complete=complete))
    response = client.post("/v1/check", json=CHECK)
    assert response.json() == {
        "trace_id": "made",
        "verdict": {
            "label": "hallucinated",
            "hallucination_probability": 0.9,
            "tier": "screen",
            "judge": SCREEN.version,
            "version": "check@1",
            "unsupported": [
                {"start": 0, "end": 2, "score": 0.75, "document_id": "d", "document_start": None, "document_end": None}
            ],
        },
        "complete": complete,
        "reason": None,
        "elapsed_ms": 0.0,
    }
    assert told == [CheckAnswered(outcome=outcome, detail="hallucinated", seconds=0.0)]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (None, "no_verdict_in_time"),
        (word(CouldNotJudge(reason=Unjudgeable.DEADLINE)), "no_verdict_in_time"),
        (word(CouldNotJudge(reason=Unjudgeable.EMPTY_ANSWER)), "could_not_judge: empty_answer"),
    ],
)
def test_without_a_verdict_there_is_a_reason(said: Said | None, reason: str) -> None:
    client, _, _ = served(said)
    response = client.post("/v1/check", json=CHECK)
    assert response.status_code == 200
    assert (response.json()["verdict"], response.json()["reason"]) == (None, reason)


@pytest.mark.parametrize(("budget", "until"), [(None, 100.5), (20, 100.02), (2000, 102.0), (0.5 + 1, 100.0015)])
def test_the_budget_runs_from_the_requests_arrival(budget: float | None, until: float) -> None:
    client, judges, _ = served(None)
    assert client.post("/v1/check", json={**CHECK, "budget_ms": budget}).status_code == 200
    assert judges.until == pytest.approx(until)


def test_what_is_refused_is_counted_with_its_reason() -> None:
    client, _, told = served(None)
    assert client.post("/v1/check", json={**CHECK, "budget_ms": 2001}).json()["field"] == "budget_ms"
    assert client.post("/v1/check", json={**CHECK, "answer": "x" * 5000}).status_code == 413
    assert [(one.outcome, one.detail) for one in told] == [("refused", "invalid"), ("refused", "too_large")]


def test_callers_that_are_not_let_in_are_counted_by_cause_as_at_every_other_route(tmp_path: Path) -> None:
    secret, tally = new_secret(), Tally()
    write_tokens(tmp_path / "tokens.json", [Token(name="one", tenant="acme", sha256=digest(secret))])
    client, judges, _ = served(word(VERDICT), gate=TokenGate(tmp_path / "tokens.json"), tally=tally)
    bearer = {"Authorization": f"Bearer {secret}"}
    assert client.post("/v1/check", json=CHECK).status_code == 401
    assert client.post("/v1/check", json=CHECK, headers={"Authorization": "Bearer gw_other"}).status_code == 401
    assert client.post("/v1/check", json={**CHECK, "tenant": "umbrella"}, headers=bearer).status_code == 403
    assert tally.denials == {"missing": 1, "unknown": 1, "other_tenant": 1}
    # What was asked was never to be kept: nothing of it is missing anywhere.
    assert tally.refusals == {}
    assert client.post("/v1/check", json=CHECK, headers=bearer).status_code == 200
    assert judges.owner == "acme"
