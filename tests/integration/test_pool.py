import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from monitor.config import GgufSettings, PoolSettings, Settings
from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import CouldNotJudge, Opinion, Unjudgeable
from monitor.domain.trace import Document, Trace
from monitor.inference.loading import load_edge, shipped_gguf
from monitor.inference.pool import PoolJudge
from monitor.inference.pool_failure import Later, PassingFailure
from monitor.inference.pool_protocol import ReplyForm
from monitor.outbound import AsyncHttpClient, HttpClient, OutboundError

TRACE = Trace(
    trace_id="t",
    event_time=datetime(2026, 1, 1, tzinfo=UTC),
    tenant="a",
    service="b",
    environment="c",
    question="Who?",
    documents=(Document(id="d", text="Ada Lovelace wrote the first program in 1843."),),
    answer="Ada did.",
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Scripted:
    """A real HTTP server on loopback that answers each request as the test says; it keeps what it was sent."""

    def __init__(self) -> None:
        self.answer: Callable[[dict, int], Response | float] = lambda _body, _number: completion()
        self.bodies: list[dict] = []
        self.headers: list[dict] = []
        self.port = free_port()
        app = Starlette(routes=[Route("/v1/chat/completions", self._serve, methods=["POST"])])
        config = uvicorn.Config(app, host="127.0.0.1", port=self.port, log_level="critical", ws="none")
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run)

    async def _serve(self, request: Request) -> Response:
        body = json.loads(await request.body())
        self.bodies.append(body)
        self.headers.append(dict(request.headers))
        answered = self.answer(body, len(self.bodies))
        while isinstance(answered, float):
            if await request.is_disconnected():
                return Response(status_code=499)
            await asyncio.sleep(answered)
        return answered


@pytest.fixture(scope="module")
def scripted_server():
    server = Scripted()
    server.thread.start()
    while not server.server.started:
        time.sleep(0.01)
    yield server
    server.server.should_exit = True
    server.thread.join()


@pytest.fixture
def server(scripted_server):
    scripted_server.bodies.clear()
    scripted_server.headers.clear()
    return scripted_server


def completion(content='{"REASONING": ["it says so"], "SCORE": "PASS"}', **choice):
    message = {"message": {"role": "assistant", "content": content}, "finish_reason": "stop", **choice}
    return JSONResponse({"choices": [message], "usage": {"prompt_tokens": 1000, "completion_tokens": 100}})


def settings(server, **changes):
    values = {"url": f"http://127.0.0.1:{server.port}/v1", "deadline_seconds": 5.0, **changes}
    return PoolSettings(**values)


def judge_all(wanted, count=1, pauses=None, clock=None):
    """Judge the trace `count` times in turn; pauses between retries are recorded instead of slept."""

    async def no_sleep(seconds):
        if pauses is not None:
            pauses.append(seconds)

    async def work():
        async with AsyncHttpClient(deadline_seconds=wanted.deadline_seconds) as client:
            pool = PoolJudge(wanted, client, sleep=no_sleep, stopwatch=clock or time.monotonic)
            return [await pool.judge(TRACE) for _ in range(count)], pool

    return asyncio.run(work())


def test_a_verdict_with_reasoning_usage_and_cost(server):
    server.answer = lambda _body, _number: completion()
    priced = settings(server, usd_per_million_prompt_tokens=2.0, usd_per_million_completion_tokens=10.0, api_key="k3y")
    (opinion,), pool = judge_all(priced)
    assert isinstance(opinion, Opinion)
    assert opinion.raw_score == -2.0  # without log-probabilities: a fixed log-odds
    assert opinion.reasoning == "it says so"
    assert (opinion.usage.prompt_tokens, opinion.usage.completion_tokens) == (1000, 100)
    assert opinion.usage.cost_usd == pytest.approx(0.003)
    assert server.headers[0]["authorization"] == "Bearer k3y"
    (asked,) = server.bodies
    assert asked["temperature"] == 0.0
    assert asked["max_tokens"] == 600
    assert asked["logprobs"] is True
    assert list(asked["response_format"]["json_schema"]["schema"]["properties"]) == ["REASONING", "SCORE"]
    assert TRACE.answer in asked["messages"][0]["content"]
    assert pool.identity.model_digest == "unpinned"


