"""From raw scores to probabilities, per judge version, and from several judges to one probability.

The file is one JSON object:

    {"format": "groundwatch.calibration.v2",
     "judges":  [{"version": "screen@…", "model": "…", "tier": "screen", "slope": 1.1, "intercept": -0.2,
                  "isotonic": {"scores": […], "values": […]} or null, "segments": {"tenant/service/env": {…}},
                  "prior": 0.5, "rows": 900, "auroc": 0.8, "brier": 0.18, "ece": 0.03, "log_loss": 0.54,
                  "informative": true, "calibration_error": 0.02, "intervals": {…}, "reliability": […]}, …],
     "fusions": [{"weights": {"screen@…": 0.9, "gguf@…": 0.0}, "bias": 0.0, "prior": 0.5, "rows": 300,
                  "log_loss": 0.55, "highest": 0.0, "lowest": 0.0, "segments": {}}, …],
     "transitions": [{"given": ["screen@…"], "asked": "gguf@…", "hallucinated": {…}, "faithful": {…}, "rows": 300}, …]}

A judge's version covers its weights, quantisation and prompt: change one and its calibration no longer applies.
Files of the first format, without curves, intervals, segments and transitions, are read, too.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any

from monitor.domain.errors import InvalidSettings
from monitor.domain.judgement import Judgement, Opinion, Tier
from monitor.judging.calibration_judge import JudgeCalibration
from monitor.judging.fusion import Fusion
from monitor.judging.isotonic import Isotonic
from monitor.judging.prospects import Line, Prospect, Transition
from monitor.judging.reliability import Bin
from monitor.judging.segments import Shift

FORMAT = "groundwatch.calibration.v2"
_READABLE = (FORMAT, "groundwatch.calibration.v1")


@dataclass(frozen=True, kw_only=True, slots=True)
class Calibration:
    """Everything fitted.

    Attributes:
        judges: by version.
        fusions: for the sets of judges that were fitted together.
        transitions: what asking one judge more changes, for the policy.
    """

    judges: Mapping[str, JudgeCalibration]
    fusions: tuple[Fusion, ...] = ()
    transitions: tuple[Transition, ...] = ()

    def probability(self, judge_version: str, raw_score: float, *, segment: object | None = None) -> float | None:
        """Calibrated probability of *hallucinated*; None for a judge version that was never calibrated.

        Args:
            judge_version: whose score it is.
            raw_score: its log-odds, on its own scale.
            segment: the trace's, by whose name (`str`) a shift may be known; None for all alike.
        """
        known = self.judges.get(judge_version)
        return None if known is None else known.probability(raw_score, _name(segment))

    def fuse(
        self, judgements: Sequence[Judgement], *, segment: object | None = None
    ) -> tuple[float, tuple[str, ...]] | None:
        """One probability, and the versions of the judges that decided it.

        Judges that could not judge, are not calibrated or were found uninformative have no say. The fusion for
        the largest set of those that spoke is used; without one, the best single judge; without that, None.

        A fusion weighs what judges say for all segments alike and moves the sum by the segment's own shift: what a
        segment adds would otherwise count once for each judge.
        """
        spoken = self._spoken(judgements)
        decides = self.decider(spoken)
        if decides is None:
            return None
        if isinstance(decides, JudgeCalibration):
            return spoken[decides.version].probability or 0.0, (decides.version,)
        shared = {version: self._overall(judgement) for version, judgement in spoken.items()}
        return decides.probability(shared, _name(segment)), decides.deciding

    def decider(self, versions: Collection[str]) -> Fusion | JudgeCalibration | None:
        """Who decides where judges of these versions spoke; see `fuse`."""
        usable = [fusion for fusion in self.fusions if fusion.deciding and fusion.weights.keys() <= set(versions)]
        if usable:
            return min(usable, key=lambda fusion: (-len(fusion.weights), fusion.log_loss))
        informative = [judge for version, judge in self.judges.items() if version in versions and judge.informative]
        return min(informative, key=lambda judge: judge.log_loss, default=None)

    def prospect(
        self, judgements: Sequence[Judgement], tier: Tier, *, probability: float | None, threshold: float
    ) -> Prospect | None:
        """What would remain wrong if a judge of that tier were asked too; None where no fit tells.

        Args:
            judgements: on the trace so far.
            tier: whose judge may be asked.
            probability: what `fuse` made of the judgements.
            threshold: an answer is called hallucinated from this probability on.
        """
        if probability is None:
            return None
        given = tuple(sorted(self._spoken(judgements)))
        known = [one for one in self.transitions if one.given == given and self.judges[one.asked].tier is tier]
        if not known:
            return None
        return max(known, key=lambda one: one.rows).prospect(probability, threshold)

    def _spoken(self, judgements: Sequence[Judgement]) -> dict[str, Judgement]:
        return {
            judgement.judge.version: judgement
            for judgement in judgements
            if isinstance(judgement.result, Opinion) and judgement.probability is not None
        }

    def _overall(self, judgement: Judgement) -> float:
        """What the judge says for all segments alike."""
        known = self.judges.get(judgement.judge.version)
        if known is not None and known.segments and isinstance(judgement.result, Opinion):
            return known.probability(judgement.result.raw_score)
        return judgement.probability or 0.0

    @property
    def version(self) -> str:
        """`calibration@` and 12 hex digits: equal exactly when everything fitted is equal."""
        text = json.dumps(self.to_json(), sort_keys=True)
        return f"calibration@{hashlib.sha256(text.encode()).hexdigest()[:12]}"

    def to_json(self) -> dict[str, Any]:
        """As a JSON value, in the file's format."""
        value = {
            "format": FORMAT,
            "judges": [asdict(judge) for judge in self.judges.values()],
            "fusions": [asdict(fusion) for fusion in self.fusions],
            "transitions": [asdict(transition) for transition in self.transitions],
        }
        # Through text and back: tuples become the lists that a reader of the file sees.
        return dict(json.loads(json.dumps(value)))

    @classmethod
    def from_json(cls, value: Any) -> "Calibration":
        """Read the file's JSON value.

        Raises:
            InvalidSettings: it is not a calibration, or one of another format.
        """
        if not isinstance(value, dict) or value.get("format") not in _READABLE:
            raise InvalidSettings(
                f"not a calibration file: `format` must be {FORMAT!r}; fit a new one with `groundwatch calibrate`"
            )
        try:
            judges = [_judge(judge) for judge in value["judges"]]
            fusions = [_fusion(fusion) for fusion in value["fusions"]]
            transitions = [_transition(transition) for transition in value.get("transitions", ())]
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InvalidSettings(f"damaged calibration file: {error}") from None
        known = MappingProxyType({judge.version: judge for judge in judges})
        unknown = {transition.asked for transition in transitions} - known.keys()
        if unknown:
            raise InvalidSettings(f"damaged calibration file: transitions to unknown judges {sorted(unknown)}")
        return cls(judges=known, fusions=tuple(fusions), transitions=tuple(transitions))


