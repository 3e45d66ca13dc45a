"""Postgres' CSV becomes columns: in pieces of whole rows, null apart from the empty string."""

import pytest

from monitor.lake import decoding
from monitor.lake.datasets import TEXTS
from monitor.lake.decoding import blocks, decode

ROW = (
    b'city,desk,production,"t,1",2026-03-01 12:00:00.000001+00,"","[{""id"": ""d"", ""text"": ""a\\nb"", ""score"": 1,'
    b' ""metadata"": {""page"": 1}}]","two\r\nlines ""quoted""",,"","{""k"": ""v""}",,\n'
)


@pytest.mark.parametrize("rows", [1, 2, 3, 7])
def test_blocks_hold_whole_rows_and_all_of_them(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    monkeypatch.setattr(decoding, "_BLOCK_ROWS", 3)
    found = list(blocks(memoryview(ROW) for _ in range(rows)))
    assert [decode(TEXTS, block).num_rows for block in found] == [min(3, rows - start) for start in range(0, rows, 3)]


def test_a_block_is_full_by_its_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "_BLOCK_BYTES", len(ROW) + 1)
    assert [len(block) for block in blocks([ROW] * 5)] == [2 * len(ROW), 2 * len(ROW), len(ROW)]


def test_null_is_not_the_empty_string() -> None:
    (row,) = decode(TEXTS, ROW).to_pylist()
    assert (row["question"], row["generator_model"], row["prompt_version"], row["otel_span_id"]) == ("", None, "", None)
    assert (row["trace_id"], row["answer"], row["tags"]) == ("t,1", 'two\r\nlines "quoted"', [("k", "v")])
    assert row["documents"] == [{"id": "d", "text": "a\nb", "score": 1.0, "metadata": '{"page": 1}'}]
    assert row["event_time"].microsecond == 1
