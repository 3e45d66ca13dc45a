import asyncio
import json

import pytest

from monitor.domain.generation import Generated, Message, Role
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.inference.gguf.generation import GgufGenerator
from monitor.inference.gguf.judge import GgufPlan
from monitor.inference.loading import shipped_gguf

pytestmark = pytest.mark.gguf

MODEL = shipped_gguf()
ASKED = (
    Message(role=Role.SYSTEM, content="You rate politeness from 1 to 5."),
    Message(role=Role.USER, content="Rate: Thank you for waiting, I am on my way."),
)
SCHEMA = {
    "type": "object",
    "properties": {
        "FEEDBACK": {"type": "string", "maxLength": 60},
        "SCORE": {"type": "integer", "enum": [1, 2, 3, 4, 5]},
    },
    "required": ["FEEDBACK", "SCORE"],
}


@pytest.fixture(scope="module")
def generator():
    generator = GgufGenerator(MODEL, GgufPlan(context_tokens=512, threads=1))
    yield generator
    generator.close()


def ask(generator, messages=ASKED, **changes):
    wanted = {"max_tokens": 80, "json_schema": SCHEMA, "deadline_seconds": 120.0, **changes}
    return asyncio.run(generator.generate(messages, **wanted))


def test_a_reply_keeps_to_the_schema_and_is_the_same_again(generator):
    first, second = ask(generator), ask(generator)
    assert isinstance(first, Generated)
    assert list(json.loads(first.text)) == ["FEEDBACK", "SCORE"]
    assert json.loads(first.text)["SCORE"] in {1, 2, 3, 4, 5}
    assert 0 < first.completion_tokens < 80
    assert first.prompt_tokens > 20
    assert not first.cut_off
    assert first == second


def test_a_reply_without_a_schema_ends_at_its_limit(generator):
    said = ask(generator, json_schema=None, max_tokens=5)
    assert isinstance(said, Generated)
    assert said.text
    assert said.completion_tokens <= 5
    assert said.cut_off == (said.completion_tokens == 5)


def test_what_does_not_fit_and_what_is_late_could_not_be_judged(generator):
    long = (Message(role=Role.USER, content="word " * 1000),)
    too_long = ask(generator, long)
    late = ask(generator, deadline_seconds=0.01)
    assert isinstance(too_long, CouldNotJudge)
    assert too_long.reason is Unjudgeable.TOO_LONG
    assert isinstance(late, CouldNotJudge)
    assert late.reason is Unjudgeable.DEADLINE
    assert isinstance(ask(generator, max_tokens=3, json_schema=None), Generated)
