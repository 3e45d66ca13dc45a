"""What is asked of a server, and what its answer says: shapes recorded from vLLM's and SGLang's documentation."""

import json

import pytest

from monitor.config import PoolSettings
from monitor.domain.generation import Message, Role
from monitor.domain.judgement import Opinion
from monitor.inference.pool_protocol import (
    Asking,
    ReplyForm,
    most_reply_bytes,
    read_answer,
    read_completion,
    request_body,
    tenant_salt,
)
from monitor.inference.pool_spending import price_of
from monitor.judging.prompts import CLAIMS, LYNX, ROOT, SUPPORT
from monitor.routing.spend import Price, Tokens

ASKED = (Message(role=Role.SYSTEM, content="Judge."), Message(role=Role.USER, content="This."))


def body(family=LYNX, asking=None, salt=None):
    return json.loads(request_body(ASKED, family, PoolSettings(), asking or Asking.of(family), salt=salt))


@pytest.mark.parametrize("family", [LYNX, ROOT, CLAIMS])
def test_json_families_are_asked_for_by_schema_in_the_key_order_of_their_prompt(family):
    asked = body(family)
    assert asked["messages"] == [{"role": "system", "content": "Judge."}, {"role": "user", "content": "This."}]
    schema = asked["response_format"]["json_schema"]["schema"]
    assert tuple(schema["properties"]) == family.json_keys
    assert asked["max_tokens"] == 600
    assert "cache_salt" not in asked


def test_a_bare_word_is_asked_for_by_one_token():
    assert (body(SUPPORT)["max_tokens"], body(SUPPORT)["top_logprobs"]) == (1, 20)
    without = body(SUPPORT, Asking(form=ReplyForm.TEXT, top_logprobs=0))
    assert without["max_tokens"] == 16
    assert not {"logprobs", "top_logprobs", "response_format"} & set(without)


def test_text_that_is_no_unicode_can_be_asked_about():
    asked = (Message(role=Role.USER, content="a\ud800b"),)
    sent = request_body(asked, LYNX, PoolSettings(), Asking(), salt=None)
    assert json.loads(sent)["messages"] == [{"role": "user", "content": "a?b"}]


def test_tenants_have_salts_that_nobody_guesses():
    one, other = tenant_salt("secret", "acme"), tenant_salt("secret", "beta")
    assert one == tenant_salt("secret", "acme")
    assert len({one, other, tenant_salt("another", "acme")}) == 3
    assert len(one) == 44
    assert body(salt=one)["cache_salt"] == one


def completion(usage, content="Yes"):
    choices = [{"message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]
    return read_completion(json.dumps({"choices": choices, "usage": usage}).encode())


@pytest.mark.parametrize(
    ("usage", "tokens"),
    [
        ({"prompt_tokens": 9, "completion_tokens": 2, "total_tokens": 11}, Tokens(prompt=9, completion=2)),
        # vLLM and SGLang without their switch for it.
        ({"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": None}, Tokens(prompt=9, completion=2)),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 8}},
            Tokens(prompt=9, cached=8, completion=2),
        ),
        (
            {"prompt_tokens": 9, "completion_tokens": 2, "prompt_tokens_details": {"cached_tokens": 99}},
            Tokens(prompt=9, cached=9, completion=2),
        ),
        (None, None),
        ({}, None),
        ({"prompt_tokens": True, "completion_tokens": 2}, None),
        ({"prompt_tokens": -1, "completion_tokens": 2}, None),
        ({"prompt_tokens": 2**40, "completion_tokens": 2}, None),
        ({"prompt_tokens": "9", "completion_tokens": 2}, None),
    ],
)
def test_usage_is_what_the_server_says_or_nothing(usage, tokens):
    assert completion(usage).tokens == tokens


def test_claims_without_support_become_spans_of_the_answer():
    answer = "Ada wrote it. It was in 1900."
    claims = [
        {"CLAIM": "Ada wrote it.", "VERDICT": "SUPPORTED"},
        {"CLAIM": "It was in 1900.", "VERDICT": "UNSUPPORTED"},
    ]
    said = completion(None, json.dumps({"CLAIMS": claims, "SCORE": "FAIL"}))
    opinion = read_answer(said, CLAIMS, Asking.of(CLAIMS), judged=answer)
    assert isinstance(opinion, Opinion)
    assert [answer[span.start : span.end] for span in opinion.unsupported] == ["It was in 1900"]


def test_the_longest_honest_reply_fits():
    settings = PoolSettings(max_tokens=8192)
    token = {"token": " abcdefgh", "logprob": -12.345678901234567, "bytes": list(range(100, 110))}
    assert len(json.dumps({**token, "top_logprobs": [token] * 20})) * 8192 < most_reply_bytes(settings)


def test_the_price_is_the_models_in_the_table_else_the_flat_one():
    flat = {"usd_per_million_prompt_tokens": 2.0, "usd_per_million_completion_tokens": 10.0}
    table = {"lynx-70b": {"prompt": 0.4, "cached_prompt": 0.1, "completion": 1.2}, "small": {"prompt": 0.2}}
    assert price_of(PoolSettings(**flat)) == Price(prompt=2.0, cached_prompt=2.0, completion=10.0)
    assert price_of(PoolSettings(**flat, prices=table)) == Price(prompt=0.4, cached_prompt=0.1, completion=1.2)
    assert price_of(PoolSettings(model="small", prices=table)) == Price(prompt=0.2, cached_prompt=0.2)
