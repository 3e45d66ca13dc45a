"""What the contracts are made of: limits, and the kinds of fields."""

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

MAX_TRACE_BYTES = 2 * 1024 * 1024
"""A whole trace, as JSON. Larger is refused by the sidecar and a dead letter on the topic."""

MAX_DEAD_LETTER_BYTES = 1024 * 1024
"""How much of a dead record's value is kept."""

MAX_MESSAGE_BYTES = 4 * 1024 * 1024
"""What the topics must accept: a judgement carries its trace by value, with evidence."""

LONGEST_TEXT, LONGEST_SHORT_TEXT = 65_536, 256
LONGEST_DOCUMENT, LONGEST_DOCUMENT_ID = 1_048_576, 512
"""Texts, in code points."""

MAX_METADATA_LEVELS = 32
"""How deep a document's metadata may be nested; parsers along the way have limits of their own."""

MAX_CLOCK_SKEW = timedelta(hours=1)
"""How far in the future an event time may lie."""

EARLIEST = datetime(2000, 1, 1, tzinfo=UTC)
"""Older event times are taken for a broken clock."""

LEAST_SAMPLING_PROBABILITY = 1e-9
"""A trace stands for no more others than this says: one that claimed 1e-300 would outweigh all that are real."""

MAX_FIELD_NAME = 256
"""How much of an offending field's path is quoted: a sender's own keys are part of it."""


def storable_text(text: str) -> str:
    """The text without NUL, which Postgres does not store."""
    # Postgres stores no NUL; PDF extractors emit it. One character for one, so that offsets still hold.
    return text.replace("\x00", "\N{REPLACEMENT CHARACTER}")


def storable_json(value: Any) -> Any:
    """The same for every text within a JSON value; ValueError for a number that is not finite."""
    if isinstance(value, str):
        return storable_text(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")
    if isinstance(value, list):
        return [storable_json(item) for item in value]
    if isinstance(value, dict):
        return {storable_text(key): storable_json(item) for key, item in value.items()}
    return value


def not_too_deep(value: Any, levels: int = MAX_METADATA_LEVELS) -> Any:
    """The value; ValueError where it is nested deeper than that."""
    # A judgement wraps its trace: what is read here must still be readable some levels further down.
    if isinstance(value, dict | list):
        if not levels:
            raise ValueError(f"nested deeper than {MAX_METADATA_LEVELS} levels")
        for item in value.values() if isinstance(value, dict) else value:
            not_too_deep(item, levels - 1)
    return value


NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]*$"
TIME_PATTERN = (
    r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9]{2}:[0-9]{2}:[0-9]{2}([.][0-9]{1,9})?([Zz]|[+-][0-9]{2}:?[0-9]{2})$"
)
_TIME = re.compile(TIME_PATTERN.removesuffix("$") + r"\Z")


def _written_out(moment: Any) -> Any:
    # The parser would also take "1767225600" for a time, and a Unicode minus in an offset for a plus.
    if not isinstance(moment, datetime) and not (isinstance(moment, str) and _TIME.match(moment)):
        raise ValueError("a time is written as 2026-01-31T12:00:00Z, with a time zone")
    return moment


Moment = Annotated[AwareDatetime, Field(strict=False), BeforeValidator(_written_out)]
Text = Annotated[str, Field(max_length=LONGEST_TEXT), AfterValidator(storable_text)]
Name = Annotated[str, Field(min_length=1, max_length=64, pattern=NAME_PATTERN)]
OtelTraceId = Annotated[str, Field(pattern=r"^[0-9a-f]{32}$")]
Identifier = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
ShortText = Annotated[str, Field(max_length=LONGEST_SHORT_TEXT), AfterValidator(storable_text)]


class Contract(BaseModel):
    """A message from outside: strict in what it knows, blind to what it does not."""

    model_config = ConfigDict(extra="ignore", frozen=True, strict=True, allow_inf_nan=False)
