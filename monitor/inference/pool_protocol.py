"""The pool's messages: what is asked of an OpenAI-compatible chat API, and what its answer says.

Self-hosted servers differ in what they accept, so there are four ways to ask for JSON, strictest first. vLLM and
SGLang take the first (xgrammar behind both; vLLM's older `guided_json` is gone since its v0.12.0), llama-cpp-python
the second. A family that answers with a bare word needs none: one token is asked for, and the verdict's log-odds
are read from its alternatives, so that the server computes the prompt and nothing else.
Servers also differ in whether they give log-probabilities; without them a verdict's score is a fixed log-odds.
"""

import json
import re
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from monitor.config import PoolSettings
from monitor.domain.judgement import CouldNotJudge, Opinion, Unjudgeable, Usage
from monitor.domain.verdict import Label
from monitor.inference.pool_logprobs import reply_tokens, verdict_first_log_odds, verdict_log_odds
from monitor.judging.parsing import parse_reply
from monitor.judging.prompts import PromptFamily

VERDICT_LOG_ODDS = 2.0
"""Score of a verdict without log-probabilities: its sign is the verdict, its size says nothing."""

_MOST_LOGPROBS = 20
"""As many as OpenAI's API allows, and vLLM by default (`--max-logprobs`)."""

_FEWER_LOGPROBS = 5
_WORD_TOKENS = 16
"""Room for a bare word where its first token says nothing: blanks, quotes, an `Answer:`, an empty thought."""

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
        return cls(form=ReplyForm.TEXT if family.json_keys is None else ReplyForm.JSON_SCHEMA)

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


def reply_schema(family: PromptFamily) -> dict[str, Any]:
    """JSON Schema of a reply. It is bounded, so that a small model comes to an end; the key order is the prompt's."""
    assert family.json_keys is not None
    reasoning, score = family.json_keys
    points = {"type": "array", "items": {"type": "string", "maxLength": 200}, "minItems": 1, "maxItems": 4}
    verdicts = {"type": "string", "enum": [family.faithful, family.hallucinated]}
    return {
        "type": "object",
        "properties": {reasoning: points, score: verdicts},
        "required": [reasoning, score],
        "additionalProperties": False,
    }


def request_body(message: str, family: PromptFamily, settings: PoolSettings, asking: Asking) -> bytes:
    """One greedy chat completion, as UTF-8 JSON. What all traces share comes first, for the server's prefix cache."""
    instructions = [{"role": "system", "content": family.system}] if family.system else []
    body: dict[str, Any] = {
        "model": settings.model,
        "messages": [*instructions, {"role": "user", "content": message}],
        "temperature": 0.0,
        "max_tokens": _most_tokens(family, settings, asking),
        "stream": False,
    }
    if asking.logprobs:
        body |= {"logprobs": True, "top_logprobs": asking.top_logprobs}
    if (wanted := _response_format(family, asking.form)) is not None:
        body["response_format"] = wanted
    return json.dumps(body, ensure_ascii=False).encode()


def _most_tokens(family: PromptFamily, settings: PoolSettings, asking: Asking) -> int:
    if family.json_keys is not None:
        return settings.max_tokens
    return 1 if asking.logprobs and asking.first_token else min(_WORD_TOKENS, settings.max_tokens)


def _response_format(family: PromptFamily, form: ReplyForm) -> dict[str, Any] | None:
    if family.json_keys is None or form is ReplyForm.TEXT:
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


def read_answer(
    body: bytes, family: PromptFamily, settings: PoolSettings, asking: Asking
) -> Opinion | CouldNotJudge | None:
    """What a 200 says: an opinion, or UNPARSEABLE with the reply's end for whoever looks into it.

    None where the one token that was asked for is no answer: ask for more (`first_token=False`).
    """
    try:
        answer = json.loads(body)
        choice = answer["choices"][0]
        reply = choice["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError, RecursionError):
        return CouldNotJudge(reason=Unjudgeable.UNPARSEABLE, detail=f"not a chat completion: {_excerpt(body)}")
    usage = _usage(answer.get("usage"), settings)
    if family.json_keys is None and asking.logprobs and asking.first_token:
        score = verdict_first_log_odds(reply_tokens(choice), family)
        return None if score is None else Opinion(raw_score=score, usage=usage)
    parsed = parse_reply(reply, family) if isinstance(reply, str) else None
    if parsed is None:
        cut = " (cut off)" if choice.get("finish_reason") == "length" else ""
        return CouldNotJudge(reason=Unjudgeable.UNPARSEABLE, detail=f"no verdict{cut} in …{str(reply)[-200:]!r}")
    score = verdict_log_odds(reply_tokens(choice), family, label=parsed.label)
    if score is None:
        score = VERDICT_LOG_ODDS if parsed.label is Label.HALLUCINATED else -VERDICT_LOG_ODDS
    return Opinion(raw_score=score, reasoning=parsed.reasoning, usage=usage)


def _excerpt(body: bytes) -> str:
    return repr(body[:200].decode(errors="replace"))


def _usage(reported: Any, settings: PoolSettings) -> Usage:
    counts = reported if isinstance(reported, dict) else {}
    prompt, completion = (_count(counts.get(name)) for name in ("prompt_tokens", "completion_tokens"))
    cost = prompt * settings.usd_per_million_prompt_tokens + completion * settings.usd_per_million_completion_tokens
    return Usage(prompt_tokens=prompt, completion_tokens=completion, cost_usd=cost / 1e6)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and value >= 0 else 0
