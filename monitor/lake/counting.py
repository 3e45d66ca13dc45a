"""What the files of an export hold, counted from the files themselves."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pyarrow.compute as pc
from pyarrow import ArrowException, parquet

from monitor.domain.errors import ExportUnavailable


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Traces of an hour; those with a verdict, and hallucinated ones among them."""

    traces: int = 0
    verdicts: int = 0
    hallucinated: int = 0


def count_rows(path: Path) -> int:
    """How many rows a file says that it holds; one that does not exist holds none.

    Raises:
        ExportUnavailable: it is damaged.
    """
    with naming(path):
        return int(parquet.read_metadata(path).num_rows) if path.exists() else 0


def count_verdicts(path: Path) -> Counts:
    """Count a file of the dataset `verdicts`; a file that does not exist holds nothing.

    Raises:
        ExportUnavailable: it is damaged.
    """
    if not path.exists():
        return Counts()
    with naming(path):
        labels = parquet.read_table(path, columns=["label"], partitioning=None).column("label")
    hallucinated = pc.sum(pc.equal(labels, "hallucinated")).as_py() or 0
    return Counts(traces=len(labels), verdicts=len(labels) - labels.null_count, hallucinated=hallucinated)


def count_traces(path: Path) -> int:
    """How many traces a file of the dataset `verdicts` is about, each of which may be in several rows.

    Raises:
        ExportUnavailable: it is damaged.
    """
    if not path.exists():
        return 0
    key = ["tenant", "trace_id"]
    with naming(path):
        return int(parquet.read_table(path, columns=key, partitioning=None).group_by(key).aggregate([]).num_rows)


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Say of which file it is that pyarrow can make nothing.

    Raises:
        ExportUnavailable: it is damaged, or no Parquet file.
    """
    try:
        yield
    except (ArrowException, OSError) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise  # the system's, which names the file itself
        raise ExportUnavailable(
            f"{path}: is damaged: {str(error).splitlines()[0]}; put it back from a copy, or delete it to have the hour "
            "as the ledger has it now"
        ) from error
