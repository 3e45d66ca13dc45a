"""From Postgres' CSV to columns: the heavy part is pyarrow's, and no row becomes Python objects on its way.

Postgres' CSV tells null from the empty string (only the latter has quotes), and quotes whatever a text may hold.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

import pyarrow as pa
from pyarrow import csv

from monitor.lake.datasets import Dataset

# One block is one row group: enough rows for a reader to skip by, few enough bytes to hold in memory several times.
_BLOCK_ROWS: Final = 122_880
_BLOCK_BYTES: Final = 32 * 1024 * 1024


def blocks(rows: Iterable[Any]) -> Iterator[bytes]:
    """The same CSV in large pieces of whole rows; `rows` are single ones, as bytes or views of them."""
    held: list[Any] = []
    size = 0
    for row in rows:
        held.append(row)
        size += len(row)
        if size >= _BLOCK_BYTES or len(held) >= _BLOCK_ROWS:
            yield b"".join(held)
            held, size = [], 0
    if held:
        yield b"".join(held)


def decode(dataset: Dataset, block: bytes) -> Any:
    """A block of rows as a table of the dataset's schema.

    Raises:
        ArrowException: a value is none of its column's type.
    """
    kinds = {field.name: pa.string() if field.name in dataset.structured else field.type for field in dataset.schema}
    raw = csv.read_csv(
        pa.BufferReader(block),
        # A text of several megabytes must not straddle two of the reader's own blocks.
        read_options=csv.ReadOptions(column_names=list(kinds), block_size=len(block) + 1, use_threads=False),
        parse_options=csv.ParseOptions(newlines_in_values=True, ignore_empty_lines=False),
        convert_options=csv.ConvertOptions(
            column_types=kinds, null_values=[""], strings_can_be_null=True, quoted_strings_can_be_null=False
        ),
    )
    columns = [
        _structured(raw.column(field.name), field.type) if field.name in dataset.structured else raw.column(field.name)
        for field in dataset.schema
    ]
    return pa.Table.from_arrays(columns, schema=dataset.stored_schema)


def _structured(texts: Any, kind: Any) -> Any:
    """JSON texts as lists, structs and maps. Most are alike (no spans, the same judges): each is read once."""
    encoded = texts.combine_chunks().dictionary_encode()
    distinct = [_shaped(json.loads(text), kind) for text in encoded.dictionary.to_pylist()]
    return pa.array(distinct, kind).take(encoded.indices)


def _shaped(value: Any, kind: Any) -> Any:
    """The value as `kind` wants it: what JSON calls a number may be an integer, and free JSON stays JSON."""
    shaped: Any = value
    if value is None:
        return None
    if pa.types.is_list(kind):
        shaped = [_shaped(item, kind.value_type) for item in value]
    elif pa.types.is_struct(kind):
        shaped = {field.name: _shaped(value.get(field.name), field.type) for field in kind}
    elif pa.types.is_map(kind):
        shaped = list(value.items())
    elif pa.types.is_floating(kind):
        shaped = float(value)
    elif pa.types.is_string(kind) and not isinstance(value, str):
        shaped = json.dumps(value, ensure_ascii=False)
    return shaped
