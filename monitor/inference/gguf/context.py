"""A llama.cpp context: what has been read of several sequences at once, and one step of reading more.

Memory is claimed whole when a context is made and does not grow afterwards.
"""

import ctypes
import time
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from monitor.domain.errors import JudgeUnavailable
from monitor.inference.gguf.model import Model

Tokens = NDArray[np.int32]

_FLASH = {
    "auto": llama_cpp.LLAMA_FLASH_ATTN_TYPE_AUTO,
    "on": llama_cpp.LLAMA_FLASH_ATTN_TYPE_ENABLED,
    "off": llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED,
}
_CACHE = {"f16": llama_cpp.GGML_TYPE_F16, "q8_0": llama_cpp.GGML_TYPE_Q8_0}
_CACHE_BYTES = {"f16": 2.0, "q8_0": 34 / 32}
_MIB = 1024 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class ContextPlan:
    """How large a context is, and how it computes.

    Attributes:
        tokens: tokens that each sequence holds at most.
        sequences: sequences that it tells apart; each has cells of its own.
        batch: tokens read in one step; between two steps deadlines are looked at.
        threads: CPU threads; 0 lets llama.cpp choose.
        flash_attention: `auto`, `on` or `off`.
        cache_type: number type of the cache of keys and values: `f16`, or `q8_0` for half the memory.
        most_mib: memory that weights and cache may take together; 0 for no limit.
    """

    tokens: int
    sequences: int
    batch: int = 512
    threads: int = 0
    flash_attention: str = "auto"
    cache_type: str = "f16"
    most_mib: int = 0


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens to be read into one sequence, from position `start` on; `wants_logits` for what follows the last."""

    sequence: int
    start: int
    tokens: Tokens
    wants_logits: bool


class Step(Enum):
    """How a step ended."""

    DONE = "done"
    FULL = "full"
    """There was no room for all of it; nothing was read."""
    ABORTED = "aborted"
    """The time was up. What was read of the step's sequences is uncertain: cut them back to where they were."""


class ContextFailed(Exception):
    """llama.cpp failed in a step; what the context holds is uncertain."""


class Context:
    """Computes for one model. Not thread-safe.

    Args:
        model: the weights.
        plan: how large, and how.

    Raises:
        JudgeUnavailable: it would take more memory than it may, or than there is.
    """

    def __init__(self, model: Model, plan: ContextPlan) -> None:
        _check_memory(model, plan)
        parameters = llama_cpp.llama_context_default_params()
        parameters.n_ctx = plan.tokens * plan.sequences
        parameters.n_batch = parameters.n_ubatch = plan.batch
        parameters.n_seq_max = plan.sequences
        # Cells that all sequences take from one store would lie where the others left room, and the order in which
        # attention adds them up shows in the score.
        parameters.kv_unified = False
        parameters.flash_attn_type = _FLASH[plan.flash_attention]
        parameters.type_k = parameters.type_v = _CACHE[plan.cache_type]
        if plan.threads:
            parameters.n_threads = parameters.n_threads_batch = plan.threads
        handle = llama_cpp.llama_init_from_model(model.handle, parameters)
        if not handle:
            raise JudgeUnavailable(
                f"GGUF model {str(model.path)!r}: llama.cpp cannot make a context of {plan.sequences} times "
                f"{plan.tokens} tokens; lower gguf.context_tokens or gguf.sequences"
            )
        self._handle = handle
        self._memory = llama_cpp.llama_get_memory(handle)
        self._words = model.words
        self.plan = plan
        self._batch = _Batch(plan.batch)
        self._abort_at = float("inf")
        # llama.cpp keeps a bare pointer: the callback must live as long as the context.
        self._abort = llama_cpp.ggml_abort_callback(lambda _data: time.monotonic() >= self._abort_at)
        llama_cpp.llama_set_abort_callback(handle, self._abort, None)

    def close(self) -> None:
        """Free the memory."""
        if self._handle:
            llama_cpp.llama_free(self._handle)
            self._handle = None

    def step(self, pieces: Sequence[Piece], *, abort_at: float = float("inf")) -> Step:
        """Read pieces, at most `plan.batch` tokens together.

        Args:
            pieces: of different sequences.
            abort_at: `time.monotonic()` at which a CPU gives up in the middle; a GPU finishes its step.

        Raises:
            ContextFailed: llama.cpp failed.
        """
        self._batch.fill(pieces)
        self._abort_at = abort_at
        try:
            status = llama_cpp.llama_decode(self._handle, self._batch.struct)
        finally:
            self._abort_at = float("inf")
        if status < 0:
            raise ContextFailed(f"llama_decode returned {status}")
        return (Step.DONE, Step.FULL, Step.ABORTED)[status]

    def logits(self, piece: int) -> NDArray[np.float32]:
        """Logits after the last token of the step's piece of that number; valid until the next step."""
        pointer = llama_cpp.llama_get_logits_ith(self._handle, self._batch.last_of[piece])
        return np.ctypeslib.as_array(pointer, shape=(self._words,))

    def copy(self, source: int, target: int) -> None:
        """Let an empty sequence begin with all that another holds."""
        llama_cpp.llama_memory_seq_cp(self._memory, source, target, -1, -1)

    def cut(self, sequence: int, length: int) -> None:
        """Forget a sequence from position `length` on."""
        if not llama_cpp.llama_memory_seq_rm(self._memory, sequence, length, -1):
            # A recurrent state can only be forgotten whole.
            llama_cpp.llama_memory_seq_rm(self._memory, sequence, -1, -1)

    def clear(self) -> None:
        """Forget everything."""
        llama_cpp.llama_memory_clear(self._memory, True)


