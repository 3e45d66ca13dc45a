"""Labelled rows: what the screen is trained and measured on."""

import gzip
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monitor.domain.errors import InvalidInput
from monitor.training.split import context_group


@dataclass(frozen=True, kw_only=True, slots=True)
class Row:
    """One labelled answer.

    Attributes:
        file: name of the file that it came from, without suffixes: the unit that is left out in evaluation.
        family: the collection that it belongs to; files of one family share annotators and generators.
        group: stable name of its context (see `split`): rows of one group never lie on both sides of a split.
        raw: the JSON object itself.
    """

    id: str
    file: str
    family: str
    group: str
    question: str
    documents: tuple[str, ...]
    answer: str
    hallucinated: bool
    raw: dict[str, Any]


def read_rows(path: Path) -> list[Row]:
    """Read one labelled JSONL file, gzipped or not.

    Raises:
        InvalidInput: the file cannot be read, or a line is no labelled row; names file, line and field.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (OSError, EOFError) as error:
        raise InvalidInput(f"{path}: {error}") from error
    return list(_rows(path, content))


def _rows(path: Path, content: bytes) -> Iterator[Row]:
    name = path.name.split(".")[0]
    for number, line in enumerate(content.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            yield as_row(name, json.loads(line))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(f"{path}, line {number}: not a labelled row: {error!r}") from error


def as_row(file: str, raw: dict[str, Any]) -> Row:
    """One JSON object of a labelled file as a row.

    Raises:
        ValueError, KeyError, TypeError: it is none.
    """
    label = raw["label"]
    if label not in {"PASS", "FAIL"}:
        raise ValueError(f"label is {label!r}; PASS or FAIL are allowed")
    context = raw["context"]
    return Row(
        id=str(raw["id"]),
        file=file,
        family=str(raw["dataset"]).split(":")[0],
        group=context_group(raw),
        question=str(raw["question"]),
        documents=(context,) if isinstance(context, str) else tuple(map(str, context)),
        answer=str(raw["answer"]),
        hallucinated=label == "FAIL",
        raw=raw,
    )


def without(rows: Sequence[Row], *, ids: frozenset[str], groups: frozenset[str]) -> list[Row]:
    """The rows that have neither an id nor a context among those given."""
    return [row for row in rows if row.id not in ids and row.group not in groups]


def short_hash(text: str) -> str:
    """Twelve hex digits that stand for an id or a group in a manifest."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
