"""Where in a reply a key's value stands, in JSON that may be broken, and never inside a quotation.

Models wrap JSON in prose or fences, drop quotes and brackets, and are cut off. They also quote what they judge, and
the judged text may hold a verdict of its own. So a reply is walked once, from its beginning:

    "…"        inside an object, a string up to its closing quote; in loose text, a quotation within one line
    {  }       one object more or less deep; whatever stands outside of all is loose text
    > …        in loose text, a line that Markdown marks as quoted
    key:       what is looked for, where none of those hides it

A key in an object follows a brace, a bracket, a comma or a line's beginning; words before it make it prose.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

_STRING = re.compile(r'"((?:[^"\\]|\\.)*+)"', re.DOTALL)
_QUOTATION = re.compile(r'"([^"\n]*+)"')
COLON = re.compile(r"""[*'"]*+\s*+[:=]""")
"""What follows a key."""

_AROUND_A_KEY = " \t\r\"'*`_"


class _Place(NamedTuple):
    """A key's value: the object's number (0 for loose text), how deep in it, and where the value begins."""

    group: int
    depth: int
    start: int


def value_place(reply: str, key: str, after: re.Pattern[str] = COLON) -> int | None:
    """The offset just behind `key:`, of the last key that counts; None when there is none. Linear in the reply.

    Another pattern in the place of the colon finds other marks, such as Prometheus's `[RESULT]`.

    Objects come before loose text, later objects before earlier ones, and in an object the least deep key before
    those further in; the last of them where it stands twice.
    """
    places = list(_places(reply, key, after))
    if not places:
        return None
    last = max(place.group for place in places)
    in_last = [place for place in places if place.group == last]
    least = min(place.depth for place in in_last)
    return [place.start for place in in_last if place.depth == least][-1]


def _places(reply: str, key: str, after: re.Pattern[str]) -> Iterator[_Place]:
    tokens = _tokens(key)
    position = depth = group = objects = 0
    while token := tokens.search(reply, position):
        position = token.end()
        if token["brace"] == "{":
            if depth == 0:
                objects += 1
                group = objects
            depth += 1
        elif token["brace"] == "}":
            depth = max(0, depth - 1)
            group = group if depth else 0
        elif token["quoted"] is not None:
            # Inside an object a line that begins so is no quotation: only its mark is passed over.
            position = token.start() + 1 if depth else token.end()
        elif token["quote"]:
            position, named = _after_string(reply, token.start(), key, in_object=depth > 0)
            if named and (colon := after.match(reply, position)) and _begins(reply, token.start(), depth):
                yield _Place(group, depth, colon.end())
        elif (colon := after.match(reply, position)) and _begins(reply, token.start(), depth):
            yield _Place(group, depth, colon.end())


@lru_cache(maxsize=32)
def _tokens(key: str) -> re.Pattern[str]:
    quoted = r"(?P<quoted>^[ \t]*+>[^\n]*+)"
    return re.compile(
        rf'{quoted}|(?P<brace>[{{}}])|(?P<quote>")|(?P<key>\b{re.escape(key)}\b)', re.IGNORECASE | re.MULTILINE
    )


def _after_string(reply: str, start: int, key: str, *, in_object: bool) -> tuple[int, bool]:
    """Where reading goes on after a quotation mark, and whether what it opened was just the key."""
    string = (_STRING if in_object else _QUOTATION).match(reply, start)
    if string is None:
        # Cut off inside a string: all the rest is in it. In loose text a lone mark is an inch sign.
        return (len(reply) if in_object else start + 1), False
    return string.end(), string[1].strip(_AROUND_A_KEY).upper() == key.upper()


def _begins(reply: str, start: int, depth: int) -> bool:
    """Whether a key may stand here: anywhere in loose text, but in an object not after words."""
    if depth == 0:
        return True
    place = start - 1
    while place >= 0 and reply[place] in _AROUND_A_KEY:
        place -= 1
    return place < 0 or reply[place] in "{}[],\n"
