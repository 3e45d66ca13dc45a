import json

import numpy as np
import pytest

from monitor.domain.errors import JudgeUnavailable
from monitor.inference.encoder import EncoderJudge
from monitor.inference.encoder_manifest import Input, Labels, fill, parse_manifest, read_manifest
from tests.support.encoders import LABELS, encoder, wordpiece, write_encoder


@pytest.fixture
def folder(tmp_path):
    return write_encoder(tmp_path / "tiny", encoder(), wordpiece())


def changed(folder, **changes):
    path = folder / "encoder.json"
    path.write_text(json.dumps(json.loads(path.read_text("utf-8")) | changes), encoding="utf-8")
    return folder


def test_a_folder_and_its_manifest_are_the_same(folder) -> None:
    assert read_manifest(folder) == read_manifest(folder / "encoder.json")


@pytest.mark.parametrize(
    ("changes", "field", "fix"),
    [
        ({"max_lenght": 512}, "max_lenght", "no such field"),
        ({"kind": "triple"}, "kind", "'pair' or 'token'"),
        ({"max_tokens": "512"}, "max_tokens", "valid integer"),
        ({"licence": ""}, "licence", "at least 1"),
        ({"labels": {"hallucinated": [1]}}, "labels", "name both sides"),
        ({"labels": {"hallucinated": [1], "supported": [1]}}, "labels", "listed twice"),
        ({"labels": {}}, "labels", "no column is listed"),
        ({"input": {"first": "{context}"}}, "input", "{answer} occurs 0 times"),
        ({"input": {"first": "{context}{context}", "second": "{answer}"}}, "input", "{context} occurs 2 times"),
        ({"model": {"file": "/etc/passwd", "sha256": "0" * 64}}, "model.file", "pattern"),
    ],
)
def test_what_is_wrong_is_named_with_file_field_and_fix(folder, changes, field, fix) -> None:
    with pytest.raises(JudgeUnavailable) as caught:
        read_manifest(changed(folder, **changes))
    assert str(caught.value).startswith(f"{folder / 'encoder.json'}: {field}")
    assert fix in str(caught.value)


def test_a_missing_field_is_named(folder) -> None:
    path = folder / "encoder.json"
    said = json.loads(path.read_text("utf-8"))
    del said["tokenizer"]
    path.write_text(json.dumps(said), encoding="utf-8")
    with pytest.raises(JudgeUnavailable, match="tokenizer: missing"):
        read_manifest(folder)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b'"text"', b"null"])
def test_what_is_no_manifest_is_refused(content) -> None:
    with pytest.raises(JudgeUnavailable):
        parse_manifest(content)


def test_a_file_too_large_for_a_manifest_is_refused(tmp_path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(b" " * 100_000)
    with pytest.raises(JudgeUnavailable, match="did you name the model"):
        read_manifest(path)


def test_a_missing_manifest_is_told(tmp_path) -> None:
    with pytest.raises(JudgeUnavailable, match="No such file"):
        read_manifest(tmp_path / "nowhere")


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_another_file_than_the_hash_says_is_refused(folder, name) -> None:
    (folder / name).write_bytes((folder / name).read_bytes() + b" ")
    with pytest.raises(JudgeUnavailable, match=rf"{name}: SHA-256 is .* restore the file"):
        EncoderJudge(folder)


@pytest.mark.parametrize("name", ["model.onnx", "tokenizer.json"])
def test_a_missing_file_is_told(folder, name) -> None:
    (folder / name).unlink()
    with pytest.raises(JudgeUnavailable, match=name):
        EncoderJudge(folder)


@pytest.mark.parametrize("labels", LABELS)
def test_labels_are_read_alike_however_a_model_puts_them_out(labels) -> None:
    odds = np.array([-3.0, 0.0, 2.5], dtype=np.float32)
    probability = 1 / (1 + np.exp(-odds))
    columns = {
        "two": [-odds / 2, odds / 2],
        "two_reversed": [odds / 2, -odds / 2],
        "single": [odds],
        "single_supported": [-odds],
        "nli": [odds * 0, odds - np.log(2), odds - np.log(2)],
        "probability": [probability],
        "probabilities": [1 - probability, probability],
    }[labels]
    read = Labels.model_validate_json(json.dumps(LABELS[labels]))
    assert read.log_odds(np.stack(columns, axis=-1)) == pytest.approx(odds, abs=1e-4)


def test_probabilities_of_zero_and_one_stay_finite() -> None:
    read = Labels.model_validate_json(json.dumps(LABELS["probability"]))
    assert np.isfinite(read.log_odds(np.array([[0.0], [1.0]], dtype=np.float32))).all()


def test_columns_of_neither_side_say_nothing() -> None:
    read = Labels.model_validate_json('{"supported": [0], "hallucinated": [2]}')
    assert read.log_odds(np.array([[1.0, 99.0, 3.0]], dtype=np.float32)) == pytest.approx([2.0])


def test_placeholders_in_judged_text_are_text() -> None:
    values = {"question": "q", "context": "{answer} and {0}", "answer": "{context}"}
    assert fill("C: {context} A: {answer}.", values) == ("C: {answer} and {0} A: {context}.", 23)
    assert fill("only {context}", values) == ("only {answer} and {0}", None)


def test_the_question_is_asked_for_or_not() -> None:
    assert Input(first="{question} {context}", second="{answer}").asks_question
    assert not Input(first="{context}", second="{answer}").asks_question


def test_what_decides_a_score_decides_the_version(folder) -> None:
    plain = EncoderJudge(folder).identity
    assert EncoderJudge(changed(folder, source="elsewhere", licence="MIT")).identity == plain
    assert EncoderJudge(changed(folder, max_tokens=128)).identity.version != plain.version
    assert EncoderJudge(changed(folder, max_tokens=256, answers="whole")).identity.version != plain.version
    other = write_encoder(folder, encoder(leaks=True), wordpiece())
    assert EncoderJudge(other).identity.model_digest != plain.model_digest
