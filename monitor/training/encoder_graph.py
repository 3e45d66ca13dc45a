"""A support judge composed of a sentence encoder, as one ONNX graph.

    [CLS] answer [SEP] documents [SEP] ─┬─ answer alone ────▶ encoder ─┐
                                        └─ documents alone ─▶ encoder ─┴─▶ nearest document token of each answer token
                                                                            ─▶ evidence ─▶ linear head ─▶ logits

The encoder sees either side by itself, as it was trained to, and shares its weights between both. The comparison is
that of BERTScore (Zhang et al. 2020): each answer token with the document token whose contextual vector is nearest.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from monitor.domain.errors import InvalidInput

EVIDENCE = ("gap", "missing", "missing_gap")
"""For each answer token, all of them 0 where the documents hold it: 1 - its highest cosine similarity; 1 where no
document token is the same; the product of both."""

IDS, MASK, TYPES = "input_ids", "attention_mask", "token_type_ids"
LOGITS, EVIDENCE_OUTPUT = "logits", "evidence"

_AXES_AS_INPUT_SINCE = 18
_LEAST_OPSET = 13
_TINY = 1e-6

Floats = NDArray[np.float64]


@dataclass(slots=True)
class _Graph:
    """Nodes and constants as they are added; every method returns the name of what it made."""

    opset: int
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)

    def constant(self, value: NDArray[np.generic]) -> str:
        name = f"gw_constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(value, name))
        return name

    def add(self, operator: str, *inputs: str, output: str | None = None, **attributes: Any) -> str:
        name = output or f"gw_{operator.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def reduce(self, operator: str, value: str, axis: int, *, keep: bool) -> str:
        if operator == "ReduceSum" or self.opset >= _AXES_AS_INPUT_SINCE:
            axes = self.constant(np.array([axis], dtype=np.int64))
            return self.add(operator, value, axes, keepdims=int(keep))
        return self.add(operator, value, axes=[axis], keepdims=int(keep))

    def numbers(self, *values: int) -> str:
        return self.constant(np.array(values, dtype=np.int64))

    def to(self, value: str, kind: int) -> str:
        return self.add("Cast", value, to=kind)


class _Encoder:
    """The base model, to be run several times in one graph on the same weights."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self._graph = model.graph
        self.inputs = [one.name for one in model.graph.input]
        unlike = set(self.inputs) - {IDS, MASK, TYPES}
        if unlike or not {IDS, MASK} <= set(self.inputs):
            raise InvalidInput(f"the base model takes {', '.join(self.inputs)}; {IDS}, {MASK} and {TYPES} are allowed")
        if any(each.type == onnx.AttributeProto.GRAPH for node in model.graph.node for each in node.attribute):
            raise InvalidInput("the base model branches or loops; export it without control flow")
        self._depends = self._names_that_depend()

    def _names_that_depend(self) -> set[str]:
        """Names of all that is computed from the inputs; the rest is the weights'."""
        names = set(self.inputs)
        for node in self._graph.node:
            if names.intersection(node.input):
                names.update(node.output)
        return names

    def shared(self) -> list[onnx.NodeProto]:
        """The nodes that unpack weights: one copy serves every run."""
        return [node for node in self._graph.node if not self._depends.intersection(node.input)]

    def run(self, graph: _Graph, prefix: str, fed: dict[str, str]) -> str:
        """Add one run on the inputs given; returns its last hidden state, `[batch, length, size]`."""

        def renamed(name: str) -> str:
            return fed.get(name, f"{prefix}{name}") if name in self._depends else name

        for node in self._graph.node:
            if self._depends.intersection(node.input):
                copy = onnx.NodeProto()
                copy.CopyFrom(node)
                copy.name = f"{prefix}{node.name}" if node.name else ""
                copy.input[:] = map(renamed, node.input)
                copy.output[:] = map(renamed, node.output)
                graph.nodes.append(copy)
        return renamed(self._graph.output[0].name)


def compose_encoder(base: bytes, *, special_ids: Sequence[int], weights: Floats, bias: float) -> bytes:
    """Compose the judge.

    Its inputs are `input_ids`, `attention_mask`, `token_type_ids`, int64 `[batch, sequence]`; its outputs `logits`,
    float32 `[batch, sequence, 2]` (supported, hallucinated), and `evidence`, `[batch, sequence, len(EVIDENCE)]`.
    Token type 0 is the answer, which comes first, and 1 the documents. What stands past the answers is 0 in both
    outputs. The same arguments give the same bytes.

    Args:
        base: ONNX encoder whose first output is the last hidden state.
        special_ids: tokens that are no text.
        weights: of the head, one for each of `EVIDENCE`.
        bias: of the head.

    Raises:
        InvalidInput: the base model is none, or of a kind that cannot be composed.
    """
    try:
        model = onnx.load_model_from_string(base)
    except Exception as error:
        # protobuf's own errors have no common class that is public.
        raise InvalidInput(f"the base model is no ONNX file: {error}") from error
    opset = next((one.version for one in model.opset_import if one.domain in {"", "ai.onnx"}), 0)
    if opset < _LEAST_OPSET:
        raise InvalidInput(f"the base model has opset {opset}; {_LEAST_OPSET} or later is needed")
    encoder = _Encoder(model)
    graph = _Graph(opset)
    graph.nodes += encoder.shared()
    _judge(graph, encoder, special_ids, weights.astype(np.float32), np.float32(bias))
    return _assembled(model, graph)


