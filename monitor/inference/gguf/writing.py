"""Writing under a grammar: greedy, deterministic, and never out of form."""

import ctypes
from collections.abc import Sequence

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from monitor.inference.gguf.model import Model

_LIKELIEST = 64
"""Tokens that the grammar is asked about first: all of a vocabulary would take longer than the model itself."""


class Grammar:
    """What may be written next, as a GBNF grammar says. Holds memory of llama.cpp's until closed.

    Args:
        model: whose tokens.
        text: GBNF; its start rule is `root`.

    Raises:
        ValueError: llama.cpp cannot parse it.
    """

    def __init__(self, model: Model, text: str) -> None:
        sampler = llama_cpp.llama_sampler_init_grammar(model.vocabulary, text.encode(), b"root")
        if not sampler:
            raise ValueError("llama.cpp cannot parse the grammar")
        self._sampler = sampler

    def close(self) -> None:
        """Free its memory."""
        if self._sampler:
            llama_cpp.llama_sampler_free(self._sampler)
            self._sampler = None

    def choose(self, logits: NDArray[np.float32]) -> int | None:
        """The likeliest token that the grammar allows; None where it allows none."""
        count = min(_LIKELIEST, len(logits))
        likeliest = np.argpartition(logits, -count)[-count:].astype(np.int32)
        best = self._best(logits, likeliest)
        return best if best is not None else self._best(logits, np.arange(len(logits), dtype=np.int32))

    def accept(self, token: int) -> None:
        """Go on after a token."""
        llama_cpp.llama_sampler_accept(self._sampler, token)

    def _best(self, logits: NDArray[np.float32], candidates: NDArray[np.int32]) -> int | None:
        data = np.zeros(len(candidates), dtype=_TOKEN_DATA)
        data["id"], data["logit"] = candidates, logits[candidates]
        array = llama_cpp.llama_token_data_array(
            data=data.ctypes.data_as(ctypes.POINTER(llama_cpp.llama_token_data)),
            size=len(data),
            selected=-1,
            sorted=False,
        )
        llama_cpp.llama_sampler_apply(self._sampler, ctypes.byref(array))
        # Ties go to the lower id, so that the same logits give the same text.
        best = data[np.lexsort((data["id"], -data["logit"]))[0]]
        return int(best["id"]) if np.isfinite(best["logit"]) else None


_TOKEN_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class GreedyWriter:
    """Writes greedily after forced tokens, within a grammar where there is one.

    Args:
        model: whose tokens.
        forced: tokens to begin with; at least one.
        most: tokens to write at most, the forced ones included.
        grammar: for what is written after `forced`; closed at the end.
    """

    def __init__(self, model: Model, forced: Sequence[int], *, most: int, grammar: Grammar | None) -> None:
        self._model = model
        self._forced = list(forced)
        self._grammar = grammar
        self.most = most
        self.written: list[int] = []

    def begin(self) -> Sequence[int]:
        """The forced tokens."""
        return self._forced

    def next(self, logits: NDArray[np.float32]) -> int | None:
        """The likeliest token that the grammar allows; None at the end."""
        if len(self._forced) + len(self.written) >= self.most:
            return None
        token = int(np.argmax(logits)) if self._grammar is None else self._grammar.choose(logits)
        if token is None or self._model.ends(token):
            return None
        if self._grammar is not None:
            self._grammar.accept(token)
        self.written.append(token)
        return token

    def text(self) -> str:
        """What was written after the forced tokens; closes the grammar."""
        if self._grammar is not None:
            self._grammar.close()
            self._grammar = None
        return self._model.text(self.written)
