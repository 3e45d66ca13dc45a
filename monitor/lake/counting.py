"""What the files of an export hold, counted from the files themselves."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
from pyarrow import ArrowException, parquet


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Traces of an hour; those with a verdict, and hallucinated ones among them."""

    traces: int = 0
    verdicts: int = 0
    hallucinated: int = 0


def count_rows(path: Path) -> int | None:
    """How many rows a file says that it holds; one that does not exist holds none, and None is a damaged one."""
    try:
        return int(parquet.read_metadata(path).num_rows) if path.exists() else 0
    except ArrowException:
        return None


def count_verdicts(path: Path) -> Counts | None:
    """Count a file of the dataset `verdicts`; one that does not exist holds nothing, and None is a damaged one."""
    if not path.exists():
        return Counts()
    try:
        labels = parquet.read_table(path, columns=["label"], partitioning=None).column("label")
    except (ArrowException, OSError):
        return None
    hallucinated = pc.sum(pc.equal(labels, "hallucinated")).as_py() or 0
    return Counts(traces=len(labels), verdicts=len(labels) - labels.null_count, hallucinated=hallucinated)


def count_traces(path: Path) -> int:
    """How many traces a file of the dataset `verdicts` is about, each of which may be in several rows.

    Raises:
        ArrowException: it is no Parquet file, or a damaged one.
    """
    if not path.exists():
        return 0
    key = ["tenant", "trace_id"]
    return int(parquet.read_table(path, columns=key, partitioning=None).group_by(key).aggregate([]).num_rows)
