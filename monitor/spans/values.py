"""What attributes hold: text, JSON in text, or lists spread over numbered keys."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from monitor.spans.span import Attributes

REDACTED = "__REDACTED__"
"""What OpenInference writes in place of text that its configuration hides."""

_MOST_ITEMS = 10_000
_DEEPEST = 16
_NUMBER = re.compile(r"[0-9]{1,6}")


def gathered(attributes: Attributes, key: str) -> Any:
    """The value under a key, whichever way it was written; None where there is none.

    As one attribute (JSON in text is read), or spread over keys such as `key.0.document.content`, of which lists and
    objects are made.
    """
    if key in attributes:
        return loaded(attributes[key])
    prefix = f"{key}."
    tree: dict[str, Any] = {}
    for name, value in attributes.items():
        if name.startswith(prefix):
            _put(tree, name[len(prefix) :].split(".", _DEEPEST), value)
    return _listed(tree) if tree else None


def loaded(value: Any) -> Any:
    """JSON in text as its value; anything else as it is."""
    if not isinstance(value, str) or value[:1] not in {"{", "[", '"'}:
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        return value


def text(value: Any) -> str | None:
    """The value, where it is text that says something."""
    return value if isinstance(value, str) and value.strip() else None


def picked(value: Any, keys: Sequence[str], *, depth: int = 3) -> str | None:
    """The text under the first of these keys that leads to one, through objects under them."""
    if (found := text(value)) is not None:
        return found
    if not isinstance(value, Mapping) or depth == 0:
        return None
    for key in keys:
        if key in value and (found := picked(value[key], keys, depth=depth - 1)) is not None:
            return found
    return None


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    *way, last = path
    for step in way:
        below = tree.setdefault(step, {})
        if not isinstance(below, dict):
            return
        tree = below
    tree.setdefault(last, value)


def _listed(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and len(tree) <= _MOST_ITEMS and all(_NUMBER.fullmatch(key) for key in tree):
        return [_listed(tree[key]) for key in sorted(tree, key=int)]
    return {key: _listed(value) for key, value in tree.items()}