class _Batch:
    """llama.cpp's batch over arrays of ours, so that filling it is a few array copies."""

    def __init__(self, size: int) -> None:
        self._tokens = np.zeros(size, dtype=np.int32)
        self._positions = np.zeros(size, dtype=np.int32)
        self._sequences = np.zeros(size, dtype=np.int32)
        self._counts = np.ones(size, dtype=np.int32)
        self._wanted = np.zeros(size, dtype=np.int8)
        address, width = self._sequences.ctypes.data, self._sequences.itemsize
        each = [ctypes.cast(address + width * place, ctypes.POINTER(ctypes.c_int32)) for place in range(size)]
        self._pointers = (ctypes.POINTER(ctypes.c_int32) * size)(*each)
        self.last_of: list[int] = []
        self.struct = llama_cpp.llama_batch(
            n_tokens=0,
            token=self._tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            embd=None,
            pos=self._positions.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            n_seq_id=self._counts.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            seq_id=ctypes.cast(self._pointers, ctypes.POINTER(ctypes.POINTER(ctypes.c_int32))),
            logits=self._wanted.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, pieces: Sequence[Piece]) -> None:
        place = 0
        self.last_of = []
        for piece in pieces:
            end = place + len(piece.tokens)
            self._tokens[place:end] = piece.tokens
            self._positions[place:end] = np.arange(piece.start, piece.start + len(piece.tokens), dtype=np.int32)
            self._sequences[place:end] = piece.sequence
            self._wanted[place:end] = 0
            self._wanted[end - 1] = piece.wants_logits
            self.last_of.append(end - 1)
            place = end
        self.struct.n_tokens = place


def cache_bytes(model: Model, plan: ContextPlan) -> int:
    """Bytes of the cache of keys and values, by the model's shape."""
    heads = max(1, int(llama_cpp.llama_model_n_head(model.handle)))
    width = int(llama_cpp.llama_model_n_embd(model.handle)) / heads * int(llama_cpp.llama_model_n_head_kv(model.handle))
    layers = int(llama_cpp.llama_model_n_layer(model.handle))
    return round(2 * plan.tokens * plan.sequences * layers * width * _CACHE_BYTES[plan.cache_type])


def _check_memory(model: Model, plan: ContextPlan) -> None:
    if not plan.most_mib:
        return
    weights = int(llama_cpp.llama_model_size(model.handle))
    needed = (weights + cache_bytes(model, plan)) / _MIB
    if needed > plan.most_mib:
        raise JudgeUnavailable(
            f"GGUF model {str(model.path)!r}: {weights / _MIB:.0f} MiB of weights and "
            f"{needed - weights / _MIB:.0f} MiB for {plan.sequences} times {plan.tokens} tokens are more than "
            f"gguf.max_memory_mib = {plan.most_mib}; lower gguf.sequences or gguf.context_tokens, or set "
            "gguf.cache_type = 'q8_0'"
        )
