"""Encoder judges: any ONNX model of sequence pairs or tokens (in the style of HHEM, MiniCheck, LettuceDetect).

A manifest beside the model says what it reads and what its outputs mean (see `encoder_manifest`).
"""

import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Tier, Unjudgeable
from monitor.domain.trace import Trace
from monitor.inference.encoder_batches import batches
from monitor.inference.encoder_manifest import read_manifest
from monitor.inference.encoder_opinion import opinion_of
from monitor.inference.encoder_reading import Reader, Reading, TooLateError
from monitor.inference.encoder_session import EncoderSession
from monitor.inference.encoder_tokens import Encoded, Tokens
from monitor.judging.windows import MOST_WINDOWS

log = logging.getLogger(__name__)

FLIGHT_BATCHES = 8
"""Batches' worth of tokens that are sorted by length together: more pads less, and lets early traces wait longer."""

_PROBE = (
    ("The bridge was opened.", "The bridge was opened."),
    ("The old stone bridge was opened in 1932.", "A river is long, and Rome was closed."),
)
"""Context and answer, one pair supported and one not: alike they would hide how one sways the other."""

Result = Opinion | CouldNotJudge
Floats = NDArray[np.float32]


class EncoderJudge:
    """Judges by an ONNX encoder. Safe to use from several threads.

    Args:
        manifest: the manifest's path, or its folder's.
        threads: threads of onnxruntime.
        most_windows: windows that are read of a trace whose documents do not fit whole.
        stopwatch: a steady clock in seconds.

    Raises:
        JudgeUnavailable: manifest, tokenizer or model cannot be used, or do not belong together; says why.
    """

    def __init__(
        self,
        manifest: Path,
        *,
        threads: int = 1,
        most_windows: int = MOST_WINDOWS,
        stopwatch: Callable[[], float] = time.monotonic,
    ) -> None:
        self.manifest, folder = read_manifest(manifest)
        tokenizer = self.manifest.tokenizer.read(folder, "tokenizer")
        model = self.manifest.model.read(folder, "model")
        tokens = Tokens(tokenizer, self.manifest)
        self._session = EncoderSession(model, self.manifest, pad_id=tokens.pad_id, threads=threads)
        if 2 * tokens.overhead > self._session.max_tokens:
            raise JudgeUnavailable(
                f"max_tokens: {self._session.max_tokens} leaves no room beside the templates' {tokens.overhead} tokens"
            )
        self._reader = Reader(tokens, self.manifest, max_tokens=self._session.max_tokens, most_windows=most_windows)
        self._stopwatch = stopwatch
        self._identity = JudgeIdentity(
            name="encoder",
            tier=Tier.EDGE,
            model=self.manifest.name,
            model_digest=self.manifest.model.sha256,
            quantisation=self.manifest.quantisation,
            prompt_digest=self.manifest.reading_digest,
        )
        self.alone = not self._tested(tokens)

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges, exactly. In place of a prompt, the digest of tokenizer, templates and label meaning."""
        return self._identity

    def judge(self, trace: Trace, *, deadline_seconds: float) -> Result:
        """Judge one trace; see `judge_many`."""
        return self.judge_many([trace], deadline_seconds=deadline_seconds)[0]

    def judge_many(self, traces: Sequence[Trace], *, deadline_seconds: float) -> list[Result]:
        """One result a trace, in order; read in batches of like length, earlier traces first.

        The deadline is looked at between batches: none begins after it, and one that has begun is finished.
        """
        until = self._stopwatch() + deadline_seconds
        results: list[Result] = []
        flight: list[Reading | CouldNotJudge] = []
        waiting = 0
        for trace in traces:
            one = self._read(trace, until)
            flight.append(one)
            waiting += one.tokens if isinstance(one, Reading) else 0
            if waiting >= FLIGHT_BATCHES * self.manifest.batch_tokens:
                results += self._fly(flight, until)
                flight, waiting = [], 0
        return results + self._fly(flight, until)

    def _read(self, trace: Trace, until: float) -> Reading | CouldNotJudge:
        try:
            return self._reader.read(trace, late=lambda: self._stopwatch() >= until)
        except TooLateError:
            return _late("while its texts were cut into windows")
        except Exception as error:
            # A tokenizer is somebody else's code on hostile text; one trace must not cost the others theirs.
            log.exception("encoder: a trace could not be read")
            return CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=f"reading: {error}"[:500])

    def _fly(self, flight: Sequence[Reading | CouldNotJudge], until: float) -> list[Result]:
        readings = [one for one in flight if isinstance(one, Reading)]
        odds = iter(self._odds([one for reading in readings for one in reading.inputs], until))
        return [
            self._opinion(one, [next(odds) for _ in one.inputs]) if isinstance(one, Reading) else one for one in flight
        ]

    def _opinion(self, reading: Reading, odds: Sequence[Floats | CouldNotJudge]) -> Result:
        failed = next((one for one in odds if isinstance(one, CouldNotJudge)), None)
        if failed is not None:
            return failed
        return opinion_of(reading, [one for one in odds if not isinstance(one, CouldNotJudge)], self.manifest)

    def _odds(self, inputs: Sequence[Encoded], until: float) -> list[Floats | CouldNotJudge]:
        found: list[Floats | CouldNotJudge] = [_late("before its turn")] * len(inputs)
        lengths = [len(one.ids) for one in inputs]
        for group in batches(lengths, most_tokens=self.manifest.batch_tokens, alone=self.alone):
            if self._stopwatch() >= until:
                break
            for place, odds in zip(group, self._run([inputs[place] for place in group]), strict=True):
                found[place] = odds
        return found

    def _run(self, group: Sequence[Encoded]) -> list[Floats | CouldNotJudge]:
        try:
            return list(self._session.run(group))
        except Exception as error:
            # onnxruntime raises a dozen classes of its own. Whoever is at fault is found by asking one by one.
            if len(group) > 1:
                return [result for one in group for result in self._run([one])]
            log.exception("encoder: an input could not be run")
            return [CouldNotJudge(reason=Unjudgeable.JUDGE_ERROR, detail=str(error)[:500])]

    def _tested(self, tokens: Tokens) -> bool:
        """Run once, so that what does not fit is told at the start; whether batches leave scores as they are."""
        short, long = (tokens.encode(question="", context=context, answer=answer) for context, answer in _PROBE)
        try:
            self._session.run([short])
        except JudgeUnavailable:
            raise
        except Exception as error:
            raise JudgeUnavailable(f"{self.manifest.model.file}: does not run: {error}") from error
        try:
            exact = self._session.batches_exactly(short, long)
        except Exception:
            # Exported for one input at a time.
            log.debug("encoder: %s takes no batches", self.manifest.name, exc_info=True)
            exact = False
        if not exact:
            log.info("encoder: %s scores inputs differently in batches, so it reads them alone", self.manifest.name)
        return exact


def _late(when: str) -> CouldNotJudge:
    return CouldNotJudge(reason=Unjudgeable.DEADLINE, detail=f"the deadline passed {when}")
