"""The manifest: what an ONNX encoder reads, and what its outputs mean. One JSON file beside the model.

The contract is `schemas/encoder_manifest.v1.json`; `docs/encoders.md` has a worked example for each style of model.
"""

import hashlib
import json
import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from monitor.domain.errors import JudgeUnavailable

FILE_NAME = "encoder.json"
"""The manifest's name where a folder is given."""

MOST_BYTES = 65_536
"""A larger file is no manifest."""

FIELDS = ("question", "context", "answer")
"""What a template may ask for, as `{question}`."""

_PLACEHOLDER = re.compile(rf"\{{({'|'.join(FIELDS)})\}}")
_LEAST_PROBABILITY = 1e-6
_SAYS_NOTHING_OF_SCORES = {"model", "licence", "source", "batch_tokens"}

Floats = NDArray[np.float32]
FileName = Annotated[str, Field(pattern=r"^[^/\\]+$", min_length=1, max_length=255)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
TensorName = Annotated[str, Field(min_length=1, max_length=255)]
Column = Annotated[int, Field(ge=0, le=4095)]


class _Part(BaseModel):
    # People write manifests: a field that nobody knows is a slip of the pen, not a newer writer.
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class HashedFile(_Part):
    """A file beside the manifest, and the SHA-256 that it must have."""

    file: FileName
    sha256: Digest

    def read(self, folder: Path, field: str) -> bytes:
        """The file's bytes.

        Raises:
            JudgeUnavailable: it cannot be read, or is not the file that the manifest was written for.
        """
        path = folder / self.file
        try:
            content = path.read_bytes()
        except OSError as error:
            raise JudgeUnavailable(f"{path}: {error.strerror}; `{field}.file` names it in {FILE_NAME}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != self.sha256:
            raise JudgeUnavailable(
                f"{path}: SHA-256 is {found}, but `{field}.sha256` says {self.sha256}; "
                "restore the file, or write the new hash if it was changed on purpose"
            )
        return content


class Input(_Part):
    """How question, context and answer become the model's one or two segments.

    Attributes:
        first, second: text with `{question}`, `{context}`, `{answer}`; `second` is None for models of one segment,
            such as HHEM-2.1 with its prompt.
        leading_tokens: special tokens put before everything, by name: `<pad>` for HHEM-2.1.
    """

    first: Annotated[str, Field(min_length=1, max_length=4096)]
    second: Annotated[str, Field(min_length=1, max_length=4096)] | None = None
    leading_tokens: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _names_what_is_judged(self) -> Self:
        asked = _PLACEHOLDER.findall(self.first + (self.second or ""))
        for field in FIELDS:
            count = asked.count(field)
            if count > 1 or (count == 0 and field != "question"):
                raise ValueError(f"{{{field}}} occurs {count} times in `first` and `second` together; write it once")
        return self

    @property
    def asks_question(self) -> bool:
        """Whether the model reads the question."""
        return "{question}" in self.first + (self.second or "")


class Tensors(_Part):
    """Names of the model's inputs and of the output that is read; `types` is None where there are no token types."""

    ids: TensorName = "input_ids"
    mask: TensorName = "attention_mask"
    types: TensorName | None = None
    output: TensorName = "logits"


class Labels(_Part):
    """What the output's last axis means.

    One column alone is a logit (or probability) of the side that lists it; among several, the columns of a side are
    alternatives and columns of neither side are ignored.

    Attributes:
        scores: whether the model puts out logits or probabilities.
        hallucinated, supported: columns of either side; for NLI, neutral and contradiction are *hallucinated*.
    """

    scores: Literal["logits", "probabilities"] = "logits"
    hallucinated: tuple[Column, ...] = ()
    supported: tuple[Column, ...] = ()

    @model_validator(mode="after")
    def _sides_are_told_apart(self) -> Self:
        both = [*self.hallucinated, *self.supported]
        if len(both) != len(set(both)):
            raise ValueError("a column is listed twice; each belongs to one side at most")
        if not both:
            raise ValueError("no column is listed; name those of `hallucinated`, of `supported`, or of both")
        if not (self.hallucinated and self.supported) and both != [0]:
            raise ValueError("one side is empty, which only a model of one output, column 0, allows; name both sides")
        return self

    @property
    def columns(self) -> int:
        """The least number of columns that the output must have."""
        return max(*self.hallucinated, *self.supported, 0) + 1

    @property
    def single(self) -> bool:
        """Whether the output has one column: a sigmoid instead of a softmax."""
        return not (self.hallucinated and self.supported)

    def log_odds(self, outputs: Floats) -> Floats:
        """Log-odds of *hallucinated*: `[..., columns]` to `[...]`. What is not finite stays so."""
        scores: Floats = outputs.astype(np.float32)
        if self.scores == "probabilities":
            bounded = np.clip(scores, _LEAST_PROBABILITY, 1 - _LEAST_PROBABILITY)
            scores = (np.log(bounded) - (np.log1p(-bounded) if self.single else 0)).astype(np.float32)
        if self.single:
            return scores[..., 0] if self.hallucinated else -scores[..., 0]
        # A model's NaN passes through; what it means is for the caller to say.
        with np.errstate(invalid="ignore"):
            unlike, like = (
                np.logaddexp.reduce(scores[..., list(side)], axis=-1) for side in (self.hallucinated, self.supported)
            )
            odds: Floats = unlike - like
        return odds


class Manifest(_Part):
    """One encoder.

    Attributes:
        name: what people call the model.
        kind: `pair` scores (context, answer) as a whole, `token` each token of the answer.
        max_tokens: the longest input, special tokens included.
        batch_tokens: tokens of a batch, padding included: what bounds its memory. On a CPU large batches are slower.
        answers: for `pair`, whether the answer is read whole or sentence by sentence, the worst of which counts.
        answer_score: for `token`, how the tokens' log-odds become the answer's: the highest, the mean, or the highest
            mean of a sentence.
        span_threshold: probability from which a sentence or token is reported as unsupported.
        overlap_sentences: sentences that consecutive windows of long documents share.
        quantisation: number type of the weights, as the judge's identity states it.
        licence, source: of the weights, for whoever must know.
    """

    schema_: Annotated[Literal["encoder_manifest.v1"], Field(alias="schema")]
    name: Annotated[str, Field(min_length=1, max_length=100)]
    kind: Literal["pair", "token"]
    model: HashedFile
    tokenizer: HashedFile
    input: Input
    tensors: Tensors = Tensors()
    labels: Labels
    max_tokens: Annotated[int, Field(ge=64, le=32_768)]
    batch_tokens: Annotated[int, Field(ge=64, le=1_048_576)] = 1024
    answers: Literal["whole", "sentences"] = "sentences"
    answer_score: Literal["max", "mean", "worst_sentence"] = "max"
    span_threshold: Annotated[float, Field(gt=0, lt=1)] = 0.5
    overlap_sentences: Annotated[int, Field(ge=0, le=100)] = 2
    quantisation: str | None = None
    licence: Annotated[str, Field(min_length=1)]
    source: Annotated[str, Field(min_length=1)]

    @property
    def reading_digest(self) -> str:
        """SHA-256, in hex, of all that decides a score beside the weights: tokenizer, templates, labels, limits."""
        said = self.model_dump(mode="json", by_alias=True, exclude=_SAYS_NOTHING_OF_SCORES)
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


def fill(template: str, values: dict[str, str]) -> tuple[str, int | None]:
    """Put texts into a template, and say where the answer begins, or None where it has none.

    Placeholders inside the texts themselves are left as they stand.
    """
    pieces: list[str] = []
    length = 0
    answer_start = None
    # `split` with one group alternates literal text and names.
    for number, part in enumerate(_PLACEHOLDER.split(template)):
        if number % 2 and part == "answer":
            answer_start = length
        pieces.append(values[part] if number % 2 else part)
        length += len(pieces[-1])
    return "".join(pieces), answer_start


def read_manifest(path: Path) -> tuple[Manifest, Path]:
    """Read a manifest, or `encoder.json` of a folder; also says in which folder its files lie.

    Raises:
        JudgeUnavailable: it cannot be read or breaks the contract; names file, field and what is allowed.
    """
    path = path / FILE_NAME if path.is_dir() else path
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise JudgeUnavailable(f"{path}: {error.strerror}; `encoder.manifest` names the manifest") from error
    if len(content) > MOST_BYTES:
        raise JudgeUnavailable(f"{path}: larger than {MOST_BYTES:,} bytes, so no manifest; did you name the model?")
    return parse_manifest(content, str(path)), path.parent


def parse_manifest(content: bytes, name: str = FILE_NAME) -> Manifest:
    """Read a manifest from its bytes; raises JudgeUnavailable as `read_manifest` does."""
    try:
        # Strictness is told of JSON, where a list may stand for a tuple.
        return Manifest.model_validate_json(content)
    except ValidationError as error:
        problems = [_problem(one) for one in error.errors(include_url=False, include_context=False)]
        raise JudgeUnavailable(f"{name}: {'; '.join(problems)}") from None


def _problem(error: Any) -> str:
    field = ".".join(str(part) for part in error["loc"]) or "the whole"
    if error["type"] == "extra_forbidden":
        return f"{field}: no such field; remove it or mend its name"
    if error["type"] == "missing":
        return f"{field}: missing; every manifest needs it"
    return f"{field}: {error['msg'].removeprefix('Value error, ')}"
