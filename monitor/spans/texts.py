"""Readers that rules share: questions, answers, messages and documents in the shapes that frameworks write them in."""

import math
from collections.abc import Iterator, Mapping
from typing import Any

from monitor.spans.reading import Retrieved
from monitor.spans.span import Attributes
from monitor.spans.values import gathered, loaded, picked, text

# Keys under which frameworks keep what was asked and what was answered, the surest first.
_QUESTION = ("question", "query_str", "query", "user_input", "input", "inputs", "str_or_query_bundle", "query_bundle")
_ANSWER = ("answer", "response", "result", "output", "outputs", "text", "content", "completion")
_CONTEXT = ("context", "context_str", "documents", "sources")
_TEXT = ("content", "page_content", "text", "document")
_ID = ("id", "id_", "doc_id", "node_id", "source")
_WHOLE = ("inputs", "outputs")
# OpenInference's, and LangChain's two ways to write a message down.
_WRAPPINGS = ("message", "data", "kwargs")
_PARTS = ("content", "parts", "contents")
_MOST_DEPTH = 6


def plain(attributes: Attributes, key: str) -> str | None:
    """Text as it stands."""
    return text(attributes.get(key))


def question(attributes: Attributes, key: str) -> str | None:
    """What was asked: text, the question in an object, or the last message of a user in a list of them."""
    value = _value(attributes, key)
    return last_message(_messages(value), "user", "human") or picked(value, _QUESTION)


def answer(attributes: Attributes, key: str) -> str | None:
    """What was answered: text, the answer in an object, or the last message of the assistant in a list of them."""
    value = _value(attributes, key)
    return last_message(_messages(value), "assistant", "ai") or picked(value, _ANSWER)


def context(attributes: Attributes, key: str) -> str | None:
    """The context among the variables of a prompt."""
    value = _value(attributes, key)
    if not isinstance(value, Mapping):
        return None
    return picked({name: value[name] for name in _CONTEXT if name in value}, _CONTEXT)


def tool_said(attributes: Attributes, key: str) -> str | None:
    """What a tool returned: the text of its message, where the framework wraps it in one, else all as it stands."""
    value = loaded(attributes.get(key))
    if isinstance(value, Mapping):
        value = value.get("output", value)
    return last_message([value], "tool") or plain(attributes, key)


def user_said(attributes: Attributes, key: str) -> str | None:
    """The last message of a user."""
    return last_message(gathered(attributes, key), "user", "human")


def assistant_said(attributes: Attributes, key: str) -> str | None:
    """The last message of the assistant."""
    return last_message(gathered(attributes, key), "assistant", "ai", "model")


def system_said(attributes: Attributes, key: str) -> str | None:
    """All that the system prompt says: a list of its parts, or the system's messages of a list."""
    value = gathered(attributes, key)
    parts = [_message_text(_inner(one)) for one in value or () if isinstance(one, Mapping) and _is_system(_inner(one))]
    return "\n".join(filter(None, parts)) or None if isinstance(value, list) else text(value)


def last_message(messages: Any, *roles: str) -> str | None:
    """The text of the last message with one of these roles, in any of the conventions' shapes."""
    if not isinstance(messages, list):
        return None
    for one in reversed(messages):
        message = _inner(one)
        if str(message.get("role", message.get("type", ""))).lower() in roles and (said := _message_text(message)):
            return said
    return None


def documents(attributes: Attributes, key: str) -> tuple[Retrieved, ...] | None:
    """Documents: a list of them, or an object that holds one under `documents`."""
    value = _value(attributes, key)
    if isinstance(value, Mapping):
        value = value.get("documents", value.get("source_nodes"))
    if not isinstance(value, list):
        return None
    found = [document for one in value if (document := _document(loaded(one))) is not None]
    return tuple(found) if found and len(found) == len(value) else None


def _value(attributes: Attributes, key: str) -> Any:
    # A plain answer may look like JSON; where the convention tells the type, it is believed.
    stem, dot, last = key.rpartition(".")
    if dot and last == "value" and attributes.get(f"{stem}.mime_type", "text/plain") == "text/plain":
        return attributes.get(key)
    return gathered(attributes, key)


def _messages(value: Any) -> Any:
    """The list of messages in what a graph or an agent took or gave."""
    for name in _WHOLE:
        inner = value.get(name) if isinstance(value, Mapping) else None
        value = inner if isinstance(inner, Mapping) else value
    return value.get("messages") if isinstance(value, Mapping) else None


def _inner(one: Any) -> Mapping[str, Any]:
    """The message in the wrapping of OpenInference or of LangChain, or as it is."""
    if not isinstance(one, Mapping):
        return {}
    return next((inner for name in _WRAPPINGS if isinstance(inner := one.get(name), Mapping)), one)


def _is_system(message: Mapping[str, Any]) -> bool:
    return str(message.get("role", message.get("type", ""))).lower() in {"system", "developer", "text"}


def _message_text(message: Mapping[str, Any]) -> str | None:
    for name in _PARTS:
        said = "\n".join(_texts(message.get(name), _MOST_DEPTH))
        if said.strip():
            return said
    return None


def _texts(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list) and depth:
        for part in value:
            yield from _texts(part, depth - 1)
    elif isinstance(value, Mapping) and depth:
        inner = value.get("message_content", value)
        if isinstance(inner, Mapping) and inner.get("type", "text") in {"text", "output_text", "input_text"}:
            yield from _texts(inner.get("text", inner.get("content")), depth - 1)


def _document(value: Any) -> Retrieved | None:
    if isinstance(value, str):
        return None
    if not isinstance(value, Mapping):
        return None
    inner = value.get("document", value.get("node", value))
    if isinstance(inner, str):  # db.query.result.document, and the like
        inner = {**value, "text": inner}
    if not isinstance(inner, Mapping) or not {*_TEXT, *_ID} & inner.keys():
        return None
    meta = loaded(inner.get("metadata"))
    near = [inner, value, meta if isinstance(meta, Mapping) else {}]
    return Retrieved(
        id=next((str(one[name]) for one in near for name in _ID if isinstance(one.get(name), str | int)), None),
        text=next((said for name in _TEXT if (said := text(inner.get(name)))), None),
        score=next((score for one in near if (score := _score(one.get("score"))) is not None), None),
    )


def _score(value: Any) -> float | None:
    try:
        score = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:
        return None
    return score if math.isfinite(score) else None
