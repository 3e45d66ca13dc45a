"""Quantities that are the same although they are written otherwise: 1.5 million is 1,500,000, and rounds 1,532,411."""

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence

from monitor.judging.text import Word

SCALES = {
    "hundred": 1e2,
    "thousand": 1e3,
    "k": 1e3,
    "million": 1e6,
    "mn": 1e6,
    "m": 1e6,
    "billion": 1e9,
    "bn": 1e9,
    "b": 1e9,
    "trillion": 1e12,
}
"""What a number is multiplied by when one of these follows."""

ORDINALS = {
    "first": 1.0,
    "second": 2.0,
    "third": 3.0,
    "fourth": 4.0,
    "fifth": 5.0,
    "sixth": 6.0,
    "seventh": 7.0,
    "eighth": 8.0,
    "ninth": 9.0,
    "tenth": 10.0,
}
"""Stems of ordinals; from eleven on they are written in digits."""

_SCALE = re.compile(rf"[\s-]?({'|'.join(SCALES)})\b", re.IGNORECASE)
_NUMBER = re.compile(r"\d++(?:[.,]\d++)*+")
# Products of decimal fractions are off in their last bits.
_TOLERANCE = 1e-9


class Quantities:
    """The quantities that texts state, found by value. Reading is linear, looking up logarithmic."""

    def __init__(self, texts: Iterable[str]) -> None:
        found: set[float] = set()
        for text in texts:
            for match in _NUMBER.finditer(text):
                value = _value(match.group())
                if value is not None:
                    found |= {value, value * _scale(text, match.end())}
        self._sorted: Sequence[float] = sorted(found)

    def hold(self, answer: str, number: Word) -> bool:
        """Whether a number of the answer is stated, in digits, or rounded to the digits before its scale."""
        value = _value(number.stem)
        if value is None:
            return False
        scale = _scale(answer, number.end)
        decimals = len(number.stem.partition(".")[2])
        half = 0.5 * 10.0**-decimals * scale if scale > 1 else 0.0
        return self._within(value * scale, half)

    def holds(self, value: float) -> bool:
        """Whether this very value is stated."""
        return self._within(value, 0.0)

    def reach(self, value: float) -> bool:
        """Whether any quantity is as large."""
        return bool(self._sorted) and self._sorted[-1] >= value

    def _within(self, value: float, half: float) -> bool:
        margin = half + value * _TOLERANCE
        place = bisect_left(self._sorted, value - margin)
        return place < len(self._sorted) and self._sorted[place] <= value + margin


def _value(digits: str) -> float | None:
    try:
        return float(digits.replace(",", ""))
    except ValueError:
        # 1.2.3 is a version or a date.
        return None


def _scale(text: str, end: int) -> float:
    match = _SCALE.match(text, end)
    return SCALES[match.group(1).lower()] if match else 1.0
