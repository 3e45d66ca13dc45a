"""A composed encoder judge, from a base model and labelled rows to a folder with its manifest."""

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitor.domain.errors import InvalidInput
from monitor.inference.encoder_manifest import FILE_NAME, Manifest, parse_manifest
from monitor.inference.encoder_reading import Reader
from monitor.inference.encoder_session import EncoderSession
from monitor.inference.encoder_tokens import Tokens
from monitor.training.encoder_fit import EncoderLeftOut, Evidence, collect, evaluate_head, fit_head
from monitor.training.encoder_graph import EVIDENCE, EVIDENCE_OUTPUT, IDS, LOGITS, MASK, TYPES, compose_encoder
from monitor.training.logistic import Logistic
from monitor.training.rows import Row

MODEL_FILE, TOKENIZER_FILE = "model.onnx", "tokenizer.json"
MOST_WINDOWS = 4

_NO_DIGEST = "0" * 64


@dataclass(frozen=True, kw_only=True, slots=True)
class Base:
    """What a judge is composed of.

    Attributes:
        model: the encoder's ONNX file.
        tokenizer: its `tokenizer.json`.
        max_tokens: the longest input that the encoder was trained for.
        licence, source: of the weights.
        quantisation: number type of the weights, or None.
    """

    model: bytes
    tokenizer: bytes
    max_tokens: int
    name: str
    licence: str
    source: str
    quantisation: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class TrainedEncoder:
    """One training, whole: the files of its folder, and its quality on unseen families."""

    head: Logistic
    manifest: Manifest
    files: dict[str, bytes]
    left_out: Sequence[EncoderLeftOut]

    def write(self, folder: Path) -> None:
        """Write the folder, which is made where it is missing."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, content in self.files.items():
            (folder / name).write_bytes(content)


def train_encoder(
    base: Base,
    rows: Sequence[Row],
    *,
    watch: Callable[[Sequence[Row]], Iterable[Row]] = iter,
) -> TrainedEncoder:
    """Compose, fit and measure; the same base and rows give the same files.

    Args:
        base: the encoder.
        rows: rows to fit and to measure on; a file is measured with a head that was fitted without its family.
        watch: passes the rows on as they are read, for a progress bar.

    Raises:
        InvalidInput: the rows do not suffice, or the base model cannot be composed.
        JudgeUnavailable: base model and tokenizer do not run.
    """
    evidence = _evidence(base, rows, watch)
    try:
        head, left_out = fit_head(evidence), evaluate_head(evidence)
    except ValueError as error:
        raise InvalidInput(f"the rows do not suffice: {error}") from error
    tokens = Tokens(base.tokenizer, _manifest(base, _NO_DIGEST, output=LOGITS))
    model = compose_encoder(base.model, special_ids=tokens.special_ids, weights=head.weights, bias=head.bias)
    manifest = _manifest(base, hashlib.sha256(model).hexdigest(), output=LOGITS)
    said = json.dumps(manifest.model_dump(mode="json", by_alias=True), indent=2) + "\n"
    files = {MODEL_FILE: model, TOKENIZER_FILE: base.tokenizer, FILE_NAME: said.encode()}
    return TrainedEncoder(head=head, manifest=manifest, files=files, left_out=left_out)


def _evidence(base: Base, rows: Sequence[Row], watch: Callable[[Sequence[Row]], Iterable[Row]]) -> list[Evidence]:
    manifest = _manifest(base, _NO_DIGEST, output=EVIDENCE_OUTPUT)
    tokens = Tokens(base.tokenizer, manifest)
    headless = compose_encoder(base.model, special_ids=tokens.special_ids, weights=np.zeros(len(EVIDENCE)), bias=0.0)
    session = EncoderSession(headless, manifest, pad_id=tokens.pad_id, threads=1)
    reader = Reader(tokens, manifest, max_tokens=session.max_tokens, most_windows=MOST_WINDOWS)
    return collect(watch(rows), reader, session, manifest)


def _manifest(base: Base, model_digest: str, *, output: str) -> Manifest:
    said: dict[str, Any] = {
        "schema": "encoder_manifest.v1",
        "name": base.name,
        "kind": "token",
        "model": {"file": MODEL_FILE, "sha256": model_digest},
        "tokenizer": {"file": TOKENIZER_FILE, "sha256": hashlib.sha256(base.tokenizer).hexdigest()},
        # The answer first: the graph cuts it off the front, and encodes it once more by itself.
        "input": {"first": "{answer}", "second": "{context}"},
        "tensors": {"ids": IDS, "mask": MASK, "types": TYPES, "output": output},
        "labels": {"scores": "logits", "supported": [0], "hallucinated": [1]},
        "max_tokens": base.max_tokens,
        "answer_score": "mean",
        "quantisation": base.quantisation,
        "licence": base.licence,
        "source": base.source,
    }
    return parse_manifest(json.dumps(said).encode())
