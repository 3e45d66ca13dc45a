"""Writing replies with a local GGUF model, for evaluators whose words are the point."""

import asyncio
import json
import logging
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from llama_cpp.llama_grammar import json_schema_to_gbnf
from numpy.typing import NDArray

from monitor.domain.generation import Generated, Message, Role
from monitor.domain.judgement import CouldNotJudge, Unjudgeable
from monitor.inference.gguf.chat import chat_frame
from monitor.inference.gguf.context import Context, ContextPlan
from monitor.inference.gguf.engine import Ended, Engine, Job
from monitor.inference.gguf.judge import GgufPlan
from monitor.inference.gguf.model import Model, file_digest
from monitor.inference.gguf.writing import Grammar, GreedyWriter

log = logging.getLogger(__name__)


class GgufGenerator:
    """A GGUF model that writes; implements `Generator`. One prompt at a time, others wait within their deadline.

    Args:
        path: the GGUF file.
        plan: how to use the machine; `context_tokens` holds prompt and reply together.

    Raises:
        JudgeUnavailable: the file is missing, is no model that llama.cpp can load, or needs more memory than it may.
    """

    def __init__(self, path: Path, plan: GgufPlan) -> None:
        self._lock = threading.Lock()
        self._model = Model(path, plan.offload)
        try:
            self._tokens = min(plan.context_tokens, self._model.trained_context)
            # Sequence 0 is for what all prompts share: with several evaluators, nothing.
            context = ContextPlan(
                tokens=self._tokens,
                sequences=2,
                threads=plan.threads,
                flash_attention=plan.flash_attention,
                cache_type=plan.cache_type,
                most_mib=plan.most_mib,
            )
            self._context = Context(self._model, context)
        except BaseException:
            self._model.close()
            raise
        self._engine = Engine(self._context, reading=1, shares=False)
        self._name = f"{path.name}@{file_digest(path)[:12]}"

    @property
    def model(self) -> str:
        """The file's name, and the beginning of its SHA-256."""
        return self._name

    def close(self) -> None:
        """Free the model; what is being written ends where it is."""
        self._engine.cancel()
        with self._lock:
            self._context.close()
            self._model.close()

    async def generate(
        self,
        messages: Sequence[Message],
        *,
        max_tokens: int,
        json_schema: Mapping[str, Any] | None,
        deadline_seconds: float,
    ) -> Generated | CouldNotJudge:
        """Answer one prompt; the schema is enforced, token by token."""
        expires = time.monotonic() + deadline_seconds
        return await asyncio.to_thread(self._generate, messages, max_tokens, json_schema, expires)

    def _generate(
        self, messages: Sequence[Message], max_tokens: int, json_schema: Mapping[str, Any] | None, expires: float
    ) -> Generated | CouldNotJudge:
        if not self._lock.acquire(timeout=max(0.0, expires - time.monotonic())):
            return CouldNotJudge(reason=Unjudgeable.DEADLINE, detail="the model was busy until the deadline")
        try:
            return self._answer(messages, max_tokens, json_schema, expires)
        finally:
            self._lock.release()

    def _answer(
        self, messages: Sequence[Message], max_tokens: int, json_schema: Mapping[str, Any] | None, expires: float
    ) -> Generated | CouldNotJudge:
        system = "\n\n".join(message.content for message in messages if message.role is Role.SYSTEM)
        asked = "\n\n".join(message.content for message in messages if message.role is Role.USER)
        frame = chat_frame(self._model, system or None)
        tokens = frame.around(self._model, asked)
        if len(tokens) + max_tokens > self._tokens:
            detail = f"{len(tokens)} tokens and a reply of {max_tokens} do not fit into {self._tokens}"
            return CouldNotJudge(reason=Unjudgeable.TOO_LONG, detail=f"{detail}; see gguf.context_tokens")
        writing = _Reply(self._model, max_tokens, json_schema)
        job = Job(tokens=tokens, read=writing.begin_after, expires=lambda: expires, most_written=max_tokens)
        self._engine.run([job])
        text = writing.text()
        if job.ended is Ended.FAILED:
            return CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=job.error)
        if job.ended is Ended.LATE or time.monotonic() >= expires:
            return CouldNotJudge(reason=Unjudgeable.DEADLINE, detail="not written within the deadline")
        return Generated(
            text=text,
            prompt_tokens=len(tokens),
            completion_tokens=writing.count,
            cut_off=writing.count >= max_tokens,
        )


class _Reply:
    """A reply being written: its first token comes off the prompt's own logits."""

    def __init__(self, model: Model, most: int, json_schema: Mapping[str, Any] | None) -> None:
        self._model = model
        self._most = most
        self._grammar = Grammar(model, _grammar(json_schema)) if json_schema else None
        self._first: int | None = None
        self._writer: GreedyWriter | None = None

    def begin_after(self, logits: NDArray[np.float32]) -> GreedyWriter | None:
        first = int(np.argmax(logits)) if self._grammar is None else self._grammar.choose(logits)
        if first is None or self._model.ends(first):
            return None
        if self._grammar is not None:
            self._grammar.accept(first)
        self._first = first
        self._writer = GreedyWriter(self._model, [first], most=self._most, grammar=self._grammar)
        return self._writer

    @property
    def count(self) -> int:
        return (self._first is not None) + (len(self._writer.written) if self._writer else 0)

    def text(self) -> str:
        """The whole reply; frees the grammar."""
        if self._grammar is not None:
            self._grammar.close()
        written = self._writer.written if self._writer else []
        return self._model.text([self._first, *written]) if self._first is not None else ""


def _grammar(json_schema: Mapping[str, Any]) -> str:
    # llama-cpp-python's strings may hold bare line breaks, which JSON's may not (RFC 8259, section 7).
    return str(json_schema_to_gbnf(json.dumps(json_schema))).replace(r'[^"\\]', r'[^"\\\x00-\x1F\x7F]')
