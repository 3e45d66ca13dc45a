import json
import sys
import threading
import time

import pytest

from monitor.benchmarks.counting_proxy import counting_proxy
from monitor.benchmarks.labelled import read_labelled
from monitor.benchmarks.peer_driver import QUIET
from monitor.benchmarks.peers import Answer, Peer, our_answers
from monitor.benchmarks.peers_report import Contestant, lines, to_json, to_markdown
from monitor.domain.judgement import CouldNotJudge, Opinion, Unjudgeable, Usage
from monitor.embedded.processes import ProcessFailed
from monitor.outbound import HttpClient
from tests.examples.labelled import labelled, written
from tests.support.completions import completions

RAGAS = """
import asyncio, json, os, urllib.request

class Faithfulness:
    def __init__(self, llm):
        self.llm = llm

    async def ascore(self, user_input, response, retrieved_contexts):
        self.llm(response)
        if "dies" in user_input:
            os._exit(3)
        if "hangs" in user_input:
            await asyncio.sleep(60)
        if "raises" in user_input:
            raise RuntimeError("no JSON in sight")
        if "nan" in user_input:
            return type("Result", (), {"value": float("nan")})
        quiet = os.environ.get("RAGAS_DO_NOT_TRACK")
        return type("Result", (), {"value": 0.25 if quiet == "true" else 0.0})
"""
LLMS = """
import json, urllib.request

def llm_factory(model, client, temperature, max_tokens):
    def ask(text):
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": text}]}).encode()
        headers = {"content-type": "application/json"}
        for _ in range(2):
            urllib.request.urlopen(urllib.request.Request(client.url + "/chat/completions", body, headers)).read()
    return ask
"""
OPENAI = """
class AsyncOpenAI:
    def __init__(self, base_url, api_key):
        self.url = base_url
"""


@pytest.fixture
def library(tmp_path, monkeypatch):
    """A package that calls itself Ragas, for the driver's process: two calls a trace, and every kind of failure."""
    folder = tmp_path / "site"
    (folder / "ragas/metrics/collections").mkdir(parents=True)
    (folder / "ragas-0.0.7.dist-info").mkdir()
    (folder / "ragas-0.0.7.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: ragas\nVersion: 0.0.7\n")
    (folder / "ragas/__init__.py").touch()
    (folder / "ragas/metrics/__init__.py").touch()
    (folder / "ragas/metrics/collections/__init__.py").write_text(RAGAS)
    (folder / "ragas/llms.py").write_text(LLMS)
    (folder / "openai.py").write_text(OPENAI)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def peer(tmp_path, library="ragas", deadline=30.0):
    return Peer(
        library=library,
        python=sys.executable,
        model="m",
        max_tokens=64,
        deadline_seconds=deadline,
        directory=tmp_path,
    )


def rows_asking(tmp_path, *questions):
    rows = [{**row, "question": question} for row, question in zip(labelled("a", 10), questions, strict=False)]
    return read_labelled([written(tmp_path / "a.jsonl", rows)])


def test_every_answer_counts_whatever_the_library_does(tmp_path, library):
    rows = rows_asking(tmp_path, "fine", "raises", "nan", "dies", "fine", "hangs", "fine")
    ticks = []
    with completions(lambda _: "yes") as server, counting_proxy(server.url) as proxy:
        version, answers = peer(tmp_path, deadline=4.0).answers(rows, proxy, lambda: ticks.append(1))

    assert version == "0.0.7"
    assert [answer.id for answer in answers] == [f"a/a-{place}" for place in range(7)]
    assert [answer.score for answer in answers] == [0.75, None, None, None, 0.75, None, 0.75]
    errors = [answer.error for answer in answers]
    assert errors[1] == "RuntimeError: no JSON in sight"
    assert "nan" in errors[2]
    assert errors[3] == "the process ended"
    assert errors[5] == "no score within 4 s"
    assert errors[0] is errors[4] is errors[6] is None
    # Two calls each, of 7 and 3 tokens, in the server's own words.
    assert {(one.calls, one.refused, one.prompt_tokens, one.completion_tokens) for one in answers} == {(2, 0, 14, 6)}
    assert len(ticks) == 7
    assert len(server.messages) == 14


def test_an_interpreter_without_the_library_is_named_with_the_way_out(tmp_path):
    rows = rows_asking(tmp_path, "fine")
    refused = pytest.raises(ProcessFailed, match=r"cannot run deepeval: install groundwatch\[bench\]")
    with completions(lambda _: "yes") as server, counting_proxy(server.url) as proxy, refused:
        peer(tmp_path, library="deepeval").answers(rows, proxy, lambda: None)


