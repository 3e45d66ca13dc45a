"""Labelled rows of any source: our own JSON lines, and HaluBench's columns, as JSON lines or Parquet.

HaluBench's columns (Ravi et al. 2024) are `id`, `passage`, `question`, `answer`, `label` (PASS or FAIL) and
`source_ds`; other columns are ignored. One of its files holds several data sets, which `source_ds` names.
"""

import gzip
import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from monitor.benchmarks.scores import row_key
from monitor.domain.errors import InvalidInput
from monitor.training.rows import Row, as_row
from monitor.training.screen import by_file
from monitor.training.split import balanced

_SUFFIXES = (".jsonl", ".jsonl.gz", ".parquet")


def read_labelled(paths: Sequence[Path]) -> list[Row]:
    """The rows of files, and of all labelled files in folders. A row's `file` is its data set.

    Raises:
        InvalidInput: a path cannot be read, a record is no labelled row, or two rows have one name.
    """
    rows = [row for path in paths for file in _files(path) for row in _read(file)]
    twice = [key for key, count in Counter(map(row_key, rows)).items() if count > 1]
    if twice:
        raise InvalidInput(f"{len(twice)} ids occur more than once in their data set, such as {twice[0]}")
    return rows


def sample(rows: Sequence[Row], *, per_data_set: int | None) -> list[Row]:
    """As many faithful as hallucinated rows of each data set, at most `per_data_set`; always the same ones.

    Raises:
        InvalidInput: a data set lacks one of the labels.
    """
    chosen = []
    for name, own in sorted(by_file(rows).items()):
        # By identity and not by id: it is the row's own object that comes back.
        by_raw = {id(row.raw): row for row in own}
        kept = balanced([row.raw for row in own], limit=per_data_set)
        if not kept:
            raise InvalidInput(f"{name}: needs PASS and FAIL rows, has only one of them")
        chosen += [by_raw[id(raw)] for raw in kept]
    return chosen


def collections(rows: Sequence[Row]) -> Mapping[str, str]:
    """By data set, the collection that it belongs to: data sets with a family in common, at first hand or at second.

    What is left out is left out by collection, since one family's annotators and generators mark all of its rows.
    A collection is named after the first of its data sets.
    """
    found: dict[str, str] = {}
    by_family: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        by_family[row.family].add(row.file)
        found[row.file] = row.file
    for kin in by_family.values():
        joined = {found[name] for name in kin}
        found.update({name: min(joined) for name, collection in found.items() if collection in joined})
    return found


def _files(path: Path) -> list[Path]:
    if not path.is_dir():
        return [path]
    found = sorted(file for file in path.iterdir() if file.name.endswith(_SUFFIXES))
    if not found:
        raise InvalidInput(f"{path}: holds no file that ends with {', '.join(_SUFFIXES)}")
    return found


def _read(path: Path) -> Iterator[Row]:
    name = path.name.split(".")[0]
    records = _parquet(path) if path.suffix == ".parquet" else _lines(path)
    for number, record in records:
        try:
            raw = json.loads(record) if isinstance(record, bytes) else record
            yield _halubench_row(raw) if "passage" in raw else as_row(name, raw)
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InvalidInput(f"{path}, record {number}: not a labelled row: {error!r}") from None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InvalidInput(f"{path}: {error}") from None
    for number, line in enumerate(content.splitlines(), start=1):
        if line.strip():
            yield number, line


def _parquet(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    try:
        from monitor.lake.records import read_records  # noqa: PLC0415 - pyarrow is an extra: most read no Parquet
    except ImportError:
        raise InvalidInput(f"{path}: reading Parquet needs pyarrow; install groundwatch[bench]") from None
    yield from enumerate(read_records(path), start=1)


def _halubench_row(record: dict[str, Any]) -> Row:
    source = str(record["source_ds"])
    passage = record["passage"]
    raw = {
        "id": str(record["id"]),
        "dataset": source,
        "question": record["question"] or "",
        "context": [passage] if isinstance(passage, str) else list(passage),
        "answer": record["answer"],
        "label": record["label"],
    }
    return as_row(source, raw)
