import hashlib
import json
import random
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from monitor.domain.errors import InvalidInput
from monitor.domain.judgement import Opinion
from monitor.domain.trace import Document, Trace
from monitor.inference.encoder import EncoderJudge
from monitor.training import encoder_fit, screen
from monitor.training.encoder_export import Base, train_encoder
from monitor.training.encoder_fit import evaluate_head
from monitor.training.encoder_graph import compose_encoder
from monitor.training.rows import Row, as_row
from tests.support.encoders import words

NOUNS = ("river", "bridge", "tower", "road", "mill", "church", "harbour", "market")
VERBS = ("crosses", "meets", "feeds", "faces", "borders", "shades", "drains", "joins")
VOCABULARY = ("the", ".", *NOUNS, *VERBS)
SIZE = 16


def base_model(*, inputs=("input_ids", "attention_mask", "token_type_ids"), opset=17) -> bytes:
    """A sentence encoder that looks each token up, and adds a little of the mean of those that its mask shows."""
    table = np.random.default_rng(7).normal(size=(5 + len(VOCABULARY), SIZE)).astype(np.float32)
    nodes = [
        helper.make_node("Identity", ["packed"], ["table"]),
        helper.make_node("Gather", ["table", "input_ids"], ["looked"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
        helper.make_node("Mul", ["looked", "column"], ["seen"]),
        helper.make_node("ReduceSum", ["seen", "middle"], ["sum"]),
        helper.make_node("ReduceSum", ["column", "middle"], ["count"]),
        helper.make_node("Div", ["sum", "count"], ["mean"]),
        helper.make_node("Mul", ["mean", "little"], ["around"]),
        helper.make_node("Add", ["looked", "around"], ["last_hidden_state"]),
    ]
    constants = [
        numpy_helper.from_array(table, "packed"),
        numpy_helper.from_array(np.array([2]), "last"),
        numpy_helper.from_array(np.array([1]), "middle"),
        numpy_helper.from_array(np.array(0.2, dtype=np.float32), "little"),
    ]
    graph = helper.make_graph(
        nodes,
        "lookup",
        [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"]) for name in inputs],
        [helper.make_tensor_value_info("last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", SIZE])],
        constants,
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])
    made.ir_version = 8
    return made.SerializeToString()


def sentence(choice: random.Random) -> str:
    return f"The {choice.choice(NOUNS)} {choice.choice(VERBS)} the {choice.choice(NOUNS)}."


def rows(file: str, count: int = 40, *, labels=("PASS", "FAIL")) -> list[Row]:
    """Documents of four sentences; a PASS answer is one of them, a FAIL answer is not."""
    choice = random.Random(file)
    made = []
    for number in range(count):
        documents = [sentence(choice) for _ in range(4)]
        label = labels[number % len(labels)]
        answer = choice.choice(documents) if label == "PASS" else sentence(choice)
        raw = {
            "id": f"{file}-{number}",
            "dataset": file,
            "question": "",
            "context": documents,
            "answer": answer,
            "label": label,
        }
        made.append(as_row(file, raw))
    return made


def base(model: bytes | None = None) -> Base:
    return Base(
        model=model or base_model(),
        tokenizer=words(*VOCABULARY).to_str().encode(),
        max_tokens=128,
        name="lookup",
        licence="Apache-2.0",
        source="made by the tests",
    )


@pytest.fixture(scope="module", autouse=True)
def a_quick_screen():
    """The screen beside the encoder is fitted to few composed rows: how good it is does not matter here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(screen, "COMPOSED_PER_FILE", 20)
        yield


@pytest.fixture(scope="module")
def trained():
    return train_encoder(base(), [*rows("one"), *rows("two"), *rows("three")])


def test_training_measures_each_file_without_its_family_and_beside_the_screen(trained) -> None:
    assert [one.file for one in trained.left_out] == ["one", "three", "two"]
    for one in trained.left_out:
        assert one.rows == 40
        assert one.auroc > 0.7
        assert -1 <= one.correlation <= 1


def test_training_again_makes_the_same_files(trained) -> None:
    again = train_encoder(base(), [*rows("one"), *rows("two"), *rows("three")])
    assert again.files == trained.files


def test_the_folder_is_a_judge(trained, tmp_path) -> None:
    trained.write(tmp_path / "judge")
    manifest = json.loads((tmp_path / "judge/encoder.json").read_text("utf-8"))
    assert manifest["model"]["sha256"] == hashlib.sha256(trained.files["model.onnx"]).hexdigest()
    judge = EncoderJudge(tmp_path / "judge")
    assert not judge.alone


def test_no_evidence_speaks_for_an_invention_by_its_absence(trained) -> None:
    assert (trained.head.weights >= 0).all()
    assert trained.head.weights.any()


def run(model: bytes, ids, mask, types):
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    fed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
    return session.run(["logits", "evidence"], {name: np.array(value, dtype=np.int64) for name, value in fed.items()})


SPECIAL_IDS = (0, 2, 3, 4)
# [CLS] river bridge [SEP] bridge tower [SEP], and a shorter row, filled up.
IDS = [[2, 7, 8, 3, 8, 9, 3], [2, 7, 3, 7, 3, 0, 0]]
MASK = [[1, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0, 0]]
TYPES = [[0, 0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 0, 0]]


@pytest.mark.parametrize("inputs", [("input_ids", "attention_mask", "token_type_ids"), ("attention_mask", "input_ids")])
@pytest.mark.parametrize("opset", [13, 17, 18])
def test_evidence_is_what_the_documents_lack(inputs, opset) -> None:
    composed = compose_encoder(
        base_model(inputs=inputs, opset=opset), special_ids=SPECIAL_IDS, weights=np.array([0.0, 4.0, 0.0]), bias=-1.0
    )
    logits, evidence = run(composed, IDS, MASK, TYPES)
    gap, missing, product = np.moveaxis(evidence, 2, 0)
    assert missing[0, 1:3].tolist() == [1, 0]
    assert missing[1, 1] == 0
    assert 0 <= gap[0, 2] < 0.1 < gap[0, 1] <= 2
    assert product == pytest.approx(gap * missing)
    assert (logits[..., 1] - logits[..., 0])[0, 1:3] == pytest.approx([3, -1])
    # Past the longest answer, with its closing token, there is nothing.
    assert not logits[:, 4:].any()
    assert not evidence[:, 4:].any()


def test_a_row_scores_the_same_beside_a_longer_one() -> None:
    composed = compose_encoder(base_model(), special_ids=SPECIAL_IDS, weights=np.ones(3), bias=0.0)
    together, _ = run(composed, IDS, MASK, TYPES)
    alone, _ = run(composed, [IDS[1][:5]], [MASK[1][:5]], [TYPES[1][:5]])
    assert together[1, :3] == pytest.approx(alone[0, :3], abs=1e-5)


def test_documents_of_special_tokens_support_nothing() -> None:
    composed = compose_encoder(base_model(), special_ids=SPECIAL_IDS, weights=np.ones(3), bias=0.0)
    _, evidence = run(composed, [[2, 7, 3, 3, 4]], [[1] * 5], [[0, 0, 0, 1, 1]])
    assert evidence[0, 1].tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (b"no model", "no ONNX file"),
        (base_model(inputs=("input_ids", "attention_mask", "token_type_ids", "pixels")), "pixels"),
        (base_model(opset=12), "opset 12"),
    ],
)
def test_base_models_that_cannot_be_composed_are_refused(model, says) -> None:
    with pytest.raises(InvalidInput, match=says):
        compose_encoder(model, special_ids=SPECIAL_IDS, weights=np.ones(3), bias=0.0)


def test_a_base_model_with_branches_is_refused() -> None:
    model = onnx.load_model_from_string(base_model())
    body = helper.make_graph([], "body", [], [])
    model.graph.node.append(helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body))
    with pytest.raises(InvalidInput, match="branches or loops"):
        compose_encoder(model.SerializeToString(), special_ids=SPECIAL_IDS, weights=np.ones(3), bias=0.0)


def test_rows_of_one_label_or_one_family_do_not_suffice() -> None:
    with pytest.raises(InvalidInput, match="one: both labels must occur"):
        train_encoder(base(), [*rows("one", labels=("FAIL",)), *rows("two")])
    with pytest.raises(InvalidInput, match="no other family"):
        train_encoder(base(), rows("one"))


def test_a_file_of_several_families_is_measured_without_any_of_them(monkeypatch) -> None:
    fitted_on = []
    fit = encoder_fit.fit_head

    def watched(part):
        fitted_on.append({one.row.family for one in part})
        return fit(part)

    monkeypatch.setattr(encoder_fit, "fit_head", watched)
    evidence = [
        encoder_fit.Evidence(
            row=replace(row, file="mixed" if row.family in {"one", "two"} else "three"),
            tokens=np.full((1, 2, 3), float(row.hallucinated) + 0.1 * number, dtype=np.float32),
        )
        for number, row in enumerate([*rows("one"), *rows("two"), *rows("three")])
    ]
    evaluate_head(evidence)
    assert fitted_on == [{"three"}, {"one", "two"}]


def test_an_opinion_of_the_judge_points_to_the_invented_word(trained, tmp_path) -> None:
    trained.write(tmp_path)
    answer = "The river crosses the market."
    opinion = EncoderJudge(tmp_path).judge(
        Trace(
            trace_id="t",
            event_time=datetime(2026, 1, 1, tzinfo=UTC),
            tenant="a",
            service="b",
            environment="c",
            question="",
            documents=(Document(id="d", text="The river crosses the road."),),
            answer=answer,
        ),
        deadline_seconds=60,
    )
    assert isinstance(opinion, Opinion)
    assert [answer[one.start : one.end] for one in opinion.unsupported] == ["market"]
