"""Text through servers that refuse, fail, hang and lie: bounded tries, and every call accounted for."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

from monitor.config import PoolSettings
from monitor.domain.errors import JudgeUnavailable
from monitor.domain.generation import Generated, Message, Role
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.inference.generation import HttpGenerator
from monitor.inference.pool_protocol import ReplyForm
from monitor.outbound import AsyncHttpClient
from tests.support.unruly_server import UnrulyServer, completion, cut, drip, hang, noise, status

ASKED = (Message(role=Role.SYSTEM, content="Judge."), Message(role=Role.USER, content="Half a pair: \ud800"))
SCHEMA = {"type": "object", "properties": {"SCORE": {"enum": [0, 1]}}}


@pytest.fixture
def server() -> Iterator[UnrulyServer]:
    with UnrulyServer.serving() as server:
        yield server


def generate(
    server: UnrulyServer, *, deadline: float = 5.0, count: int = 1, schema: Any = SCHEMA, **changes: Any
) -> tuple[list[Generated | CouldNotJudge], HttpGenerator, list[float]]:
    """Ask `count` times in turn; pauses between tries are recorded instead of slept."""
    values = {"url": server.url, "model": "m", "deadline_seconds": 5.0, "breaker_failures": 100, **changes}
    settings = PoolSettings(**values)
    pauses: list[float] = []

    async def no_sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def work() -> tuple[list[Generated | CouldNotJudge], HttpGenerator]:
        async with AsyncHttpClient(deadline_seconds=settings.deadline_seconds) as client:
            generator = HttpGenerator(settings, client, sleep=no_sleep)
            said = [
                await generator.generate(ASKED, max_tokens=70, json_schema=schema, deadline_seconds=deadline)
                for _ in range(count)
            ]
            return said, generator

    said, generator = asyncio.run(work())
    assert all(endpoint.in_flight == 0 for endpoint in generator.endpoints)
    return said, generator, pauses


def failure(said: list[Generated | CouldNotJudge]) -> CouldNotJudge:
    (only,) = said
    assert isinstance(only, CouldNotJudge)
    return only


def test_what_is_asked_and_what_comes_back(server: UnrulyServer) -> None:
    server.script = lambda _body, _number: completion('{"SCORE": 1}', prompt_tokens=1000, completion_tokens=100)
    prices = {"usd_per_million_prompt_tokens": 2.0, "usd_per_million_completion_tokens": 10.0}
    (said,), generator, _ = generate(server, **prices)
    assert isinstance(said, Generated)
    assert (said.text, said.prompt_tokens, said.completion_tokens, said.cut_off) == ('{"SCORE": 1}', 1000, 100, False)
    assert said.cost_usd == pytest.approx(0.003)
    assert generator.model == "m@unpinned"
    (asked,) = server.bodies
    assert [message["role"] for message in asked["messages"]] == ["system", "user"]
    assert (asked["temperature"], asked["max_tokens"], asked["stream"]) == (0.0, 70, False)
    assert asked["response_format"]["json_schema"]["schema"] == SCHEMA


def test_a_form_that_is_refused_is_not_asked_for_again(server: UnrulyServer) -> None:
    def script(body: dict[str, Any], _number: int) -> Any:
        form = body.get("response_format", {})
        return completion("{}") if form == {"type": "json_object"} else status(400, b'{"error": "response_format"}')

    server.script = script
    said, generator, _ = generate(server, count=2)
    assert all(isinstance(one, Generated) for one in said)
    (endpoint,) = generator.endpoints
    assert endpoint.asking.form is ReplyForm.JSON_OBJECT
    assert len(server.bodies) == 4


def test_without_a_schema_no_form_is_asked_for(server: UnrulyServer) -> None:
    server.script = lambda _body, _number: status(400, b"response_format")
    assert failure(generate(server, schema=None)[0]).reason is Unjudgeable.JUDGE_ERROR
    assert len(server.bodies) == 1
    assert "response_format" not in server.bodies[0]


def test_a_server_that_refuses_everything_is_asked_once_a_form(server: UnrulyServer) -> None:
    server.script = lambda _body, _number: status(400, b"no")
    said = failure(generate(server)[0])
    assert said.reason is Unjudgeable.JUDGE_ERROR
    assert "HTTP 400: no" in said.detail
    assert len(server.bodies) == len(ReplyForm)


def test_a_prompt_that_is_too_long_is_final(server: UnrulyServer) -> None:
    server.script = lambda _body, _number: status(400, b"maximum context length is 4096")
    assert failure(generate(server)[0]).reason is Unjudgeable.TOO_LONG
    assert len(server.bodies) == 1


@pytest.mark.parametrize("behaviour", [status(500, b"x"), status(429), noise, cut], ids=["500", "429", "noise", "cut"])
def test_what_may_pass_is_tried_again(server: UnrulyServer, behaviour: Any) -> None:
    server.script = lambda _body, number: completion("{}") if number == 3 else behaviour
    (said,), _, pauses = generate(server, max_attempts=3)
    assert isinstance(said, Generated)
    assert len(pauses) == 2


def test_tries_come_to_an_end(server: UnrulyServer) -> None:
    server.script = lambda _body, _number: status(503)
    said = failure(generate(server, max_attempts=2)[0])
    assert said.reason is Unjudgeable.JUDGE_UNAVAILABLE
    assert len(server.bodies) == 2


def test_a_servers_own_pause_is_kept_and_one_that_is_too_long_not_waited_for(server: UnrulyServer) -> None:
    server.script = lambda _body, number: completion("{}") if number == 2 else status(429, retry_after="7")
    (said,), _, pauses = generate(server)
    assert isinstance(said, Generated)
    assert pauses == [7.0]
    server.script = lambda _body, _number: status(429, retry_after="3600")
    said_late, _, pauses = generate(server)
    assert failure(said_late).reason is Unjudgeable.JUDGE_UNAVAILABLE
    assert pauses == []


@pytest.mark.parametrize("behaviour", [hang, drip], ids=["hang", "drip"])
def test_nobody_waits_past_the_deadline(server: UnrulyServer, behaviour: Any) -> None:
    server.script = lambda _body, _number: behaviour
    said = failure(generate(server, deadline=0.5)[0])
    assert said.reason is Unjudgeable.DEADLINE
    assert "0.5 s" in said.detail


def test_servers_that_keep_failing_are_left_alone(server: UnrulyServer) -> None:
    server.script = lambda _body, _number: hang
    said, _, _ = generate(server, deadline=0.3, count=4, breaker_failures=2)
    assert [one.reason for one in said if isinstance(one, CouldNotJudge)] == [
        Unjudgeable.DEADLINE,
        Unjudgeable.DEADLINE,
        Unjudgeable.JUDGE_UNAVAILABLE,
        Unjudgeable.JUDGE_UNAVAILABLE,
    ]
    assert len(server.bodies) == 2


def test_another_server_takes_over(server: UnrulyServer) -> None:
    server.script = lambda _body, _number: status(500)
    with UnrulyServer.serving() as other:
        other.script = lambda _body, _number: completion("{}")
        said, _, _ = generate(server, urls=[other.url], count=3)
    assert all(isinstance(one, Generated) for one in said)


@pytest.mark.parametrize("body", [b"[]", b"{}", b'{"choices": [{"message": {"content": null}}]}', b"\xff", b"[" * 9999])
def test_garbage_is_no_text(server: UnrulyServer, body: bytes) -> None:
    server.script = lambda _body, _number: status(200, body)
    assert failure(generate(server)[0]).reason is Unjudgeable.UNPARSEABLE


def test_without_a_server_there_is_no_generator() -> None:
    with pytest.raises(JudgeUnavailable):
        HttpGenerator(PoolSettings(), AsyncHttpClient(deadline_seconds=1.0))
