"""Log-odds from every shape in which servers give log-probabilities."""

import math

import pytest

from monitor.domain.verdict import Label
from monitor.inference.pool_logprobs import (
    LEAST_LOGPROB,
    ReplyToken,
    reply_tokens,
    verdict_first_log_odds,
    verdict_log_odds,
)
from monitor.judging.prompts import LYNX, SUPPORT


def token(text, **alternatives):
    return ReplyToken(text=text, alternatives=alternatives or {text: -0.1})


OPENAI = {
    "logprobs": {
        "content": [
            {
                "token": "Yes",
                "logprob": -0.25,
                "bytes": [89, 101, 115],
                "top_logprobs": [{"token": "Yes", "logprob": -0.25}, {"token": "No", "logprob": -1.75}],
            }
        ],
        "refusal": None,
    }
}
COMPLETIONS = {
    "logprobs": {
        "tokens": ["Yes"],
        "token_logprobs": [-0.25],
        "top_logprobs": [{"Yes": -0.25, "No": -1.75}],
        "text_offset": [0],
    }
}
SGLANG = {
    "meta_info": {
        "output_token_logprobs": [[-0.25, 9454, "Yes"]],
        "output_top_logprobs": [[[-0.25, 9454, "Yes"], [-1.75, 2753, "No"]]],
    }
}


@pytest.mark.parametrize("choice", [OPENAI, COMPLETIONS, SGLANG], ids=["openai", "completions", "sglang"])
def test_every_shape_says_the_same(choice):
    (said,) = reply_tokens(choice)
    assert said == ReplyToken(text="Yes", alternatives={"Yes": -0.25, "No": -1.75})
    assert verdict_first_log_odds((said,), SUPPORT) == pytest.approx(-1.5)


@pytest.mark.parametrize(
    "choice",
    [
        {},
        {"logprobs": None},
        {"logprobs": {"content": None}},
        {"logprobs": {"content": [{"token": "Yes"}]}},
        {"logprobs": {"content": [{"token": 7, "logprob": -1.0}]}},
        {"logprobs": {"content": ["Yes"]}},
        {"logprobs": {"content": [{"token": "Yes", "logprob": 10**400}]}},
        {"logprobs": {"tokens": ["Yes"], "token_logprobs": []}},
        {"logprobs": {"tokens": ["Yes"], "token_logprobs": [None]}},
        {"meta_info": {"output_token_logprobs": [[-0.25, 9454, None]]}},
        {"meta_info": {"output_token_logprobs": [["x", 9454, "Yes"]]}},
    ],
)
def test_what_is_in_no_known_shape_is_nothing(choice):
    assert reply_tokens(choice) == ()


def test_all_spellings_of_a_verdict_count_for_it():
    said = token("Yes", **{"Yes": math.log(0.5), " yes": math.log(0.2), "No": math.log(0.2), "No.": math.log(0.1)})
    assert verdict_first_log_odds((said,), SUPPORT) == pytest.approx(math.log(0.3 / 0.7))


def test_words_that_only_begin_like_a_verdict_count_for_none():
    said = token("Not", **{"Not": -0.1, "Nothing": -2.0, "Yesterday": -2.5, "None": -3.0})
    assert verdict_first_log_odds((said,), SUPPORT) is None


def test_the_verdict_is_read_although_another_word_was_likelier():
    said = token("Based", Based=-0.1, Yes=-3.0, No=-5.0)
    assert verdict_first_log_odds((said,), SUPPORT) == pytest.approx(-2.0)


def test_a_verdict_that_is_not_among_the_alternatives_is_at_most_as_likely_as_the_last_of_them():
    said = token("No", No=-0.01, The=-7.0)
    assert verdict_first_log_odds((said,), SUPPORT) == pytest.approx(6.99)


def test_blank_tokens_are_passed_over_and_nothing_else_is():
    blank, verdict, other = token("\n\n"), token("No", No=-0.5, Yes=-1.5), token("The")
    assert verdict_first_log_odds((blank, verdict), SUPPORT) == pytest.approx(1.0)
    assert verdict_first_log_odds((other, verdict), SUPPORT) is None
    assert verdict_first_log_odds((blank,), SUPPORT) is None
    assert verdict_first_log_odds((), SUPPORT) is None


def test_what_a_grammar_masked_out_is_no_infinite_evidence():
    top = [{"token": "No", "logprob": 0.0}, {"token": "Yes", "logprob": -9999.0}, {"token": "x", "logprob": math.nan}]
    (said,) = reply_tokens({"logprobs": {"content": [{"token": "No", "logprob": 0.0, "top_logprobs": top}]}})
    assert verdict_first_log_odds((said,), SUPPORT) == -LEAST_LOGPROB


def test_the_verdict_in_json_is_read_where_it_begins():
    reply = (token('{"SCORE":'), token(' "F', **{' "F': -0.1, ' "P': -3.1, " 1": -9.0}), token("AIL"), token('"}'))
    assert verdict_log_odds(reply, LYNX, label=Label.HALLUCINATED) == pytest.approx(3.0)


def test_tokens_that_spell_another_verdict_than_the_text_are_not_trusted():
    reply = (token('{"SCORE": "'), token("FAIL", FAIL=-0.1, PASS=-2.0), token('"}'))
    assert verdict_log_odds(reply, LYNX, label=Label.FAITHFUL) is None
    assert verdict_log_odds(reply[:1], LYNX, label=Label.FAITHFUL) is None
