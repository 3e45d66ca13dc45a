"""What a pattern is."""

import re
from collections.abc import Callable
from dataclasses import dataclass


def always(_: bytes) -> bool:
    """Nothing is known beforehand."""
    return True


def _any(_: str) -> bool:
    return True


@dataclass(frozen=True, kw_only=True, slots=True)
class Pattern:
    """One kind of text that must not be kept.

    Attributes:
        name: what it is called in settings and counts.
        expression: finds it. Where it has a group `value`, only that is replaced.
        holds: whether what was found is really of the kind, by its check digits.
        possible: whether UTF-8 text can hold any; may be wrong in one direction only. It costs a tenth of a search.
    """

    name: str
    expression: re.Pattern[str]
    holds: Callable[[str], bool] = _any
    possible: Callable[[bytes], bool] = always

    @property
    def label(self) -> str:
        """What stands in the text instead."""
        return self.name.upper().replace("-", "_")
