"""Log-odds of a verdict from the log-probabilities that a server gives, in the shapes that servers give them in.

    OpenAI chat (vLLM, SGLang, llama.cpp)   {"content": [{"token", "logprob", "top_logprobs": [{"token", "logprob"}]}]}
    OpenAI completions, the older shape     {"tokens": […], "token_logprobs": […], "top_logprobs": [{token: logprob}]}
    SGLang's own `meta_info`                {"output_token_logprobs": [[logprob, id, token]],
                                             "output_top_logprobs": [[[logprob, id, token], …], …]}

What servers give is the model's own distribution: vLLM by default from before any grammar or temperature
(`--logprobs-mode raw_logprobs`), SGLang and llama-cpp-python the softmax of the logits.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from monitor.domain.verdict import Label
from monitor.judging.parsing import parse_reply
from monitor.judging.prompts import PromptFamily

LEAST_LOGPROB = -30.0
"""Less likely counts as this likely. vLLM writes -9999 for "masked out": no evidence is that strong."""

_AROUND_A_WORD = " \t\r\n\"'*`_"


@dataclass(frozen=True, slots=True)
class ReplyToken:
    """One token of a reply, with the log-probabilities of what could have stood in its place, itself included."""

    text: str
    alternatives: Mapping[str, float]


def reply_tokens(choice: Mapping[str, Any]) -> tuple[ReplyToken, ...]:
    """The reply's tokens in order; none where the server gave no log-probabilities, or in a shape unknown here."""
    reported = choice.get("logprobs")
    if not isinstance(reported, dict):
        reported = choice.get("meta_info")
    if not isinstance(reported, dict):
        return ()
    try:
        return tuple(_read(reported))
    except (AttributeError, IndexError, KeyError, OverflowError, TypeError, ValueError):
        return ()


def _read(reported: Mapping[str, Any]) -> Iterator[ReplyToken]:
    if isinstance(reported.get("content"), list):
        for token in reported["content"]:
            others = [(other["token"], other["logprob"]) for other in token.get("top_logprobs") or ()]
            yield _token(token["token"], token["logprob"], others)
    elif "token_logprobs" in reported:
        tops = reported.get("top_logprobs") or [None] * len(reported["tokens"])
        for text, logprob, top in zip(reported["tokens"], reported["token_logprobs"], tops, strict=True):
            yield _token(text, logprob, list((top or {}).items()))
    elif "output_token_logprobs" in reported:
        said = reported["output_token_logprobs"]
        tops = reported.get("output_top_logprobs") or [None] * len(said)
        for (logprob, _, text), top in zip(said, tops, strict=True):
            yield _token(text, logprob, [(other[2], other[0]) for other in top or ()])


def _token(text: Any, logprob: Any, others: Sequence[tuple[Any, Any]]) -> ReplyToken:
    if not isinstance(text, str):
        raise TypeError("a token without its text")
    alternatives: dict[str, float] = {}
    for other, value in (*others, (text, logprob)):
        number = float(value)
        if isinstance(other, str) and not math.isnan(number):
            alternatives.setdefault(other, max(LEAST_LOGPROB, min(0.0, number)))
    return ReplyToken(text=text, alternatives=alternatives)


def verdict_first_log_odds(tokens: Sequence[ReplyToken], family: PromptFamily) -> float | None:
    """Log-odds of *hallucinated* where a bare word is due: at the first token that is not blank.

    What the model would have written does not matter, only how likely each verdict was. None when neither is among
    the alternatives: then the model was not about to answer.
    """
    for token in tokens:
        if token.text.strip(_AROUND_A_WORD):
            return _log_odds(token.alternatives, "", family)
    return None


def verdict_log_odds(tokens: Sequence[ReplyToken], family: PromptFamily, *, label: Label) -> float | None:
    """Log-odds of *hallucinated* at the token where the reply's verdict begins; None when they cannot be had.

    Args:
        tokens: of the whole reply.
        family: says where in a reply the verdict stands.
        label: the verdict that was read from the reply's text. Tokens that spell another are not to be trusted.
    """
    parsed = parse_reply("".join(token.text for token in tokens), family)
    if parsed is None or parsed.label is not label:
        return None
    begins = 0
    for token in tokens:
        if begins + len(token.text) > parsed.score_start:
            return _log_odds(token.alternatives, token.text[: parsed.score_start - begins], family)
        begins += len(token.text)
    return None


def _log_odds(alternatives: Mapping[str, float], lead: str, family: PromptFamily) -> float | None:
    """Log-odds between those alternatives that, after `lead`, begin or hold one verdict's word."""
    sides: dict[str, list[float]] = {family.faithful: [], family.hallucinated: []}
    for text, logprob in alternatives.items():
        if text.startswith(lead):
            rest = text[len(lead) :].strip(_AROUND_A_WORD)
            said = [word for word in sides if rest and _is_on_the_way_to(rest.upper(), word.upper())]
            if len(said) == 1:
                sides[said[0]].append(logprob)
    if not any(sides.values()):
        return None
    # A verdict that is not among the alternatives is at most as likely as the least likely of them.
    floor = min(alternatives.values())
    faithful, hallucinated = (_log_sum(found) if found else floor for found in sides.values())
    return hallucinated - faithful


def _is_on_the_way_to(text: str, word: str) -> bool:
    """Whether a token is the word, its beginning, or the word and what may follow it: `No.` is, `Not` is not."""
    return word.startswith(text) or (text.startswith(word) and not text[len(word)].isalnum())


def _log_sum(logprobs: Sequence[float]) -> float:
    top = max(logprobs)
    return top + math.log(sum(math.exp(logprob - top) for logprob in logprobs))