def logprobs(*tokens):
    return {
        "content": [
            {"token": text, "logprob": top[text], "top_logprobs": [{"token": t, "logprob": p} for t, p in top.items()]}
            for text, top in tokens
        ]
    }


@pytest.mark.parametrize(
    ("tokens", "score"),
    [
        ([('{"SCORE": "', {'{"SCORE": "': 0.0}), ("FAIL", {"FAIL": -0.1, "PASS": -2.4})], 2.3),
        (
            [('{"SCORE":', {'{"SCORE":': 0.0}), (' "F', {' "F': -0.1, ' "P': -3.1, " 1": -9.0}), ("AIL", {"AIL": 0})],
            3.0,
        ),
        ([('{"SCORE": "', {'{"SCORE": "': 0.0}), ("FAIL", {"FAIL": -0.5, "maybe": -1.5})], 1.0),
    ],
)
def test_the_score_is_read_from_the_log_probabilities_of_the_verdict(server, tokens, score):
    tokens = [*tokens, ('"}', {'"}': 0.0})]
    content = "".join(text for text, _ in tokens)
    server.answer = lambda _body, _number: completion(content, logprobs=logprobs(*tokens))
    (opinion,), _ = judge_all(settings(server))
    assert isinstance(opinion, Opinion)
    assert opinion.raw_score == pytest.approx(score)


def test_a_bare_word_costs_one_token_and_gives_its_log_odds(server):
    top = {"No": -0.2, "Yes": -1.9, " No": -6.0}
    server.answer = lambda _body, _number: completion("No", logprobs=logprobs(("No", top)), finish_reason="length")
    (opinion,), _ = judge_all(settings(server, prompt="support"))
    assert isinstance(opinion, Opinion)
    assert opinion.raw_score == pytest.approx(1.703, abs=0.001)
    (asked,) = server.bodies
    assert (asked["max_tokens"], asked["top_logprobs"], asked["temperature"]) == (1, 20, 0.0)
    assert "response_format" not in asked


def test_a_bare_word_is_waited_for_where_a_blank_comes_first(server):
    def thinks(body, _number):
        if body["max_tokens"] == 1:
            return completion("\n", logprobs=logprobs(("\n", {"\n": 0.0})))
        said = ("\n", {"\n": 0.0}), ("Yes", {"Yes": -0.1, "No": -2.4})
        return completion("\nYes", logprobs=logprobs(*said))

    server.answer = thinks
    opinions, _ = judge_all(settings(server, prompt="support", max_attempts=1), count=2)
    assert [opinion.raw_score for opinion in opinions] == [pytest.approx(-2.3)] * 2
    assert [body["max_tokens"] for body in server.bodies] == [1, 16, 16]


def test_a_bare_word_without_log_probabilities_is_a_fixed_score(server):
    server.answer = lambda body, _number: (
        JSONResponse({"error": {"message": "logprobs is not supported"}}, 500)
        if "logprobs" in body
        else completion("No.")
    )
    opinions, _ = judge_all(settings(server, prompt="support", max_attempts=1), count=2)
    assert [opinion.raw_score for opinion in opinions] == [2.0, 2.0]
    assert [body.get("top_logprobs") for body in server.bodies] == [20, 5, None, None]


def test_a_server_that_allows_fewer_log_probabilities_is_asked_for_fewer(server):
    def at_most_five(body, _number):
        if body["top_logprobs"] > 5:
            return JSONResponse({"error": {"message": "Requested sample logprobs of 20, which is above 5"}}, 400)
        return completion("Yes", logprobs=logprobs(("Yes", {"Yes": -0.1, "No": -2.4})))

    server.answer = at_most_five
    (opinion,), pool = judge_all(settings(server, prompt="support", max_attempts=1))
    assert opinion.raw_score == pytest.approx(-2.3)
    assert pool.asking.top_logprobs == 5


