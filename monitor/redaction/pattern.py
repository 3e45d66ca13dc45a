"""What a pattern is."""

import re
from collections.abc import Callable, Iterator
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
        expression: finds it. Where it has a group `value`, only that is replaced; of several (`value`, `value_2`, …)
            the first that was matched and that holds.
        holds: whether what was found is really of the kind, by its check digits.
        possible: whether UTF-8 text can hold any; may be wrong in one direction only. It costs a tenth of a search.
        in_numbers: whether a number, which is no text, may be one as well.
    """

    name: str
    expression: re.Pattern[str]
    holds: Callable[[str], bool] = _any
    possible: Callable[[bytes], bool] = always
    in_numbers: bool = False

    @property
    def label(self) -> str:
        """What stands in the text instead."""
        return self.name.upper().replace("-", "_")

    def places(self, text: str) -> Iterator[tuple[int, int]]:
        """Where it stands in a text: starts and ends, in order, none over another."""
        groups = [name for name in self.expression.groupindex if name.startswith("value")]
        last = 0
        for match in self.expression.finditer(text):
            for start, end in [match.span(name) for name in groups if match[name] is not None] or [match.span()]:
                if start >= last and self.holds(text[start:end]):
                    yield start, end
                    last = end
                    break

    def is_all_of(self, text: str) -> bool:
        """Whether a text is one of the kind, and nothing else."""
        if self.expression.fullmatch(text):
            return self.holds(text)
        return (0, len(text)) in self.places(text)
