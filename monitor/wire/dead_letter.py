"""`dead_letter.v1`: records that could not be taken in."""

from typing import Literal

from pydantic import AwareDatetime, Base64Bytes, BaseModel, Field, ValidationError

from monitor.domain.dead_letter import DeadLetter, DeadLetterReason
from monitor.domain.errors import InvalidMessage, InvalidTrace
from monitor.domain.trace import Origin
from monitor.wire.coding import first_problem, to_bytes
from monitor.wire.fields import MAX_DEAD_LETTER_BYTES


class _DeadLetterV1(BaseModel):
    """`dead_letter.v1`: the raw bytes travel in base64."""

    schema_: Literal["dead_letter.v1"] = Field(alias="schema")
    origin: Origin
    reason: DeadLetterReason
    detail: str
    field: str | None = None
    raw: Base64Bytes
    raw_bytes: int
    dead_at: AwareDatetime


def encode_dead_letter(letter: DeadLetter) -> bytes:
    """`dead_letter.v1` as UTF-8 JSON; of the raw bytes, the first `MAX_DEAD_LETTER_BYTES`."""
    fields = {name: getattr(letter, name) for name in _DeadLetterV1.model_fields if name != "schema_"}
    fields["raw"] = letter.raw[:MAX_DEAD_LETTER_BYTES]
    message = _DeadLetterV1.model_construct(schema_="dead_letter.v1", **fields)
    return to_bytes(message.model_dump(mode="json", by_alias=True))


def decode_dead_letter(raw: bytes) -> DeadLetter:
    """Read one `dead_letter.v1`; raises InvalidMessage when it is not one."""
    try:
        message = _DeadLetterV1.model_validate_json(raw)
    except ValidationError as error:
        raise InvalidMessage(f"dead_letter.v1: {InvalidTrace(*first_problem(error))}") from None
    fields = {name: getattr(message, name) for name in _DeadLetterV1.model_fields if name != "schema_"}
    return DeadLetter(**fields)
