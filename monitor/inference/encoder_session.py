"""An ONNX encoder under onnxruntime: token ids in, log-odds of *hallucinated* out."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from monitor.domain.errors import JudgeUnavailable
from monitor.inference.encoder_manifest import FILE_NAME, Manifest
from monitor.inference.encoder_tokens import Encoded

PROVIDERS = ("CUDAExecutionProvider", "CPUExecutionProvider")
"""In order of preference; onnxruntime falls back by itself where a model's operator has no CUDA kernel."""

SAME = 1e-3
"""Log-odds within which a batched score is the same as that of the input alone: rounding, and nothing else."""

_NUMBER_TYPES: dict[str, type[np.integer[Any]]] = {"tensor(int64)": np.int64, "tensor(int32)": np.int32}

Floats = NDArray[np.float32]


class EncoderSession:
    """Runs batches. Safe to use from several threads.

    Args:
        model: the ONNX file's bytes.
        manifest: what goes in and what comes out.
        pad_id: the token that fills up shorter inputs.
        threads: threads of onnxruntime.

    Raises:
        JudgeUnavailable: not a model that onnxruntime can run, or not the one that the manifest describes.
    """

    def __init__(self, model: bytes, manifest: Manifest, *, pad_id: int, threads: int) -> None:
        self._manifest = manifest
        self._pad_id = pad_id
        self._session = _session(model, manifest.model.file, threads)
        self._types = _input_types(self._session, manifest)
        self.fixed_length = _fixed_length(self._session, manifest)

    @property
    def max_tokens(self) -> int:
        """The longest input that the model takes."""
        most = self._manifest.max_tokens
        return most if self.fixed_length is None else min(most, self.fixed_length)

    def run(self, inputs: Sequence[Encoded]) -> list[Floats]:
        """Log-odds of *hallucinated*, one array an input, in order.

        For `pair` an array is `[]`, the input's score; for `token` it is `[answer tokens]`. Raises what onnxruntime
        raises.
        """
        outputs = self.outputs(inputs)
        self._refuse_shape(outputs, len(inputs), self._longest(inputs))
        odds = self._manifest.labels.log_odds(outputs)
        if self._manifest.kind == "pair":
            return [odds[row] for row in range(len(inputs))]
        return [odds[row, one.answer] for row, one in enumerate(inputs)]

    def outputs(self, inputs: Sequence[Encoded]) -> Floats:
        """The model's output as it is, `[inputs, …]`."""
        shape = (len(inputs), self._longest(inputs))
        ids = np.full(shape, self._pad_id, dtype=np.int64)
        mask, types = np.zeros(shape, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, one in enumerate(inputs):
            length = len(one.ids)
            ids[row, :length], mask[row, :length], types[row, :length] = one.ids, 1, one.types
        names = self._manifest.tensors
        fed = {names.ids: ids, names.mask: mask} | ({names.types: types} if names.types else {})
        cast = {name: value.astype(self._types[name]) for name, value in fed.items()}
        outputs: Floats = self._session.run([names.output], cast)[0]
        return outputs

    def _longest(self, inputs: Sequence[Encoded]) -> int:
        return self.fixed_length or max(len(one.ids) for one in inputs)

    def batches_exactly(self, short: Encoded, long: Encoded) -> bool:
        """Whether an input's score is the same alone and beside another.

        It is not where activations are quantised over the whole batch (`DynamicQuantizeLinear`): there one trace
        would change another's score, so such models must read inputs one by one.
        """
        alone = [self.run([one])[0] for one in (short, long)]
        together = self.run([short, long])
        return all(np.allclose(one, other, atol=SAME) for one, other in zip(alone, together, strict=True))

    def _refuse_shape(self, outputs: Floats, inputs: int, length: int) -> None:
        labels, kind = self._manifest.labels, self._manifest.kind
        wanted = (inputs,) if kind == "pair" else (inputs, length)
        columns = outputs.shape[-1] if outputs.ndim == len(wanted) + 1 else 0
        fitting = columns == 1 if labels.single else columns >= labels.columns
        if outputs.shape[:-1] != wanted or not fitting:
            told = f"[{', '.join(map(str, wanted))}, {'1' if labels.single else f'at least {labels.columns}'}]"
            raise JudgeUnavailable(
                f"{self._manifest.model.file}: `{self._manifest.tensors.output}` is {list(outputs.shape)}, but kind "
                f"`{kind}` with these `labels` means {told}; mend `kind`, `labels` or `tensors.output` in {FILE_NAME}"
            )


def _session(model: bytes, name: str, threads: int) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads must not spin: the encoder shares its cores with the judges that need them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    available = onnxruntime.get_available_providers()
    try:
        return onnxruntime.InferenceSession(model, options, providers=[one for one in PROVIDERS if one in available])
    except Exception as error:
        # onnxruntime raises a dozen classes of its own, all direct children of Exception.
        raise JudgeUnavailable(f"{name}: not a model that onnxruntime can run: {error}") from error


def _input_types(session: onnxruntime.InferenceSession, manifest: Manifest) -> dict[str, type[np.integer[Any]]]:
    takes = {one.name: one.type for one in session.get_inputs()}
    gives = [one.name for one in session.get_outputs()]
    tensors = manifest.tensors
    named = {"ids": tensors.ids, "mask": tensors.mask} | ({"types": tensors.types} if tensors.types else {})
    for field, name in named.items():
        if name not in takes:
            raise JudgeUnavailable(f"tensors.{field}: the model has no input {name!r}; it takes {', '.join(takes)}")
        if takes[name] not in _NUMBER_TYPES:
            raise JudgeUnavailable(f"tensors.{field}: input {name!r} is {takes[name]}; token ids are whole numbers")
    if unfed := set(takes) - set(named.values()):
        raise JudgeUnavailable(
            f"tensors: the model also wants {', '.join(sorted(unfed))}; name `types`, or export anew"
        )
    if tensors.output not in gives:
        raise JudgeUnavailable(f"tensors.output: the model has no output {tensors.output!r}; it has {', '.join(gives)}")
    return {name: _NUMBER_TYPES[takes[name]] for name in named.values()}


def _fixed_length(session: onnxruntime.InferenceSession, manifest: Manifest) -> int | None:
    """The length that a model exported without a dynamic sequence axis insists on."""
    shape = next(one.shape for one in session.get_inputs() if one.name == manifest.tensors.ids)
    length = shape[-1]
    return length if isinstance(length, int) else None
