"""The screen: lexical evidence under a small ONNX model, for every trace."""

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from monitor.domain.errors import JudgeUnavailable
from monitor.domain.judgement import CouldNotJudge, JudgeIdentity, Opinion, Tier, Unjudgeable
from monitor.domain.trace import Trace
from monitor.judging.evidence import spans_from
from monitor.judging.features import FEATURES, REVISION, extract_from
from monitor.judging.judgeable import why_unjudgeable
from monitor.judging.support import Support

SHIPPED = "models/screen.onnx"
"""The shipped model, beside this module; its card is `models/screen.md`."""

_PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")


def shipped_model() -> bytes:
    """The ONNX model that groundwatch is shipped with."""
    return files("monitor.inference").joinpath(SHIPPED).read_bytes()


class Screen:
    """Judges by how much of an answer its documents hold. Safe to use from several threads.

    A trace is read wholly, whatever its size; nothing is cut off. The work is linear in its characters: about half
    a millisecond for 300 words of documents, one to three seconds for the 2 MB that the trace contract admits, and
    about ten where those are made of nothing but two-letter sentences.

    Args:
        model_path: ONNX model, float32 `[rows, features]` to float32 `[rows, 1]`, the log-odds of *hallucinated*;
            the shipped one when None.
        threads: threads of onnxruntime.

    Raises:
        JudgeUnavailable: the file is missing, no ONNX model, or made for other features.
    """

    def __init__(self, model_path: Path | None = None, threads: int = 1) -> None:
        name = model_path.name if model_path else Path(SHIPPED).name
        try:
            model = model_path.read_bytes() if model_path else shipped_model()
        except OSError as error:
            raise JudgeUnavailable(f"screen model {model_path or SHIPPED}: {error.strerror}") from error
        self._session = _session(model, name, threads)
        self._input = self._session.get_inputs()[0].name
        self._identity = JudgeIdentity(
            name="screen",
            tier=Tier.SCREEN,
            model=name,
            model_digest=hashlib.sha256(model).hexdigest(),
            # The features are half of the model: other features from the same file would be another judge.
            prompt_digest=hashlib.sha256(f"{REVISION}\n{FEATURES}".encode()).hexdigest(),
        )

    @property
    def identity(self) -> JudgeIdentity:
        """Who judges, exactly. In place of a prompt, the digest of the features' names and revision."""
        return self._identity

    def judge(self, trace: Trace, *, deadline_seconds: float) -> Opinion | CouldNotJudge:
        """Judge one trace; see `judge_many`."""
        return self.judge_many([trace], deadline_seconds=deadline_seconds)[0]

    def judge_many(
        self,
        traces: Sequence[Trace],
        *,
        deadline_seconds: float,  # noqa: ARG002 - never waits
    ) -> list[Opinion | CouldNotJudge]:
        """One result a trace, in order; the model sees them as one batch.

        The work is bounded by the traces' length and takes milliseconds, so no deadline is watched.
        """
        found = [_look_up(trace) for trace in traces]
        readable = [(trace, one) for trace, one in zip(traces, found, strict=True) if isinstance(one, Support)]
        opinions = iter(self._opinions(readable))
        return [next(opinions) if isinstance(one, Support) else one for one in found]

    def _opinions(self, readable: Sequence[tuple[Trace, Support]]) -> list[Opinion]:
        if not readable:
            return []
        scores = self.score(np.stack([extract_from(trace.question, support) for trace, support in readable]))
        return [
            Opinion(raw_score=float(score), unsupported=spans_from(trace, support))
            for (trace, support), score in zip(readable, scores, strict=True)
        ]

    def score(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Log-odds of *hallucinated*, one a row of `[rows, len(FEATURES)]`."""
        outputs: list[NDArray[np.float32]] = self._session.run(None, {self._input: features})
        return outputs[0].reshape(-1)


def _look_up(trace: Trace) -> Support | CouldNotJudge:
    barred = why_unjudgeable(trace)
    if barred is not None:
        return barred
    support = Support([document.text for document in trace.documents], trace.answer)
    if not support.words:
        return CouldNotJudge(reason=Unjudgeable.EMPTY_ANSWER, detail="the answer holds no word or number")
    if not support.passages:
        return CouldNotJudge(reason=Unjudgeable.NO_DOCUMENTS, detail="no document holds a word or number")
    return support


def _session(model: bytes, name: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads must not spin: the screen shares its cores with the judges that need them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    providers = [provider for provider in _PROVIDERS if provider in available]
    try:
        session = onnxruntime.InferenceSession(model, options, providers=providers)
    except Exception as error:
        # onnxruntime raises a dozen classes of its own, all direct children of Exception.
        raise JudgeUnavailable(f"screen model {name}: not a model that onnxruntime can run: {error}") from error
    shape = session.get_inputs()[0].shape
    if len(shape) != 2 or shape[1] != len(FEATURES):  # noqa: PLR2004 - rows and features
        raise JudgeUnavailable(f"screen model {name}: takes {shape}, but there are {len(FEATURES)} features")
    return session