def _name(segment: object | None) -> str | None:
    return None if segment is None else str(segment)


def _judge(value: Mapping[str, Any]) -> JudgeCalibration:
    fields = dict(value)
    tier, isotonic = fields.pop("tier", None), fields.pop("isotonic", None)
    return JudgeCalibration(
        tier=None if tier is None else Tier(tier),
        isotonic=None if isotonic is None else Isotonic(**{name: tuple(row) for name, row in isotonic.items()}),
        segments=_shifts(fields.pop("segments", {})),
        intervals={name: (low, high) for name, (low, high) in fields.pop("intervals", {}).items()},
        reliability=tuple(Bin(**one) for one in fields.pop("reliability", ())),
        **fields,
    )


def _fusion(value: Mapping[str, Any]) -> Fusion:
    fields = dict(value)
    return Fusion(weights=dict(fields.pop("weights")), segments=_shifts(fields.pop("segments", {})), **fields)


def _transition(value: Mapping[str, Any]) -> Transition:
    lines = {name: _line(value[name]) for name in ("hallucinated", "faithful")}
    return Transition(**{**value, **lines, "given": tuple(value["given"])})


def _line(value: Mapping[str, Any]) -> Line:
    return Line(**{**value, "rest": tuple(value["rest"])})


def _shifts(value: Mapping[str, Any]) -> dict[str, Shift]:
    return {name: Shift(**shift) for name, shift in value.items()}
