"""What an export says of itself: whose it is, how far it has come, which hours it holds. `_groundwatch.json`."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field

from monitor.lake.datasets import DATASETS

_FILE: Final = re.compile(r"([a-z]+)/day=[0-9]{4}-[0-9]{2}-[0-9]{2}/hour-[0-9]{2}\.parquet")


def hour_name(hour: datetime) -> str:
    """Names an hour in the manifest: 2026-03-01T12."""
    # strftime would not fill up the year of a clock that was never set: 0001.
    return hour.isoformat()[:13]


def hour_of(name: str) -> datetime:
    """The hour of that name."""
    return datetime.fromisoformat(f"{name}:00").replace(tzinfo=UTC)


def file_name(dataset: str, hour: datetime) -> str:
    """Where an hour of a dataset lies, from the export's directory on."""
    return f"{dataset}/day={hour.date().isoformat()}/hour-{hour:%H}.parquet"


def _known_hour(name: str) -> str:
    if hour_name(hour_of(name)) != name:
        raise ValueError("not an hour such as 2026-03-01T12")
    return name


def _known_file(name: str) -> str:
    found = _FILE.fullmatch(name)
    if not found or found[1] not in DATASETS:
        raise ValueError("not a file of an export")
    return name


class _Said(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Said):
    """Whose history this is.

    Attributes:
        system: identifier of the Postgres cluster; a restored one keeps it.
        database, oid: of the ledger; one that was dropped and made anew has another oid.
        timeline: rises with each failover and restore.
    """

    system: str
    database: str
    oid: int
    timeline: int


class Scope(_Said):
    """Which part of the history this is: the same for all runs into one directory.

    Attributes:
        tenant: the only one; None for all.
        texts: with what was asked, read and answered.
        since: the hours from this one on; None for all.
    """

    tenant: str | None = None
    texts: bool = False
    since: AwareDatetime | None = None


class Hour(_Said):
    """One hour of event time as it lies in the files.

    Attributes:
        watermark: the files hold what all transactions with a lower id did, and perhaps some later ones.
        rows: by dataset.
    """

    watermark: int
    rows: Mapping[str, int]


class Manifest(_Said):
    """An export at one point.

    Attributes:
        watermark: whatever transactions with a lower id changed is in the files.
        hours: all that the files hold, by name.
        publishing: files that are written and durable, but may still bear the names that readers pass over.
    """

    format: Literal["groundwatch.export/1"] = "groundwatch.export/1"
    source: Source
    scope: Scope
    watermark: int = 0
    hours: Mapping[Annotated[str, AfterValidator(_known_hour)], Hour] = Field(default_factory=dict)
    publishing: tuple[Annotated[str, AfterValidator(_known_file)], ...] = ()

    def is_due(self, hour: datetime, changed: int) -> bool:
        """Whether an hour that transaction `changed` was the last to change must be written."""
        held = self.hours.get(hour_name(hour))
        return changed >= (held.watermark if held else 0)

    def doubted(self) -> "Manifest":
        """The same, with nothing taken for up to date: transaction ids tell nothing any more."""
        hours = {name: hour.model_copy(update={"watermark": 0}) for name, hour in self.hours.items()}
        return self.model_copy(update={"watermark": 0, "hours": hours})
