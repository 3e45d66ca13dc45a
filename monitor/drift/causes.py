"""Which slice of the traffic explains that a rate rose.

A slice is one value of one dimension: `prompt_version = v7`. It explains a rise when its own rate rose by more than
that of all other traffic did: a difference of differences, tested one-sided with a normal approximation, with Holm's
correction (1979) over all slices looked at. When everything rose alike no slice does, and that is said by an empty
answer.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.special import ndtr

from monitor.domain.explanation import Cause
from monitor.domain.rate import Z_95, wilson

FEWEST_VERDICTS = 20
"""After the change, in a slice that is looked at: of fewer nothing can be said."""

SIGNIFICANT = 0.05
"""Family-wise, over all slices and looks: at most so often is any slice named that did nothing."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Counts:
    """Verdicts, and hallucinated ones among them, before and after a change."""

    before: int
    hallucinated_before: int
    after: int
    hallucinated_after: int

    def __sub__(self, other: "Counts") -> "Counts":
        return Counts(
            before=self.before - other.before,
            hallucinated_before=self.hallucinated_before - other.hallucinated_before,
            after=self.after - other.after,
            hallucinated_after=self.hallucinated_after - other.hallucinated_after,
        )


def share_of_look(look: int) -> float:
    """What the look with this number, from 0 on, may spend of `SIGNIFICANT`: half of what is left."""
    return float(SIGNIFICANT / 2.0 ** (look + 1))


def causes(whole: Counts, slices: Mapping[tuple[str, str], Counts], *, significant: float = SIGNIFICANT) -> list[Cause]:
    """The slices that explain a rise, the one that explains most first.

    Args:
        whole: all traffic of the segment.
        slices: parts of it, by dimension and value; those of one dimension do not overlap.
        significant: the family-wise error of this look.
    """
    looked_at = {
        name: counts
        for name, counts in slices.items()
        if counts.after >= FEWEST_VERDICTS and whole.after - counts.after >= FEWEST_VERDICTS
    }
    tests = {name: _excess(counts, whole - counts, whole) for name, counts in looked_at.items()}
    chances = [float(ndtr(-effect / error)) for effect, error in tests.values()]
    corrected = dict(zip(tests, holm(chances), strict=True))
    named = []
    for (dimension, value), p_value in corrected.items():
        if p_value > significant:
            continue
        counts, (effect, error) = looked_at[dimension, value], tests[dimension, value]
        after = wilson(counts.hallucinated_after, counts.after)
        assert after is not None
        named.append(
            Cause(
                dimension=dimension,
                value=value,
                before=wilson(counts.hallucinated_before, counts.before),
                after=after,
                effect=effect,
                low=effect - Z_95 * error,
                high=effect + Z_95 * error,
                p_value=p_value,
                explains=_share_of_excess(counts, whole),
            )
        )
    return sorted(named, key=lambda cause: (-cause.explains, cause.p_value, cause.dimension, cause.value))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction: the p-values, each as it stands among all (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(p_values) - rank)))
        corrected[place] = highest
    return corrected


def _excess(part: Counts, rest: Counts, whole: Counts) -> tuple[float, float]:
    """How much more the part rose than the rest, and the standard error of that."""
    part_rise, part_error = _rise(part, whole)
    rest_rise, rest_error = _rise(rest, whole)
    return part_rise - rest_rise, math.hypot(part_error, rest_error)


def _rise(counts: Counts, whole: Counts) -> tuple[float, float]:
    after, after_error = _estimate(counts.hallucinated_after, counts.after)
    # What did not exist before is compared with what there was.
    earlier = counts if counts.before >= FEWEST_VERDICTS else whole
    before, before_error = _estimate(earlier.hallucinated_before, earlier.before)
    return after - before, math.hypot(after_error, before_error)


def _estimate(hallucinated: int, n: int) -> tuple[float, float]:
    """Agresti and Coull's rate and its standard error: finite where all or nothing is hallucinated."""
    trials = n + Z_95**2
    rate = (hallucinated + Z_95**2 / 2) / trials
    return rate, math.sqrt(rate * (1 - rate) / trials)


def _share_of_excess(part: Counts, whole: Counts) -> float:
    expected = whole.hallucinated_before / whole.before if whole.before else 0.0
    excess = whole.hallucinated_after - expected * whole.after
    return (part.hallucinated_after - expected * part.after) / excess if excess > 0 else 0.0
