"""The pool's messages: what is asked of an OpenAI-compatible chat API, and what its answer says.

Self-hosted servers differ in what they accept, so there are four ways to ask for JSON, strictest first. vLLM and
SGLang take the first (xgrammar behind both; vLLM's older `guided_json` is gone since its v0.12.0), llama-cpp-python
the second. A family that answers with a bare word needs none: one token is asked for, and the verdict's log-odds
are read from its alternatives, so that the server computes the prompt and nothing else.
Servers also differ in whether they give log-probabilities; without them a verdict's score is a fixed log-odds.
"""

import base64
import hmac
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from monitor.config import PoolSettings
from monitor.domain.generation import Message
from monitor.domain.judgement import CouldNotJudge, Opinion, Unjudgeable
from monitor.domain.verdict import Label
from monitor.inference.pool_logprobs import reply_tokens, verdict_first_log_odds, verdict_log_odds
from monitor.judging.parsing import parse_reply, unsupported_claims
from monitor.judging.prompts import PromptFamily, reply_schema
from monitor.routing.spend import Tokens

VERDICT_LOG_ODDS = 2.0
"""Score of a verdict without log-probabilities: its sign is the verdict, its size says nothing."""

_MOST_LOGPROBS = 20
"""As many as OpenAI's API allows, and vLLM by default (`--max-logprobs`)."""

_FEWER_LOGPROBS = 5
_BYTES_PER_LOGPROB = 256
_WORD_TOKENS = 16
"""Room for a bare word where its first token says nothing: blanks, quotes, an `Answer:`, an empty thought."""

_MOST_COUNTED = 2**31 - 1
_TOO_LONG = re.compile(r"context.{0,3}(?:length|window|size)|too many tokens|prompt is too long", re.IGNORECASE)

_REFUSALS = frozenset({400, 413, 415, 422})
_FORM = re.compile(rb"response_format|json_schema|json_object|grammar")
_NOT_SUPPORTED = re.compile(rb"validation error|not supported|unsupported|failed to parse grammar", re.IGNORECASE)


class ReplyForm(IntEnum):
    """How JSON is asked for, strictest first."""

    JSON_SCHEMA = 0
    """OpenAI's structured output: vLLM, SGLang, llama.cpp's own server."""
    JSON_OBJECT_WITH_SCHEMA = 1
    """An extension of JSON mode: llama-cpp-python."""
    JSON_OBJECT = 2
    """JSON mode without a schema."""
    TEXT = 3
    """Only the prompt asks."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Asking:
    """How a server is asked; what it last accepted is remembered."""

    form: ReplyForm = ReplyForm.JSON_SCHEMA
    top_logprobs: int = _MOST_LOGPROBS
    first_token: bool = True
    """Whether a bare word's first token is enough; else some more are asked for and the word is looked for."""

    @classmethod
    def of(cls, family: PromptFamily) -> "Asking":
        """How to ask a server of which nothing is known yet."""
        return cls(form=ReplyForm.TEXT if _is_a_word(family) else ReplyForm.JSON_SCHEMA)

    @property
    def logprobs(self) -> bool:
        """Whether log-probabilities are asked for."""
        return self.top_logprobs > 0

    def after_refusal(self, body: bytes) -> "Asking | None":
        """The next thing to try after a refusal with this body, or None when nothing is left."""
        if self.logprobs and b"logprob" in body and not _FORM.search(body):
            return self._with_fewer_logprobs()
        if self.form is not ReplyForm.TEXT:
            return replace(self, form=ReplyForm(self.form + 1))
        return replace(self, top_logprobs=0) if self.logprobs else None

    def _with_fewer_logprobs(self) -> "Asking":
        # A server may allow some, and fewer than we would like.
        return replace(self, top_logprobs=_FEWER_LOGPROBS if self.top_logprobs > _FEWER_LOGPROBS else 0)


def request_body(
    asked: Sequence[Message], family: PromptFamily, settings: PoolSettings, asking: Asking, *, salt: str | None
) -> bytes:
    """One greedy chat completion, as UTF-8 JSON.

    Args:
        asked: the conversation. What all traces share comes first in it, for the server's prefix cache.
        family: says what a reply looks like.
        settings: the model, and how long its reply may be.
        asking: what the server accepts.
        salt: calls with another salt share no prefix cache with this one (`cache_salt`: vLLM since 0.9, SGLang
            likewise); servers without prefix caches ignore it.
    """
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [{"role": message.role.value, "content": message.content} for message in asked],
        "temperature": 0.0,
        "max_tokens": most_completion_tokens(family, settings, asking),
        "stream": False,
    }
    if asking.logprobs:
        body |= {"logprobs": True, "top_logprobs": asking.top_logprobs}
    if (wanted := _response_format(family, asking.form)) is not None:
        body["response_format"] = wanted
    if salt is not None:
        body["cache_salt"] = salt
    # Judged text may hold lone surrogates, which no UTF-8 can carry.
    return json.dumps(body, ensure_ascii=False).encode(errors="replace")


