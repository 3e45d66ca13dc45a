"""Fitting a whole calibration: every judge, every set of them, and what asking the next one changes."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from types import MappingProxyType

import numpy as np

from monitor.domain.judgement import JudgeIdentity, Tier
from monitor.judging.calibration import Calibration
from monitor.judging.calibration_judge import JudgeCalibration, calibrate_judge
from monitor.judging.fusion import LEAST_ROWS, Fusion, fit_fusion
from monitor.judging.odds import Floats, log_odds
from monitor.judging.prospects import Transition, fit_transition
from monitor.judging.segments import fit_segments

_TIERS = tuple(Tier)


def fit_calibration(
    identities: Sequence[JudgeIdentity],
    scores: Sequence[Sequence[float | None]],
    labels: Sequence[bool],
    *,
    groups: Sequence[str] | None = None,
    segments: Sequence[str] | None = None,
) -> Calibration:
    """Fit every judge on the rows on which it spoke, and every set of judges on the rows where all of them did.

    Args:
        identities: the judges.
        scores: one sequence a judge, one raw score a row; None where it could not judge.
        labels: one a row, True for hallucinated.
        groups: each row's data set; where given, the fusion is chosen on data sets held out whole.
        segments: each row's segment, as `str(Segment)` names it, where segments shall be told apart.

    Raises:
        ValueError: a judge has too few rows, or too few of one label.
    """
    rows = _Rows(scores, labels, groups, segments)
    judges = {}
    for place, identity in enumerate(identities):
        spoke = rows.where_all_spoke([place])
        judges[identity.version] = calibrate_judge(
            identity,
            rows.scores_of(place, spoke),
            rows.labels_of(spoke),
            segments=_picked(segments, spoke),
        )
    calibration = Calibration(judges=MappingProxyType(judges))
    places = range(len(identities))
    sets = [group for size in range(2, len(identities) + 1) for group in combinations(places, size)]
    calibration = replace(calibration, fusions=tuple(_fuse(rows, identities, judges, group) for group in sets))
    return replace(calibration, transitions=tuple(_transitions(rows, identities, calibration)))


class _Rows:
    """The labelled rows, by judge."""

    def __init__(
        self,
        scores: Sequence[Sequence[float | None]],
        labels: Sequence[bool],
        groups: Sequence[str] | None,
        segments: Sequence[str] | None,
    ) -> None:
        self._scores, self._labels = scores, labels
        self.groups, self.segments = groups, segments

    def where_all_spoke(self, places: Sequence[int]) -> list[int]:
        columns = [self._scores[place] for place in places]
        return [row for row in range(len(self._labels)) if all(column[row] is not None for column in columns)]

    def scores_of(self, place: int, rows: Sequence[int]) -> list[float]:
        return [score for row in rows if (score := self._scores[place][row]) is not None]

    def labels_of(self, rows: Sequence[int]) -> list[bool]:
        return [self._labels[row] for row in rows]


def _picked(names: Sequence[str] | None, rows: Sequence[int]) -> list[str] | None:
    return None if names is None else [names[row] for row in rows]


def _fuse(
    rows: _Rows, identities: Sequence[JudgeIdentity], judges: Mapping[str, JudgeCalibration], group: Sequence[int]
) -> Fusion:
    together = rows.where_all_spoke(group)
    said = _said(rows, identities, judges, group, together)
    labels = rows.labels_of(together)
    fusion = fit_fusion(said, labels, groups=_picked(rows.groups, together))
    segments = _picked(rows.segments, together)
    if segments is None or not fusion.deciding:
        return fusion
    return replace(fusion, segments=fit_segments(fusion.log_odds(said), labels, segments))


def _said(
    rows: _Rows,
    identities: Sequence[JudgeIdentity],
    judges: Mapping[str, JudgeCalibration],
    group: Sequence[int],
    together: Sequence[int],
) -> dict[str, Floats]:
    versions = {place: identities[place].version for place in group}
    return {
        version: judges[version].curve.probabilities(rows.scores_of(place, together))
        for place, version in versions.items()
    }


def _transitions(rows: _Rows, identities: Sequence[JudgeIdentity], calibration: Calibration) -> list[Transition]:
    found = []
    for asked, identity in enumerate(identities):
        cheaper = [
            place for place, one in enumerate(identities) if _TIERS.index(one.tier) < _TIERS.index(identity.tier)
        ]
        for size in range(1, len(cheaper) + 1):
            for given in combinations(cheaper, size):
                together = rows.where_all_spoke([*given, asked])
                said = _said(rows, identities, calibration.judges, [*given, asked], together)
                before = fused_odds(
                    calibration, {identities[place].version: said[identities[place].version] for place in given}
                )
                after, labels = fused_odds(calibration, said), rows.labels_of(together)
                if (
                    before is not None
                    and after is not None
                    and len(labels) >= LEAST_ROWS
                    and 0 < sum(labels) < len(labels)
                ):
                    versions = [identities[place].version for place in given]
                    found.append(fit_transition(versions, identity.version, before, after, labels))
    return found


def fused_odds(calibration: Calibration, probabilities: Mapping[str, Floats]) -> Floats | None:
    """What `Calibration.fuse` makes of many rows at once, in log-odds; None where it has no judge to go by.

    Args:
        calibration: fuses.
        probabilities: calibrated, for all segments alike, by judge version, one a row.
    """
    decides = calibration.decider(probabilities)
    if decides is None:
        return None
    if isinstance(decides, JudgeCalibration):
        return log_odds(probabilities[decides.version])
    return np.asarray(decides.log_odds(probabilities))
