"""Tiny encoders for tests: real ONNX models and tokenizers with manifests, made in milliseconds.

They score what an answer holds that its context does not: `PAIR_SLOPE` times the share of such tokens, plus
`PAIR_BASE`; or, by token, `TOKEN_ODDS` where the context lacks it and minus that where not.
"""

import hashlib
import json
import math
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors

PAIR_SLOPE, PAIR_BASE, TOKEN_ODDS = 8.0, -2.0, 3.0
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

LABELS = {
    "two": {"supported": [0], "hallucinated": [1]},
    "two_reversed": {"supported": [1], "hallucinated": [0]},
    "single": {"hallucinated": [0]},
    "single_supported": {"supported": [0]},
    "nli": {"supported": [0], "hallucinated": [1, 2]},
    "probability": {"hallucinated": [0], "scores": "probabilities"},
    "probabilities": {"supported": [0], "hallucinated": [1], "scores": "probabilities"},
}
"""The ways in which models put out the same judgement, and what their manifests say of it."""


def wordpiece() -> Tokenizer:
    """Lower-case words of letters, as WordPiece: any ASCII word is its letters."""
    letters = [chr(code) for code in range(33, 127) if not chr(code).isupper()]
    vocabulary = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters if letter.isalnum())]
    tokenizer = Tokenizer(models.WordPiece({token: place for place, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _framed(tokenizer)


def words(*known: str) -> Tokenizer:
    """One token a word; words that are not known are `[UNK]`."""
    vocabulary = {token: place for place, token in enumerate((*SPECIAL, *known))}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return _framed(tokenizer)


def unigram(*, unknown: bool = True) -> Tokenizer:
    """Like T5's and DeBERTa-v3's: the special tokens are pieces of the model itself, and the likeliest ones."""
    letters = [(chr(code), -5.0) for code in range(33, 127)]
    pieces = [(token, 0.0) for token in SPECIAL if unknown or token != "[UNK]"]
    vocabulary = [*pieces, ("▁", -4.0), *letters]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=1 if unknown else None))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    return _framed(tokenizer, SPECIAL if unknown else [token for token in SPECIAL if token != "[UNK]"])


def _framed(tokenizer: Tokenizer, special=SPECIAL) -> Tokenizer:
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer


def encoder(
    kind: str = "pair",
    labels: str = "two",
    *,
    length: int | None = None,
    leaks: bool = False,
    spoils: bool = False,
    types: bool = True,
) -> bytes:
    """The model of the kind `pair` or `token`, the answer being token type 1.

    Args:
        kind, labels: see the module and `LABELS`.
        length: a fixed sequence axis instead of a dynamic one.
        leaks: each score also depends on the other inputs of its batch, as under dynamic quantisation.
        spoils: an input that holds the letter z (of `wordpiece`) scores NaN.
        types: without, the model takes no token types and scores as if the context held nothing.
    """
    graph = _Graph()
    odds = graph.odds(kind, types=types)
    if leaks:
        odds = graph.add("Add", odds, graph.add("ReduceMax", odds, keepdims=0))
    if spoils:
        odds = graph.add("Add", odds, graph.spoilt(kind))
    graph.put_out(odds, labels)
    names = ["input_ids", "attention_mask", *(["token_type_ids"] if types else [])]
    sequence = length or "sequence"
    gives = ["batch", "labels"] if kind == "pair" else ["batch", sequence, "labels"]
    made = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "tiny encoder",
            [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", sequence]) for name in names],
            [helper.make_tensor_value_info("logits", TensorProto.FLOAT, gives)],
            graph.constants,
        ),
        opset_imports=[helper.make_opsetid("", 17)],
    )
    made.ir_version = 8
    onnx.checker.check_model(made)
    return made.SerializeToString()


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, value, kind=np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.array(value, dtype=kind), f"c{len(self.constants)}"))
        return self.constants[-1].name

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes) -> str:
        name = output or f"n{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def number(self, value: str) -> str:
        return self.add("Cast", value, to=TensorProto.FLOAT)

    def axis(self, value: str, place: int) -> str:
        return self.add("Unsqueeze", value, self.constant([place], np.int64))

    def odds(self, kind: str, *, types: bool) -> str:
        own, missing = self.missing() if types else (self.number("attention_mask"),) * 2
        if kind == "token":
            doubled = self.add("Mul", missing, self.constant(2 * TOKEN_ODDS))
            return self.add("Sub", doubled, self.constant(TOKEN_ODDS))
        sums = [self.add("ReduceSum", one, self.constant([1], np.int64), keepdims=0) for one in (missing, own)]
        share = self.add("Div", sums[0], self.add("Max", sums[1], self.constant(1)))
        return self.add("Add", self.add("Mul", share, self.constant(PAIR_SLOPE)), self.constant(PAIR_BASE))

    def missing(self) -> tuple[str, str]:
        answer = self.add("Mul", "attention_mask", "token_type_ids")
        context = self.number(self.axis(self.add("Sub", "attention_mask", answer), 1))
        same = self.number(self.add("Equal", self.axis("input_ids", 2), self.axis("input_ids", 1)))
        found = self.add("ReduceMax", self.add("Mul", same, context), axes=[2], keepdims=0)
        own = self.number(answer)
        return own, self.add("Mul", own, self.add("Sub", self.constant(1), found))

    def spoilt(self, kind: str) -> str:
        """0, but not a number for inputs that hold the letter: 0 divided by 0."""
        held = self.number(self.add("Equal", "input_ids", self.constant(wordpiece().token_to_id("z"), np.int64)))
        most = self.add("ReduceMax", held, axes=[1], keepdims=int(kind == "token"))
        return self.add("Div", self.constant(0), self.add("Sub", self.constant(1), most))

    def put_out(self, odds: str, labels: str) -> None:
        column = self.axis(odds, -1)
        half = self.add("Mul", column, self.constant(0.5))
        part = self.add("Sub", column, self.constant(math.log(2)))
        gives = {
            "two_reversed": [half, self.add("Neg", half)],
            "nli": [self.add("Sub", column, column), part, part],
            "single": [column],
            "probability": [column],
            "single_supported": [self.add("Neg", column)],
        }.get(labels, [self.add("Neg", half), half])
        logits = self.add("Concat", *gives, axis=-1)
        if labels == "probabilities":
            logits = self.add("Softmax", logits, axis=-1)
        self.add("Sigmoid" if labels == "probability" else "Identity", logits, output="logits")


def write_encoder(folder: Path, model: bytes, tokenizer: Tokenizer, **changes) -> Path:
    """Write a folder with model, tokenizer and manifest; `changes` go into the manifest, None removes a field."""
    folder.mkdir(parents=True, exist_ok=True)
    said = tokenizer.to_str().encode()
    manifest = {
        "schema": "encoder_manifest.v1",
        "name": "tiny",
        "kind": "pair",
        "model": {"file": "model.onnx", "sha256": hashlib.sha256(model).hexdigest()},
        "tokenizer": {"file": "tokenizer.json", "sha256": hashlib.sha256(said).hexdigest()},
        "input": {"first": "{context}", "second": "{answer}"},
        "tensors": {"types": "token_type_ids"},
        "labels": LABELS["two"],
        "max_tokens": 256,
        "licence": "Apache-2.0",
        "source": "made by the tests",
    } | changes
    manifest = {name: value for name, value in manifest.items() if value is not None}
    (folder / "model.onnx").write_bytes(model)
    (folder / "tokenizer.json").write_bytes(said)
    (folder / "encoder.json").write_text(json.dumps(manifest), encoding="utf-8")
    return folder