def test_forms_are_negotiated_and_remembered(server):
    def only_text(body, _number):
        if "response_format" in body:
            return JSONResponse({"error": {"message": "response_format is not supported"}}, 400)
        return completion("SCORE: FAIL")

    server.answer = only_text
    opinions, pool = judge_all(settings(server, max_attempts=1), count=2)
    assert [opinion.raw_score for opinion in opinions] == [2.0, 2.0]
    forms = [(body.get("response_format") or {"type": None})["type"] for body in server.bodies]
    assert forms == ["json_schema", "json_object", "json_object", None, None]
    assert pool.asking.form is ReplyForm.TEXT
    assert pool.asking.logprobs


def test_a_server_without_log_probabilities_is_asked_without(server):
    def refuse(body, _number):
        message = {"error": {"message": "logprobs is not supported for models created with logits_all=False"}}
        return JSONResponse(message, 500) if "logprobs" in body else completion()

    server.answer = refuse
    (opinion,), pool = judge_all(settings(server, max_attempts=1))
    assert isinstance(opinion, Opinion)
    assert (pool.asking.form, pool.asking.logprobs) == (ReplyForm.JSON_SCHEMA, False)


def test_a_refusal_of_one_trace_is_final_and_teaches_nothing(server):
    server.answer = lambda _body, _number: JSONResponse({"error": {"message": "I will not"}}, 400)
    (outcome,), pool = judge_all(settings(server))
    assert isinstance(outcome, CouldNotJudge)
    assert outcome.reason is Unjudgeable.JUDGE_ERROR
    assert not isinstance(outcome, PassingFailure)
    assert pool.asking.form is ReplyForm.JSON_SCHEMA
    assert not pool.is_open


def test_a_prompt_beyond_the_servers_context_is_too_long(server):
    message = "This model's maximum context length is 8192 tokens. However, you requested 9000 tokens"
    server.answer = lambda _body, _number: JSONResponse({"error": {"message": message}}, 400)
    (outcome,), _ = judge_all(settings(server))
    assert isinstance(outcome, CouldNotJudge)
    assert outcome.reason is Unjudgeable.TOO_LONG
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    ("status", "later"),
    [(429, Later.UNCOUNTED), (503, Later.UNCOUNTED), (500, Later.COUNTED), (502, Later.COUNTED), (504, Later.COUNTED)],
)
def test_failures_that_pass_are_retried_within_bounds(server, status, later):
    server.answer = lambda _body, number: Response(status_code=status) if number < 3 else completion()
    pauses = []
    (opinion,), _ = judge_all(settings(server, max_attempts=3), pauses=pauses)
    assert isinstance(opinion, Opinion)
    assert len(pauses) == 2
    assert all(0 <= pause <= 1.0 for pause in pauses)
    server.bodies.clear()
    server.answer = lambda _body, _number: Response(status_code=status)
    (outcome,), _ = judge_all(settings(server, max_attempts=3))
    assert isinstance(outcome, PassingFailure)
    assert outcome.later is later
    assert len(server.bodies) == 3


def test_the_servers_own_pause_is_kept_and_a_long_one_ends_the_call(server):
    server.answer = lambda _body, number: (
        Response(status_code=429, headers={"retry-after": "7"}) if number == 1 else completion()
    )
    pauses = []
    (opinion,), _ = judge_all(settings(server), pauses=pauses)
    assert isinstance(opinion, Opinion)
    assert pauses == [7.0]
    server.bodies.clear()
    server.answer = lambda _body, _number: Response(status_code=503, headers={"retry-after": "3600"})
    (outcome,), _ = judge_all(settings(server))
    assert isinstance(outcome, CouldNotJudge)
    assert outcome.reason is Unjudgeable.JUDGE_UNAVAILABLE
    assert len(server.bodies) == 1


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_wrong_key_or_address_is_not_hammered(server, status):
    server.answer = lambda _body, _number: Response(status_code=status)
    (outcome,), _ = judge_all(settings(server))
    assert isinstance(outcome, CouldNotJudge)
    assert outcome.reason is Unjudgeable.JUDGE_UNAVAILABLE
    assert len(server.bodies) == 1