def test_telemetry_is_off_by_the_libraries_own_switches():
    assert QUIET["DEEPEVAL_TELEMETRY_OPT_OUT"] == "YES"
    assert QUIET["RAGAS_DO_NOT_TRACK"] == "true"


def test_the_proxy_passes_answers_and_refusals_on_and_counts_them():
    with (
        completions(lambda text: 429 if text == "no" else f"said {text}") as server,
        counting_proxy(server.url) as proxy,
        HttpClient(deadline_seconds=10.0) as client,
    ):
        bodies = [json.dumps({"messages": [{"role": "user", "content": text}]}).encode() for text in ("yes", "no")]
        asked = [client.post(f"{proxy.url}/chat/completions", body, {}) for body in bodies]
        assert client.get(f"{proxy.url}/models").status == 200
        calls = proxy.take()
        assert proxy.take() == []
    assert [answer.status for answer in asked] == [200, 429]
    assert asked[0].json()["choices"][0]["message"]["content"] == "said yes"
    assert [(call.status, call.prompt_tokens, call.completion_tokens) for call in calls] == [(200, 7, 3), (429, 0, 0)]


def test_a_server_that_is_gone_is_a_counted_502():
    with completions(lambda _: "yes") as server:
        url = server.url
    with counting_proxy(url) as proxy, HttpClient(deadline_seconds=10.0) as client:
        assert client.post(f"{proxy.url}/chat/completions", b"{}", {}).status == 502
        assert [call.status for call in proxy.take()] == [502]


def test_idle_means_that_the_server_has_answered_what_it_was_asked():
    let_go = threading.Event()

    def slowly(_):
        let_go.wait(20)
        return "yes"

    with completions(slowly) as server, counting_proxy(server.url) as proxy:
        body = json.dumps({"messages": [{"role": "user", "content": "x"}]}).encode()

        def ask():
            with HttpClient(deadline_seconds=20.0) as client:
                client.post(f"{proxy.url}/chat/completions", body, {})

        asking = threading.Thread(target=ask)
        asking.start()
        while not server.messages:
            time.sleep(0.01)
        assert not proxy.wait_until_idle(deadline_seconds=0.1)
        let_go.set()
        asking.join()
        assert proxy.wait_until_idle(deadline_seconds=10.0)


def test_our_own_judges_usage_is_counted_where_there_is_no_proxy(tmp_path):
    rows = rows_asking(tmp_path, "fine", "silent")

    def ask(trace):
        if trace.question == "silent":
            return CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail="9 tokens")
        return Opinion(raw_score=1.5, usage=Usage(prompt_tokens=40))

    first, second = our_answers(rows, ask, lambda: None, proxy=None)
    assert (first.score, first.calls, first.prompt_tokens) == (1.5, 1, 40)
    assert (second.score, second.error) == (None, "too_long: 9 tokens")


def answer(number, score, seconds, *, error=None):
    return Answer(
        id=str(number),
        hallucinated=bool(number % 2),
        score=score,
        error=error,
        seconds=seconds,
        calls=2,
        prompt_tokens=9,
    )


def test_the_report_counts_all_traces_and_compares_with_ours():
    ours = Contestant(name="ours", version="1", answers=[answer(n, float(n % 2), 1.0) for n in range(4)], ours=True)
    theirs = Contestant(
        name="theirs",
        version="2",
        answers=[
            answer(0, 0.1, 5.0),
            answer(1, None, 9.0, error="E: <x at 0x7f1e>\nb"),
            answer(2, 0.6, 5.0),
            answer(3, 0.5, 5.0),
        ],
    )
    result = to_json([ours, theirs], {"server": {"model": "m"}})
    one, other = result["judges"]
    assert (one["auroc"], one["seconds_times_ours"], one["no_score"]) == (1.0, 1.0, 0.0)
    assert (other["auroc"], other["seconds_times_ours"], other["no_score"]) == (0.5, 6.0, 0.25)
    assert len(other["answers"]) == 4
    assert lines(result)[1][:3] == ["theirs", "4", "25%"]
    assert "theirs without a score, 1 of them: E: <x>\n" in to_markdown(result)
    json.dumps(result)


def test_one_label_alone_has_no_auroc():
    ours = Contestant(name="ours", version="1", answers=[answer(0, 0.5, 1.0)], ours=True)
    assert to_json([ours], {})["judges"][0]["auroc"] is None
