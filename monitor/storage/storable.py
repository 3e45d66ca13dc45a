"""What Postgres stores of texts and JSON that may hold anything."""

import json
from typing import Any

from pydantic_core import PydanticSerializationError, to_json

from monitor.storage.engine import LedgerRefused

# One encoder for all: making one a value takes as long as encoding it.
_ENCODER = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def storable(text: str) -> str:
    """The same text without NUL and lone surrogates, which Postgres stores nowhere; as many characters."""
    if "\x00" in text:
        text = text.replace("\x00", "\N{REPLACEMENT CHARACTER}")
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode(errors="replace").decode()
    return text


def storable_json(value: Any) -> str:
    """JSON text that a jsonb column takes.

    Raises:
        LedgerRefused: it holds NaN or an infinity.
    """
    try:
        # Several times as fast as Python's own, which takes half surrogates, too, and tells a NaN from a text.
        text = to_json(value).decode()
    except PydanticSerializationError:
        text = _encoded(value)
    if "NaN" in text or "Infinity" in text:
        text = _encoded(value)
    if "\\u0000" in text:
        text = _encoded(_without_nul(value))
    return storable(text)


def _encoded(value: Any) -> str:
    try:
        return _ENCODER.encode(value)
    except ValueError as error:
        raise LedgerRefused(f"not JSON: {error}") from error


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return storable(value)
    if isinstance(value, dict):
        return {storable(key): _without_nul(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nul(item) for item in value]
    return value
