"""Continuous batching: many prompts through one context, each read once, what they share read once for all.

    jobs ─▶ admitted to a sequence ─▶ prompt read in pieces ─▶ logits to the job ─┬─▶ done
              (beginning shared with            ▲                                 └─▶ writes on ─┐
               the prefix or the job before)    └── steps of reading and of writing in turn ◀────┘

Steps of reading and of writing take turns, so that several sequences write at once and go on writing while prompts
are read (after Orca; Yu et al., OSDI 2022). They are not mixed in one step, and a prompt shares its beginning only
with the prefix that all have and with the job that it follows: what a step computes depends on its shape in the last
digits (0.1 in log-odds with a small quantised model), and a score must not depend on its neighbours.
"""

import time
from collections import deque
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

    @property
    def cells(self) -> int:
        """Cells that it takes at most, now and when its job is through."""
        most = 0 if self.job is None else self.job.most_written
        return len(self.held) + len(self.pending) + most


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

    def room(self) -> int:
        """Tokens that one job may come to, prompt and writing together."""
        return self._context.plan.cells - len(self._prefix)

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
        waiting = deque(jobs)
        while waiting or self._active():
            while waiting and self._admit(waiting[0]):
                waiting.popleft()
            self._drop_late()
            if active := self._active():
                self._step(active)

    def _active(self) -> list[_Slot]:
        return [slot for slot in self._slots if slot.job is not None]

    def _admit(self, job: Job) -> bool:
        """Give a job a sequence; False when it must wait, which it never has to when none is active."""
        active = self._active()
        free = [slot for slot in self._slots if slot.job is None]
        if not free or sum(slot.writer is None for slot in active) >= self._reading:
            return False
        donor, shared = self._donor(job)
        # Nothing is gained by keeping an idle donor: its beginning is simply gone on from.
        slot = donor if donor in free else min(free, key=lambda each: each.used)
        if not self._make_room(job, keep={slot, donor} if donor else {slot}):
            if active:
                return False
            donor, slot, shared = None, self._slots[0], self._forget_all_but_prefix(job)
        self._begin(slot, job, donor, shared)
        return True

    def _donor(self, job: Job) -> tuple[_Slot | None, int]:
        """Who holds the beginning of a job's prompt, and how much of it; None is the shared prefix."""
        if not self._shares:
            return None, 0
        # At least one token must be read anew, for its logits.
        shared = _common(self._prefix, job.tokens[:-1])
        before = next((slot for slot in self._slots if slot.last is not None and slot.last is job.follows), None)
        if before is not None and (length := _common(before.held, job.tokens[:-1])) > shared:
            return before, length
        return None, shared

    def _make_room(self, job: Job, keep: set[_Slot]) -> bool:
        """Forget idle sequences, the longest unused first, until a job fits."""
        needed = len(job.tokens) + job.most_written
        idle = sorted((slot for slot in self._slots if slot.job is None), key=lambda slot: slot.used)
        # A slot that is kept will be cut to what is shared: its cells count towards the job's own.
        others = [slot for slot in self._slots if slot not in keep or slot.job is not None]
        while sum(slot.cells for slot in others) + needed > self.room():
            spare = next((slot for slot in idle if slot not in keep and len(slot.held)), None)
            if spare is None:
                return False
            self._forget(spare)
        return True

    def _forget_all_but_prefix(self, job: Job) -> int:
        """A job that fits at all fits then. Answers with how much of the shared prefix it can use."""
        for slot in self._slots:
            self._forget(slot)
        return _common(self._prefix, job.tokens[:-1])

    def _forget(self, slot: _Slot) -> None:
        self._context.cut(slot.sequence, 0)
        slot.held, slot.last = slot.held[:0], None

    def _begin(self, slot: _Slot, job: Job, donor: _Slot | None, shared: int) -> None:
        self._tick += 1
        if donor is slot:
            self._context.cut(slot.sequence, shared)
        else:
            self._forget(slot)
            if shared:
                source = PREFIX_SEQUENCE if donor is None else donor.sequence
                self._context.share(source, slot.sequence, shared)
        slot.held, slot.pending = job.tokens[:shared], job.tokens[shared:]
        slot.job, slot.last, slot.writer, slot.used = job, job, None, self._tick
        slot.expires = job.expires()
        job.computed = len(slot.pending)

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
            # The accounting is cautious, so this is a fault and not a fluctuation.
            self._end(slots[-1], Ended.FAILED, "no room in the context")

    def _cut_back(self, slot: _Slot) -> None:
        if self._shares:
            self._context.cut(slot.sequence, len(slot.held))
            return
        slot.pending = np.concatenate([slot.held, slot.pending])
        self._forget(slot)

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
