"""One hour of one dataset as a Parquet file."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
from pyarrow import parquet

from monitor.lake.counting import naming
from monitor.lake.datasets import Dataset
from monitor.lake.decoding import blocks, decode


@dataclass(frozen=True, kw_only=True, slots=True)
class Written:
    """What a file came to hold.

    Attributes:
        rows: all of them.
        kept: those of `rows` that the ledger has no more: taken over from the file before.
        size: in bytes.
    """

    rows: int
    kept: int
    size: int


def write_hour(path: Path, dataset: Dataset, rows: Iterable[Any], *, before: Path) -> Written | None:
    """Write rows, and those of the file `before` that are not among them any more; durable when this returns.

    Args:
        path: of the file, replaced where it exists.
        dataset: whose rows.
        rows: CSV as Postgres makes it, one row an item.
        before: the file that holds the hour so far; it need not exist.

    Returns:
        None, and no file, where there are no rows at all.

    Raises:
        ExportUnavailable: the file before is damaged.
        ArrowException: a value is none of its column's type.
    """
    earlier = before.exists()
    keys = []
    kept = 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        with _writer(file, dataset) as writer:
            written = 0
            for block in blocks(rows):
                table = decode(dataset, block)
                writer.write_table(table)
                written += table.num_rows
                if earlier:
                    keys.append(table.select(dataset.key).replace_schema_metadata())
            if earlier:
                with naming(before):
                    gone = _gone(before, dataset, keys)
                if gone.num_rows:
                    writer.write_table(gone)
                    kept = gone.num_rows
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    if not written + kept:
        path.unlink()
        return None
    return Written(rows=written + kept, kept=kept, size=size)


def _writer(file: Any, dataset: Dataset) -> Any:
    return parquet.ParquetWriter(
        file, dataset.stored_schema, compression="zstd", use_dictionary=list(dataset.worded), version="2.6"
    )


def _gone(before: Path, dataset: Dataset, keys: list[Any]) -> Any:
    """The rows of a file whose keys are not among these."""
    old = parquet.read_table(before, columns=list(dataset.key), partitioning=None).replace_schema_metadata()
    new = pa.concat_tables([old.slice(0, 0), *keys])
    numbered = old.append_column("place", pa.array(range(old.num_rows), pa.int64()))
    places = numbered.join(new, keys=list(dataset.key), join_type="left anti").column("place").combine_chunks()
    if not len(places):
        return old.slice(0, 0)
    taken = parquet.read_table(before, partitioning=None).take(places.sort())
    for field in dataset.stored_schema:
        if field.name not in taken.column_names:
            # Written by a release that did not have it yet.
            taken = taken.append_column(field, pa.nulls(taken.num_rows, field.type))
    return taken.select(dataset.stored_schema.names).cast(dataset.stored_schema)
