"""An export in OTLP's JSON with other texts and numbers in it.

It is walked whole, whatever its shape: what the parser passes over would else be written as it came. Only ids, times,
counts and codes stay, by their names and where they have the form that OTLP gives them.
"""

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from monitor.domain.errors import InvalidMessage
from monitor.otlp.rewriting import Rewriting
from monitor.redaction.unique import unique

_TRACE_ID, _SPAN_ID = r"[0-9a-fA-F]{32}", r"[0-9a-fA-F]{16}"
_TIME, _COUNT = r"[0-9]{1,20}", r"[0-9]{1,10}"
_STRUCTURE: Mapping[str, re.Pattern[str]] = {
    name: re.compile(form)
    for name, form in {
        "traceId": _TRACE_ID,
        "spanId": _SPAN_ID,
        "parentSpanId": _SPAN_ID,
        "startTimeUnixNano": _TIME,
        "endTimeUnixNano": _TIME,
        "timeUnixNano": _TIME,
        "droppedAttributesCount": _COUNT,
        "droppedEventsCount": _COUNT,
        "droppedLinksCount": _COUNT,
        "flags": _COUNT,
        "kind": r"[0-9]{1,2}|SPAN_KIND_[A-Z]{1,20}",
        "code": r"[0-9]|STATUS_CODE_[A-Z]{1,20}",
    }.items()
}
"""What is no text, by the name that it stands under."""

_HOLDERS = frozenset(
    (
        *("resourceSpans", "scopeSpans", "spans", "resource", "scope", "attributes", "events", "links", "status"),
        *(
            "key",
            "value",
            "stringValue",
            "arrayValue",
            "kvlistValue",
            "values",
            "name",
            "version",
            "schemaUrl",
            "message",
        ),
    )
)
"""Names that stay, and hold texts or what has names itself."""

_DEEPEST = 250
"""Levels of lists and objects; the parser reads attributes of 32 levels, each of which is four of these."""

# In an export as it was sent: names are the only texts in it that a colon follows.
_ID_SENT = re.compile(
    rb'Id(?:(?<="traceId)"\s*:\s*"[0-9a-fA-F]{32}"|(?:(?<="spanId)|(?<="parentSpanId))"\s*:\s*"[0-9a-fA-F]{16}")'
)
_TIME_SENT = re.compile(
    rb'UnixNano(?:(?<="startTimeUnixNano)|(?<="endTimeUnixNano)|(?<="timeUnixNano))'
    rb'"\s*:\s*(?:"[0-9]{1,20}"|[0-9]{1,20}(?![0-9.eE]))'
)
_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")


def rewrite_json(raw: bytes, rewriting: Rewriting) -> bytes:
    """Every text and number of an export, rewritten, but for what `_STRUCTURE` names; base64 is looked into.

    Of repeated keys only the last is left, which is the one that is read. What is nested too deep to be read is empty.

    Raises:
        InvalidMessage: it is no JSON, or too deep.
    """
    try:
        holder = [json.loads(raw)]
        _walk(holder, rewriting)
        written = json.dumps(holder[0], ensure_ascii=False)
    except (ValueError, RecursionError) as error:
        raise InvalidMessage(f"OTLP: not JSON: {error}") from None
    try:
        return written.encode()
    except UnicodeEncodeError:  # half a surrogate pair
        return json.dumps(holder[0]).encode()


def looked_at(raw: bytes) -> bytes | None:
    """An export without the ids and times that `rewrite_json` leaves alone; None where it may hide text as base64."""
    if b"bytesValue" in raw or (b"\\u00" in raw and _ESCAPED_LETTER.search(raw)):
        return None
    return _TIME_SENT.sub(b"", _ID_SENT.sub(b"", raw))


def _walk(holder: list[Any], rewriting: Rewriting) -> None:
    """Without recursion: the nesting is the sender's choice."""
    waiting: list[tuple[Any, int]] = [(holder, 0)]
    while waiting:
        inside, level = waiting.pop()
        if level > _DEEPEST:
            inside.clear()
            continue
        if isinstance(inside, dict) and not inside.keys() <= _HOLDERS:
            _rename(inside, rewriting)
        else:
            for place, child in inside.items() if isinstance(inside, dict) else enumerate(inside):
                if not isinstance(child, dict | list):
                    inside[place] = _content(child, rewriting)
        below = inside.values() if isinstance(inside, dict) else inside
        waiting += [(child, level + 1) for child in below if isinstance(child, dict | list)]


def _rename(inside: dict[str, Any], rewriting: Rewriting) -> None:
    """Names may become others, too."""
    pairs = [_pair(key, child, rewriting) for key, child in inside.items()]
    inside.clear()
    for key, child in pairs:
        inside[unique(key, inside)] = child


def _pair(key: str, child: Any, rewriting: Rewriting) -> tuple[str, Any]:
    if isinstance(child, dict | list) or child is None:
        return rewriting.text(key), child
    form = _STRUCTURE.get(key)
    if form is not None and form.fullmatch(str(child)):
        return key, child
    kind = _VALUES.get(key)
    return kind(key, child, rewriting) if kind else (rewriting.text(key), _content(child, rewriting))


def _content(child: Any, rewriting: Rewriting) -> Any:
    if isinstance(child, str):
        return rewriting.text(child)
    if isinstance(child, int | float) and not isinstance(child, bool):
        mark = rewriting.number(child)
        return child if mark is None else mark
    return child


def _number(key: str, child: Any, rewriting: Rewriting) -> tuple[str, Any]:
    """What hides as a number becomes a text: `intValue` may be written as one."""
    try:
        number = int(child) if key == "intValue" else float(child)
    except (TypeError, ValueError, OverflowError):
        return key, _content(child, rewriting)
    mark = rewriting.number(number)
    return (key, child) if mark is None else ("stringValue", mark)


def _base64(key: str, child: Any, rewriting: Rewriting) -> tuple[str, Any]:
    if not isinstance(child, str):
        return key, _content(child, rewriting)
    try:
        standard = child.translate(_STANDARD)
        plain = base64.b64decode(standard + "=" * (-len(standard) % 4), validate=True)
    except (binascii.Error, ValueError):
        return key, rewriting.text(child)
    kept = rewriting.binary(plain)
    return key, child if kept == plain else base64.b64encode(kept).decode()


_STANDARD = str.maketrans("-_", "+/", "= \t\r\n")
"""Either alphabet of base64, with and without its padding, in one line or more."""

_VALUES: Mapping[str, Callable[[str, Any, Rewriting], tuple[str, Any]]] = {
    "intValue": _number,
    "doubleValue": _number,
    "bytesValue": _base64,
}