def most_reply_bytes(settings: PoolSettings) -> int:
    """A longer HTTP answer is no honest one: so many tokens, each with its alternatives, and room to spare."""
    return 2**20 + settings.max_tokens * _MOST_LOGPROBS * _BYTES_PER_LOGPROB


def tenant_salt(secret: str, tenant: str) -> str:
    """A tenant's cache salt: 256 bits that nobody can guess who has not the secret, as vLLM's guide advises."""
    return base64.urlsafe_b64encode(hmac.digest(secret.encode(), tenant.encode(), "sha256")).decode()


def most_completion_tokens(family: PromptFamily, settings: PoolSettings, asking: Asking) -> int:
    """The most tokens that a reply may have."""
    if not _is_a_word(family):
        return settings.max_tokens
    return 1 if _reads_first_token(family, asking) else min(_WORD_TOKENS, settings.max_tokens)


def _is_a_word(family: PromptFamily) -> bool:
    return family.json_keys is None


def _reads_first_token(family: PromptFamily, asking: Asking) -> bool:
    return _is_a_word(family) and asking.logprobs and asking.first_token


def _response_format(family: PromptFamily, form: ReplyForm) -> dict[str, Any] | None:
    if _is_a_word(family) or form is ReplyForm.TEXT:
        return None
    if form is ReplyForm.JSON_SCHEMA:
        schema = {"name": "verdict", "strict": True, "schema": reply_schema(family)}
        return {"type": "json_schema", "json_schema": schema}
    if form is ReplyForm.JSON_OBJECT_WITH_SCHEMA:
        return {"type": "json_object", "schema": reply_schema(family)}
    return {"type": "json_object"}


def is_refusal(status: int, body: bytes) -> bool:
    """Whether a server refuses what was asked, rather than being unable to answer now.

    llama-cpp-python reports what its request model does not know, and log-probabilities that it was not started
    for, with status 500.
    """
    if status in _REFUSALS:
        return True
    start = body[:4096]
    names_ours = _FORM.search(start) is not None or b"logprob" in start
    return status in {500, 501} and names_ours and _NOT_SUPPORTED.search(start) is not None


def is_too_long(body: bytes) -> bool:
    """Whether a refusal says that the prompt does not fit the model's context."""
    return _TOO_LONG.search(body[:4096].decode(errors="replace")) is not None


@dataclass(frozen=True, kw_only=True, slots=True)
class Completion:
    """What a server answered.

    Attributes:
        choice: the first choice, as it came.
        reply: the model's words; None where there are none.
        tokens: what the server says that it took; None where it does not say.
    """

    choice: Mapping[str, Any]
    reply: str | None
    tokens: Tokens | None


def read_completion(body: bytes) -> Completion | None:
    """The chat completion in a 200's body, or None where it is something else."""
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        reply = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return None
    tokens = _tokens(answer.get("usage"))
    return Completion(choice=choice, reply=reply if isinstance(reply, str) else None, tokens=tokens)


def _tokens(usage: Any) -> Tokens | None:
    # vLLM tells cached tokens under `--enable-prompt-tokens-details`, SGLang under `--enable-cache-report`.
    if not isinstance(usage, dict):
        return None
    prompt, completion = _count(usage.get("prompt_tokens")), _count(usage.get("completion_tokens"))
    if prompt is None or completion is None:
        return None
    details = usage.get("prompt_tokens_details")
    cached = _count(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Tokens(prompt=prompt, cached=min(prompt, cached or 0), completion=completion)


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_COUNTED else None


def read_answer(
    completion: Completion, family: PromptFamily, asking: Asking, *, judged: str
) -> Opinion | CouldNotJudge | None:
    """What a completion says about the answer `judged`: an opinion, or UNPARSEABLE with the reply's end.

    None where the one token that was asked for is no answer: ask for more (`first_token=False`).
    """
    tokens = reply_tokens(completion.choice)
    if _reads_first_token(family, asking):
        score = verdict_first_log_odds(tokens, family)
        return None if score is None else Opinion(raw_score=score)
    reply = completion.reply
    parsed = None if reply is None else parse_reply(reply, family)
    if parsed is None:
        cut = " (cut off)" if completion.choice.get("finish_reason") == "length" else ""
        return CouldNotJudge(reason=Unjudgeable.UNPARSEABLE, detail=f"no verdict{cut} in …{str(reply)[-200:]!r}")
    score = verdict_log_odds(tokens, family, label=parsed.label)
    if score is None:
        score = VERDICT_LOG_ODDS if parsed.label is Label.HALLUCINATED else -VERDICT_LOG_ODDS
    return Opinion(raw_score=score, unsupported=unsupported_claims(judged, parsed.claims), reasoning=parsed.reasoning)
