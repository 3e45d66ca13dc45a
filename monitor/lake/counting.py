"""What the files of an export hold, counted from the files themselves."""

from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
from pyarrow import parquet


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Traces of an hour; those with a verdict, and hallucinated ones among them."""

    traces: int = 0
    verdicts: int = 0
    hallucinated: int = 0


def count_verdicts(path: Path) -> Counts:
    """Count a file of the dataset `verdicts`; a file that does not exist holds nothing.

    Raises:
        ArrowException: it is no Parquet file, or a damaged one.
    """
    if not path.exists():
        return Counts()
    labels = parquet.read_table(path, columns=["label"], partitioning=None).column("label")
    hallucinated = pc.sum(pc.equal(labels, "hallucinated")).as_py() or 0
    return Counts(traces=len(labels), verdicts=len(labels) - labels.null_count, hallucinated=hallucinated)
