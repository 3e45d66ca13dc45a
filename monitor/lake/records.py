"""Parquet files of others, row by row."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from pyarrow.parquet import ParquetFile

from monitor.domain.errors import InvalidInput


def read_records(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a Parquet file, a dictionary each.

    Raises:
        InvalidInput: it cannot be read, or is none.
    """
    try:
        with ParquetFile(path) as file:
            for batch in file.iter_batches():
                yield from batch.to_pylist()
    except (OSError, ArrowException) as error:
        raise InvalidInput(f"{path}: not a Parquet file: {error}") from None
