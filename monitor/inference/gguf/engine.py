"""Continuous batching: many prompts through one context, each read once, what they share read once for all.

    jobs ─▶ admitted to a sequence ─▶ prompt read in pieces ─▶ logits to the job ─┬─▶ done
              (beginning shared with            ▲                                 └─▶ writes on ─┐
               the prefix or the job before)    └── steps of reading and of writing in turn ◀────┘

Steps of reading and of writing take turns, so that several sequences write at once and go on writing while prompts
are read (after Orca; Yu et al., OSDI 2022). They are not mixed in one step, every sequence has cells of its own, and a
prompt shares its beginning only with the prefix that all have and with the job that it follows: the last digits of
what a step computes depend on its shape and on where in the cache its tokens lie (0.1 to 0.3 in log-odds with a small
quantised model), and a score must not depend on its neighbours.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from monitor.inference.gguf.context import Context, ContextFailed, Piece, Step, Tokens

PREFIX_SEQUENCE = 0
"""Holds what every prompt begins with, for good."""


class Ended(Enum):
    """How a job ended."""

    DONE = "done"
    LATE = "late"
    """Its deadline passed before its prompt was read."""
    FAILED = "failed"
    """llama.cpp failed on it."""


class Writer(Protocol):
    """Writes on after a prompt, token by token."""

    def begin(self) -> Sequence[int]:
        """Tokens that are forced first; at least one."""

    def next(self, logits: NDArray[np.float32]) -> int | None:
        """The next token, or None at the end."""

    @property
    def most(self) -> int:
        """Tokens that it may come to, those of `begin` included."""


@dataclass(kw_only=True, slots=True, eq=False)
class Job:
    """One prompt.

    Attributes:
        tokens: the prompt; at least one.
        read: told the logits after the last of them; answers with a writer to go on, or None.
        most_written: tokens that any such writer may come to.
        expires: asked when the job is admitted: `time.monotonic()` at which it is late. What is being written when
            it passes is kept as far as it came.
        follows: the job before it about the same documents, whose beginning it shares.
        ended: how it ended; None before that.
        computed: tokens of the prompt that were read for this job, rather than shared.
        error: what llama.cpp said.
    """

    tokens: Tokens
    read: Callable[[NDArray[np.float32]], Writer | None]
    expires: Callable[[], float]
    most_written: int = 0
    follows: "Job | None" = None
    ended: Ended | None = None
    computed: int = 0
    error: str = ""


@dataclass(kw_only=True, slots=True, eq=False)
class _Slot:
    """One sequence: what it holds, and for whom."""

    sequence: int
    held: Tokens = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    pending: Tokens = field(default_factory=lambda: np.empty(0, dtype=np.int32))
    job: Job | None = None
    last: Job | None = None
    writer: Writer | None = None
    expires: float = float("inf")
    used: int = 0


class Engine:
    """Runs jobs on one context. Not thread-safe; `cancel` may be called from another thread.

    Args:
        context: its sequence 0 is for what all prompts share, the others are for jobs.
        reading: prompts that are read at the same time. One is best where a single prompt keeps the processor busy
            (measured on CPUs: seven at once were slower); more where short prompts leave a GPU idle.
        shares: whether beginnings can be shared; not with recurrent models.
    """

    def __init__(self, context: Context, *, reading: int, shares: bool) -> None:
        self._context = context
        self._reading = reading
        self._shares = shares
        self._prefix = np.empty(0, dtype=np.int32)
        self._slots = [_Slot(sequence=number) for number in range(1, context.plan.sequences)]
        self._tick = 0
        self._writes = False
        self._cancelled = False

    @property
    def prefix_tokens(self) -> int:
        """Tokens that are held for all prompts."""
        return len(self._prefix)

    def cancel(self) -> None:
        """Let every job under way and to come end as late."""
        self._cancelled = True

    def share_prefix(self, tokens: Tokens) -> None:
        """Read what every prompt begins with, once; from then on all that do begin with it share it."""
        if self._shares and len(tokens):
            self._prefix = tokens
            self._read_prefix()

    def _read_prefix(self) -> None:
        batch = self._context.plan.batch
        for start in range(0, len(self._prefix), batch):
            piece = Piece(PREFIX_SEQUENCE, start, self._prefix[start : start + batch], wants_logits=False)
            if self._context.step([piece]) is not Step.DONE:
                raise ContextFailed("the shared beginning does not fit into the context")

    def run(self, jobs: Iterable[Job]) -> None:
        """Run jobs to their ends, in about their order. Each comes out with `ended` set, whatever happens."""
        waiting = list(jobs)
        while waiting or self._active():
            while (job := self._next(waiting)) is not None:
                waiting.remove(job)
                self._begin(job)
            self._drop_late()
            if active := self._active():
                self._step(active)

    def _active(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.job is not None]

    def _next(self, waiting: Sequence[Job]) -> Job | None:
        """The first job that may begin: there is a sequence for it, and the job that it follows is through."""
        active = self._active()
        if len(active) == len(self._slots) or sum(slot.writer is None for slot in active) >= self._reading:
            return None
        return next((job for job in waiting if job.follows is None or job.follows.ended is not None), None)

    def _begin(self, job: Job) -> None:
        self._tick += 1
        slot, shared = self._place(job)
        slot.held, slot.pending = job.tokens[:shared], job.tokens[shared:]
        slot.job, slot.last, slot.writer, slot.used = job, job, None, self._tick
        slot.expires = job.expires()
        job.computed = len(slot.pending)
        if len(job.tokens) + job.most_written > self._context.plan.tokens:
            self._end(slot, Ended.FAILED, f"{len(job.tokens)} tokens do not fit into the context")

    def _place(self, job: Job) -> tuple[_Slot, int]:
        """A sequence for a job, holding what it shares, and how many tokens that is."""
        idle = [slot for slot in self._slots if slot.job is None]
        # At least one token must be read anew, for its logits.
        prefix = _common(self._prefix, job.tokens[:-1])
        before = next((slot for slot in idle if slot.last is not None and slot.last is job.follows), None)
        if self._shares and before is not None and (length := _common(before.held, job.tokens[:-1])) > prefix:
            self._context.cut(before.sequence, length)
            return before, length
        slot = min(idle, key=lambda each: each.used)
        self._context.cut(slot.sequence, 0)
        if not self._shares or prefix < len(self._prefix):
            return slot, 0
        self._context.copy(PREFIX_SEQUENCE, slot.sequence)
        return slot, prefix

    def _drop_late(self) -> None:
        now = time.monotonic()
        for slot in self._active():
            if self._cancelled or now >= slot.expires:
                self._end(slot, Ended.DONE if slot.writer else Ended.LATE)

    def _end(self, slot: _Slot, how: Ended, error: str = "") -> None:
        assert slot.job is not None
        slot.job.ended, slot.job.error = how, error
        slot.job, slot.writer = None, None
        slot.pending = slot.pending[:0]

    def _step(self, active: Sequence[_Slot]) -> None:
        pieces, slots = self._pieces(active)
        expires = min(slot.expires for slot in slots)
        try:
            ended = self._context.step(pieces, abort_at=expires)
        except ContextFailed as failure:
            self._start_afresh(slots, str(failure))
            return
        if ended is Step.DONE:
            self._advance(pieces, slots)
            return
        for slot in slots:
            self._cut_back(slot)
        if ended is Step.FULL:
            # Every job was seen to fit, so this is a fault and not a fluctuation.
            for slot in slots:
                self._end(slot, Ended.FAILED, "no room in the context")

    def _cut_back(self, slot: _Slot) -> None:
        if self._shares:
            self._context.cut(slot.sequence, len(slot.held))
            return
        slot.pending = np.concatenate([slot.held, slot.pending])
        self._context.cut(slot.sequence, 0)
        slot.held = slot.held[:0]

    def _pieces(self, active: Sequence[_Slot]) -> tuple[list[Piece], list[_Slot]]:
        """The next step: of those that write and those that read, the ones whose turn it is."""
        writing = [slot for slot in active if slot.writer is not None]
        reading = [slot for slot in active if slot.writer is None]
        self._writes = bool(writing) and (not self._writes or not reading)
        left = self._context.plan.batch
        pieces, slots = [], []
        for slot in sorted(writing if self._writes else reading, key=lambda each: each.used):
            tokens = slot.pending[:left]
            if not len(tokens):
                break
            whole = len(tokens) == len(slot.pending)
            pieces.append(Piece(slot.sequence, len(slot.held), tokens, wants_logits=whole))
            slots.append(slot)
            left -= len(tokens)
        return pieces, slots

    def _advance(self, pieces: Sequence[Piece], slots: Sequence[_Slot]) -> None:
        for number, (piece, slot) in enumerate(zip(pieces, slots, strict=True)):
            slot.held = np.concatenate([slot.held, piece.tokens])
            slot.pending = slot.pending[len(piece.tokens) :]
            if piece.wants_logits:
                self._go_on(slot, self._context.logits(number))

    def _go_on(self, slot: _Slot, logits: NDArray[np.float32]) -> None:
        assert slot.job is not None
        if slot.writer is None:
            slot.writer = slot.job.read(logits)
            following = list(slot.writer.begin()) if slot.writer else []
        else:
            token = slot.writer.next(logits)
            following = [] if token is None else [token]
        if following:
            slot.pending = np.array(following, dtype=np.int32)
        else:
            self._end(slot, Ended.DONE)

    def _start_afresh(self, slots: Sequence[_Slot], error: str) -> None:
        """After a failure nothing that the context holds can be relied on; the other jobs begin again."""
        failed = set(slots)
        self._context.clear()
        for slot in self._slots:
            if slot in failed:
                self._end(slot, Ended.FAILED, error)
            elif slot.job is not None:
                slot.pending = np.concatenate([slot.held, slot.pending])
            slot.held, slot.last = slot.held[:0], None
        self._read_prefix()


def _common(held: Tokens, tokens: Tokens) -> int:
    """How many tokens two sequences begin with in common."""
    length = min(len(held), len(tokens))
    differs = np.flatnonzero(held[:length] != tokens[:length])
    return int(differs[0]) if len(differs) else length
