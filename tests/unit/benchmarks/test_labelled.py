import gzip
import json
import sys

import pyarrow as pa
import pytest
from pyarrow import parquet

from monitor.benchmarks.labelled import collections, read_labelled, sample
from monitor.domain.errors import InvalidInput
from tests.examples.labelled import halubench, labelled, written

A, B = labelled("a", 12), labelled("b", 8)


def judged_part(row):
    return row.id, row.file, row.question, row.documents, row.answer, row.hallucinated


def test_parquet_and_json_lines_in_halubenchs_columns_are_the_same_rows_as_ours(tmp_path):
    ours = read_labelled([written(tmp_path / "a.jsonl", A), written(tmp_path / "b.jsonl", B)])
    table = pa.Table.from_pylist(halubench(A + B))
    parquet.write_table(table, tmp_path / "halubench.parquet", row_group_size=5)
    lines = written(tmp_path / "halubench.jsonl", halubench(A + B))

    for path in (tmp_path / "halubench.parquet", lines):
        assert [judged_part(row) for row in read_labelled([path])] == [judged_part(row) for row in ours]


def test_parquet_of_our_own_columns_is_read(tmp_path):
    parquet.write_table(pa.Table.from_pylist(A), tmp_path / "a.parquet")
    expected = [judged_part(row) for row in read_labelled([written(tmp_path / "a.jsonl", A)])]

    assert [judged_part(row) for row in read_labelled([tmp_path / "a.parquet"])] == expected


def test_a_folder_stands_for_its_labelled_files(tmp_path):
    written(tmp_path / "a.jsonl", A)
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, B)).encode()))
    (tmp_path / "README.md").write_text("no rows")

    assert [row.id for row in read_labelled([tmp_path])] == [row["id"] for row in A + B]


def test_a_sample_is_balanced_bounded_and_always_the_same(tmp_path):
    rows = read_labelled([written(tmp_path / "a.jsonl", A), written(tmp_path / "b.jsonl", B)])
    chosen = sample(rows, per_data_set=10)

    assert [(row.file, row.hallucinated) for row in chosen].count(("a", True)) == 5
    assert len([row for row in chosen if row.file == "b"]) == 8
    assert chosen == sample(list(reversed(rows)), per_data_set=10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PAR1 but no more", r"\.parquet"),
        (b"", r"\.parquet"),
    ],
)
def test_a_damaged_parquet_file_is_named(tmp_path, content, message):
    (tmp_path / "x.parquet").write_bytes(content)
    with pytest.raises(InvalidInput, match=message):
        read_labelled([tmp_path / "x.parquet"])


@pytest.mark.parametrize(
    "line", ["{", "3", '"passage"', "[]", "{}", '{"passage": "p", "label": "PASS"}', '{"id": 1, "label": "MAYBE"}']
)
def test_a_record_that_is_no_row_is_named(tmp_path, line):
    path = tmp_path / "x.jsonl"
    path.write_text(json.dumps(A[0]) + "\n" + line + "\n")
    with pytest.raises(InvalidInput, match="record 2"):
        read_labelled([path])


def test_ids_that_occur_twice_in_a_data_set_are_refused(tmp_path):
    with pytest.raises(InvalidInput, match="a/a-0"):
        read_labelled([written(tmp_path / "a.jsonl", [*A, A[0]])])


def test_a_data_set_of_one_label_is_refused(tmp_path):
    rows = read_labelled([written(tmp_path / "a.jsonl", [row for row in A if row["label"] == "PASS"])])
    with pytest.raises(InvalidInput, match="a: needs PASS and FAIL"):
        sample(rows, per_data_set=None)


def test_without_pyarrow_parquet_says_what_to_install(tmp_path, monkeypatch):
    (tmp_path / "x.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.delitem(sys.modules, "monitor.lake.records", raising=False)
    with pytest.raises(InvalidInput, match=r"groundwatch\[bench\]"):
        read_labelled([tmp_path / "x.parquet"])


def test_data_sets_that_share_a_family_even_at_second_hand_are_one_collection(tmp_path):
    mixed = labelled("b", 4, family="one") + labelled("b2", 4, family="two:part")
    paths = [
        written(tmp_path / "a.jsonl", labelled("a", 4, family="one")),
        written(tmp_path / "b.jsonl", mixed),
        written(tmp_path / "c.jsonl", labelled("c", 4, family="two")),
        written(tmp_path / "d.jsonl", labelled("d", 4, family="three")),
    ]
    for order in (paths, paths[::-1]):
        assert collections(read_labelled(order)) == {"a": "a", "b": "a", "c": "a", "d": "d"}
