"""An export's directory: one writer at a time, and whole hours only for readers.

Files are written under names that readers pass over (a leading dot), and made durable. Then the manifest names them
as being published, then each takes the place of the one before by a rename, then the manifest says that all have. A
kill before the first of these leaves what was; after it, the next run ends the renaming first. A reader who globs the
files sees each hour exactly once at every instant, as it was or as it is.
"""

import fcntl
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from pyarrow import ArrowException
from pydantic import ValidationError

from monitor.domain.errors import ExportUnavailable
from monitor.lake.datasets import DATASETS, Dataset
from monitor.lake.hour_file import Written, write_hour
from monitor.lake.manifest import Hour, Manifest, file_name, hour_name, hour_of

MANIFEST = "_groundwatch.json"
_LOCK = "_groundwatch.lock"


class ExportDirectory:
    """A directory that this process alone writes to; see `open_directory`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.manifest = self._read()
        if self.manifest is None:
            self._refuse_strangers()
        else:
            self._end_publishing(self.manifest)
        for left in self.path.glob("*/day=*/.hour-*.staged"):
            left.unlink()

    def begin(self, manifest: Manifest) -> None:
        """Take this for where the export stands: nothing of it is written yet."""
        self.manifest = manifest

    def file(self, dataset: str, hour: datetime) -> Path:
        """Where an hour of a dataset lies, or would."""
        return self.path / file_name(dataset, hour)

    def lost_hours(self) -> set[datetime]:
        """Hours of which a file is no longer there."""
        return {
            hour_of(name)
            for name, held in self._held().hours.items()
            if not all(self.file(dataset, hour_of(name)).exists() for dataset in held.rows)
        }

    def stage(self, dataset: Dataset, hour: datetime, rows: Iterable[Any]) -> Written | None:
        """Write an hour's file, for no reader yet; None where there is nothing to write."""
        name = file_name(dataset.name, hour)
        return write_hour(self._staged(name), dataset, rows, before=self.path / name)

    def publish(self, hours: Mapping[datetime, Hour]) -> None:
        """Let readers have the files that were staged for these hours."""
        manifest = self._held()
        files = tuple(file_name(dataset, hour) for hour, held in hours.items() for dataset in held.rows)
        named = {hour_name(hour): held for hour, held in hours.items()}
        self._write(manifest.model_copy(update={"hours": {**manifest.hours, **named}, "publishing": files}))
        self._end_publishing(self._held())

    def finish(self, watermark: int) -> None:
        """Whatever transactions below `watermark` changed has been published."""
        self._write(self._held().model_copy(update={"watermark": watermark}))

    def _end_publishing(self, manifest: Manifest) -> None:
        if not manifest.publishing:
            return
        folders: set[Path] = set()
        for name in manifest.publishing:
            if (staged := self._staged(name)).exists():
                staged.replace(self.path / name)
                # A new day's folder must be found after a power cut, too.
                folders |= {staged.parent, staged.parent.parent, self.path}
        for folder in folders:
            _make_durable(folder)
        # Names must not be called staged any longer: the next file of that name may be half written when we die.
        self._write(manifest.model_copy(update={"publishing": ()}))

    def _staged(self, name: str) -> Path:
        final = self.path / name
        return final.with_name(f".{final.stem}.staged")

    def _held(self) -> Manifest:
        assert self.manifest is not None, "an export begins before it goes on"
        return self.manifest

    def _read(self) -> Manifest | None:
        file = self.path / MANIFEST
        try:
            return Manifest.model_validate_json(file.read_bytes())
        except FileNotFoundError:
            return None
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(map(str, first["loc"])) or "$"
            raise ExportUnavailable(
                f"{file}: not a manifest that this release reads: {place}: {first['msg']}"
            ) from None

    def _refuse_strangers(self) -> None:
        for name in DATASETS:
            if stranger := next((self.path / name).glob("**/*.parquet"), None):
                raise ExportUnavailable(f"{stranger}: no manifest names it; export into a directory of its own")

    def _write(self, manifest: Manifest) -> None:
        beside = self.path / f".{MANIFEST}.staged"
        with beside.open("w", encoding="utf-8") as file:
            file.write(manifest.model_dump_json(indent=1) + "\n")
            file.flush()
            os.fsync(file.fileno())
        beside.replace(self.path / MANIFEST)
        _make_durable(self.path)
        self.manifest = manifest


def _make_durable(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def open_directory(path: Path) -> Iterator[ExportDirectory]:
    """The directory for the length of a `with` block, made where it is absent; what a killed run left is put right.

    Raises:
        ExportUnavailable: another export is at work in it, it holds something else, or the disk fails, here or later
            in the block.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
        with (path / _LOCK).open("w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise ExportUnavailable(f"{path}: another export is at work in it") from None
            yield ExportDirectory(path)
    except ArrowException as error:
        raise ExportUnavailable(f"{path}: {str(error).splitlines()[0]}") from error
    except OSError as error:
        raise ExportUnavailable(f"{error.filename or path}: {error.strerror or error}") from error