def _judge(
    graph: _Graph, encoder: _Encoder, special_ids: Sequence[int], weights: NDArray[np.float32], bias: np.float32
) -> None:
    one = graph.constant(np.array(1, dtype=np.int64))
    own = graph.add("Mul", MASK, graph.add("Sub", one, TYPES))
    lengths = graph.reduce("ReduceSum", own, 1, keep=False)
    longest = graph.reduce("ReduceMax", lengths, 0, keep=True)
    zero, axis = graph.numbers(0), graph.numbers(1)
    answer_ids = graph.add("Slice", IDS, zero, longest, axis)
    answer_mask = graph.add("Slice", own, zero, longest, axis)
    answer = _encoded(graph, encoder, "answer/", answer_ids, answer_mask)
    # The documents keep the leading [CLS]: the encoder has never seen a text without.
    first = graph.add("Slice", MASK, zero, axis, axis)
    rest = graph.add("Slice", graph.add("Mul", MASK, TYPES), axis, graph.numbers(np.iinfo(np.int64).max), axis)
    documents = _encoded(graph, encoder, "documents/", IDS, graph.add("Concat", first, rest, axis=1))
    text = _is_text(graph, special_ids)
    evidence = _evidence(graph, answer, documents, answer_ids, text)
    head = graph.add("MatMul", evidence, graph.constant(weights[:, None]))
    half = graph.add(
        "Mul", graph.add("Add", head, graph.constant(np.array(bias))), graph.constant(np.array(0.5, dtype=np.float32))
    )
    logits = graph.add("Concat", graph.add("Neg", half), half, axis=2)
    _padded(graph, logits, longest, LOGITS)
    _padded(graph, evidence, longest, EVIDENCE_OUTPUT)


def _encoded(graph: _Graph, encoder: _Encoder, prefix: str, ids: str, mask: str) -> str:
    """Contextual vectors of length 1."""
    fed = {IDS: ids, MASK: mask, TYPES: graph.add("Sub", ids, ids)}
    hidden = encoder.run(graph, prefix, {name: fed[name] for name in encoder.inputs})
    square = graph.reduce("ReduceSum", graph.add("Mul", hidden, hidden), 2, keep=True)
    length = graph.add("Sqrt", graph.add("Add", square, graph.constant(np.array(_TINY, dtype=np.float32))))
    return graph.add("Div", hidden, length)


def _is_text(graph: _Graph, special_ids: Sequence[int]) -> str:
    """Whether a place holds a document's token that is no special one: bool `[batch, 1, sequence]`."""
    held = graph.to(graph.add("Mul", MASK, TYPES), TensorProto.BOOL)
    ids = graph.add("Unsqueeze", IDS, graph.numbers(2))
    special = graph.add("Equal", ids, graph.constant(np.array(special_ids, dtype=np.int64).reshape(1, 1, -1)))
    any_special = graph.reduce("ReduceMax", graph.to(special, TensorProto.INT32), 2, keep=False)
    ordinary = graph.add("Not", graph.to(any_special, TensorProto.BOOL))
    return graph.add("Unsqueeze", graph.add("And", held, ordinary), graph.numbers(1))


def _evidence(graph: _Graph, answer: str, documents: str, answer_ids: str, text: str) -> str:
    one = graph.constant(np.array(1, dtype=np.float32))
    similarity = graph.add("MatMul", answer, graph.add("Transpose", documents, perm=[0, 2, 1]))
    allowed = graph.add("Where", text, similarity, graph.constant(np.array(-1, dtype=np.float32)))
    gap = graph.add("Sub", one, graph.reduce("ReduceMax", allowed, 2, keep=True))
    same = graph.add(
        "Equal",
        graph.add("Unsqueeze", answer_ids, graph.numbers(2)),
        graph.add("Unsqueeze", IDS, graph.numbers(1)),
    )
    found = graph.to(graph.add("And", same, text), TensorProto.FLOAT)
    missing = graph.add("Sub", one, graph.reduce("ReduceMax", found, 2, keep=True))
    return graph.add("Concat", gap, missing, graph.add("Mul", missing, gap), axis=2)


def _padded(graph: _Graph, value: str, longest: str, output: str) -> None:
    """Fill `[batch, longest, n]` up to `[batch, sequence, n]` with zeros."""
    sequence = graph.add("Gather", graph.add("Shape", IDS), graph.numbers(1), axis=0)
    left = graph.add("Sub", sequence, longest)
    pads = graph.add("Concat", graph.numbers(0, 0, 0, 0), left, graph.numbers(0), axis=0)
    graph.add("Pad", value, pads, output=output)


def _assembled(base: onnx.ModelProto, graph: _Graph) -> bytes:
    takes = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in (IDS, MASK, TYPES)
    ]
    gives = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", "sequence", size])
        for name, size in ((LOGITS, 2), (EVIDENCE_OUTPUT, len(EVIDENCE)))
    ]
    made = onnx.ModelProto()
    made.CopyFrom(base)
    made.producer_name = "groundwatch"
    made.graph.CopyFrom(
        helper.make_graph(graph.nodes, "support", takes, gives, [*base.graph.initializer, *graph.constants])
    )
    onnx.checker.check_model(made)
    composed: bytes = made.SerializeToString(deterministic=True)
    return composed