@pytest.mark.parametrize(
    "answer",
    [
        lambda: Response(b"\xff\xfenot json"),
        lambda: JSONResponse([]),
        lambda: JSONResponse({"choices": []}),
        lambda: JSONResponse({"choices": [{"message": {"content": None}}]}),
        lambda: completion(""),
        lambda: completion('{"REASONING": ["never end', finish_reason="length"),
        lambda: completion('{"SCORE": "MAYBE"}'),
        lambda: Response(b"[" * 100_000),
    ],
)
def test_garbage_is_unparseable_and_never_a_verdict(server, answer):
    server.answer = lambda _body, _number: answer()
    (outcome,), _ = judge_all(settings(server))
    assert isinstance(outcome, CouldNotJudge)
    assert outcome.reason is Unjudgeable.UNPARSEABLE
    assert len(server.bodies) == 1


def test_a_hung_server_holds_no_slot_past_the_deadline(server):
    server.answer = lambda _body, number: 0.05 if number <= 2 else completion()
    outcomes, _ = judge_all(settings(server, deadline_seconds=0.3, max_attempts=1, concurrency=1), count=3)
    assert [getattr(outcome, "reason", None) for outcome in outcomes] == [
        Unjudgeable.DEADLINE,
        Unjudgeable.DEADLINE,
        None,
    ]


def test_a_dead_server_opens_the_circuit_and_its_return_closes_it(server):
    clock = [0.0]

    def down(_body, number):
        return Response(status_code=503) if number <= 3 else completion()

    server.answer = down
    wanted = settings(server, max_attempts=1, breaker_failures=3, breaker_reset_seconds=30.0)

    async def work():
        async with AsyncHttpClient(deadline_seconds=5.0) as client:
            pool = PoolJudge(wanted, client, stopwatch=lambda: clock[0])
            for _ in range(3):
                assert isinstance(await pool.judge(TRACE), CouldNotJudge)
            assert pool.is_open
            held = await pool.judge(TRACE)
            assert isinstance(held, PassingFailure)
            assert (held.later, held.detail) == (Later.POOL_AWAY, "the circuit is open")
            assert len(server.bodies) == 3
            clock[0] = 31.0
            assert isinstance(await pool.judge(TRACE), Opinion)
            assert not pool.is_open

    asyncio.run(work())


def test_one_prompt_that_a_server_fails_on_does_not_open_the_circuit(server):
    server.answer = lambda _body, number: Response(status_code=500) if number <= 8 else completion()
    outcomes, pool = judge_all(settings(server, max_attempts=4, breaker_failures=3), count=3)
    assert [getattr(outcome, "later", None) for outcome in outcomes] == [Later.COUNTED, Later.COUNTED, None]
    assert not pool.is_open


def test_a_failure_that_opens_the_circuit_is_told_as_it_was(server):
    server.answer = lambda _body, _number: Response(status_code=500)
    (failed, held), pool = judge_all(settings(server, breaker_failures=1), count=2)
    assert (failed.later, held.later) == (Later.COUNTED, Later.POOL_AWAY)
    assert pool.is_open
    assert len(server.bodies) == 1


def test_nobody_listens():
    nobody = PoolSettings(
        url=f"http://127.0.0.1:{free_port()}/v1", max_attempts=2, deadline_seconds=2.0, breaker_failures=2
    )
    (unreached, held), _ = judge_all(nobody, count=2)
    assert (unreached.reason, held.reason) == (Unjudgeable.JUDGE_UNAVAILABLE,) * 2
    assert (unreached.later, held.later) == (Later.UNCOUNTED, Later.POOL_AWAY)


def test_no_more_calls_at_a_time_than_allowed(server):
    running, most = 0, 0

    async def work():
        nonlocal running, most
        async with AsyncHttpClient(deadline_seconds=10.0) as client:
            pool = PoolJudge(settings(server, concurrency=3), client)
            post = client.post

            async def counted(*args, **keywords):
                nonlocal running, most
                running += 1
                most = max(most, running)
                await asyncio.sleep(0.01)
                try:
                    return await post(*args, **keywords)
                finally:
                    running -= 1

            client.post = counted
            return await asyncio.gather(*(pool.judge(TRACE) for _ in range(12)))

    server.answer = lambda _body, _number: completion()
    assert all(isinstance(outcome, Opinion) for outcome in asyncio.run(work()))
    assert most == 3


def test_without_a_url_there_is_no_pool():
    with pytest.raises(JudgeUnavailable):
        PoolJudge(PoolSettings(), None)


@pytest.fixture(scope="module")
def llama_server(tmp_path_factory):
    """llama-cpp-python's OpenAI-compatible server on SmolLM2: the pool of the demo."""
    port = free_port()
    model = shipped_gguf()
    assert model is not None
    command = [sys.executable, "-m", "llama_cpp.server", "--model", str(model), "--model_alias", "smollm2"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--n_ctx", "1024", "--logits_all", "true"]
    log = tmp_path_factory.mktemp("llama") / "server.log"
    with log.open("wb") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out, env={**os.environ, "HOST": "127.0.0.1"})
    try:
        ends = time.monotonic() + 60
        with HttpClient(deadline_seconds=2.0) as client:
            while time.monotonic() < ends and process.poll() is None:
                with contextlib.suppress(OutboundError):
                    if client.get(f"http://127.0.0.1:{port}/v1/models").status == 200:
                        break
                time.sleep(0.1)
        assert process.poll() is None, log.read_text()
        yield PoolSettings(url=f"http://127.0.0.1:{port}/v1", model="smollm2", deadline_seconds=120.0, max_attempts=1)
    finally:
        process.terminate()
        process.wait(timeout=30)


@pytest.mark.gguf
def test_a_real_server_gives_real_verdicts(llama_server):
    (first, second), pool = judge_all(llama_server, count=2)
    assert isinstance(first, Opinion)
    assert isinstance(second, Opinion)
    assert first.reasoning
    assert first.usage.prompt_tokens > 200
    assert first.usage.completion_tokens > 5
    assert abs(first.raw_score) != 2.0  # read from log-probabilities
    assert second.raw_score == pytest.approx(first.raw_score, abs=0.05)
    assert pool.asking.form is ReplyForm.JSON_OBJECT_WITH_SCHEMA


@pytest.mark.gguf
def test_a_real_server_gives_the_log_odds_of_a_bare_word(llama_server):
    (first, second), pool = judge_all(llama_server.model_copy(update={"prompt": "support"}), count=2)
    assert isinstance(first, Opinion)
    assert abs(first.raw_score) != 2.0
    # The same prompt again is answered from the same logits.
    assert second.raw_score == first.raw_score
    assert first.usage.completion_tokens == 1
    assert pool.asking.first_token


@pytest.mark.gguf
def test_the_pool_and_the_edge_read_the_same_log_odds_from_the_same_model(llama_server):
    (pooled,), _ = judge_all(llama_server.model_copy(update={"prompt": "support"}))
    edge = load_edge(Settings(gguf=GgufSettings(path=shipped_gguf(), prompt="support", context_tokens=1024)))
    assert edge is not None
    try:
        own = edge.judge(TRACE, deadline_seconds=120.0)
    finally:
        edge.close()
    assert isinstance(own, Opinion)
    # The pool's has all spellings of each word, the edge's the one that was asked for; and the two cut the prompt
    # differently. Seen: 0.29 apart on one machine, less than 0.2 on others.
    assert pooled.raw_score == pytest.approx(own.raw_score, abs=0.5)


@pytest.mark.gguf
def test_a_real_server_says_that_a_prompt_is_too_long(llama_server):
    async def work():
        async with AsyncHttpClient(deadline_seconds=60.0) as client:
            long = Trace(
                trace_id="long",
                event_time=TRACE.event_time,
                tenant="a",
                service="b",
                environment="c",
                question="",
                documents=(Document(id="d", text="word " * 5000),),
                answer="x",
            )
            return await PoolJudge(llama_server, client).judge(long)

    outcome = asyncio.run(work())
    assert isinstance(outcome, CouldNotJudge)
    assert outcome.reason is Unjudgeable.TOO_LONG
