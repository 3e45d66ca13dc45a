"""What a replay came to: how far two versions agree, who says more, and which answers changed most clearly."""

import heapq
from collections import defaultdict
from dataclasses import dataclass

from monitor.domain.rate import Rate, wilson
from monitor.domain.trace import Segment
from monitor.storage.engine import LedgerEngine
from monitor.storage.replays import Kind, Replay
from monitor.storage.replays_report import Changed, OwnCounts, PairCounts, compared_days, own_days

_CLEAREST = 10
_CHARACTERS = 200


@dataclass(frozen=True, kw_only=True, slots=True)
class Comparison:
    """The two versions on the same traces; None where there is nothing to take a share of.

    Attributes:
        counts: what the two said.
    """

    counts: PairCounts

    @property
    def n(self) -> int:
        """Traces that both versions have judged."""
        counts = self.counts
        return counts.both_hallucinated + counts.both_faithful + counts.now_faithful + counts.now_hallucinated

    @property
    def agreement(self) -> Rate | None:
        """The share with the same label."""
        return wilson(self.counts.both_hallucinated + self.counts.both_faithful, self.n)

    @property
    def kappa(self) -> float | None:
        """Cohen's kappa (1960): agreement beyond what their two rates alone would give; None where nothing differs."""
        agreement, old, new = self.agreement, self.old_rate, self.new_rate
        if agreement is None or old is None or new is None:
            return None
        by_chance = old.value * new.value + (1 - old.value) * (1 - new.value)
        return None if by_chance == 1 else (agreement.value - by_chance) / (1 - by_chance)

    @property
    def old_rate(self) -> Rate | None:
        """The old version's hallucinated share."""
        return wilson(self.counts.both_hallucinated + self.counts.now_faithful, self.n)

    @property
    def new_rate(self) -> Rate | None:
        """The new version's hallucinated share."""
        return wilson(self.counts.both_hallucinated + self.counts.now_hallucinated, self.n)


@dataclass(frozen=True, kw_only=True, slots=True)
class SegmentComparison:
    """That of one segment, against one version."""

    segment: Segment
    old_version: str
    comparison: Comparison


@dataclass(frozen=True, kw_only=True, slots=True)
class ReplayReport:
    """The whole of it.

    Attributes:
        own: of a replay of what could not be judged, what the new version itself could not; None of any other.
    """

    replay: Replay
    own: OwnCounts | None
    whole: Comparison
    segments: tuple[SegmentComparison, ...]
    clearest: tuple[Changed, ...]


def report(engine: LedgerEngine, replay: Replay, *, against: str | None = None) -> ReplayReport:
    """Compare a replay's version with the first verdicts, or with version `against`, over the replay's selection.

    Current verdicts are compared, those that the pool has revised among them. Reads the history day by day.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    by_segment: dict[tuple[Segment, str], PairCounts] = defaultdict(PairCounts)
    clearest: list[Changed] = []
    for counted, changed in compared_days(engine, replay, against=against, most=_CLEAREST, characters=_CHARACTERS):
        for one in counted:
            by_segment[one.segment, one.old_version] += one.counts
        clearest = heapq.nlargest(_CLEAREST, [*clearest, *changed], key=lambda one: one.by)
    unjudged = replay.selection.kind is Kind.UNJUDGED
    return ReplayReport(
        replay=replay,
        own=sum(own_days(engine, replay), OwnCounts()) if unjudged else None,
        whole=Comparison(counts=sum(by_segment.values(), PairCounts())),
        segments=tuple(
            SegmentComparison(segment=segment, old_version=old, comparison=Comparison(counts=counts))
            for (segment, old), counts in sorted(by_segment.items(), key=lambda item: (str(item[0][0]), item[0][1]))
        ),
        clearest=tuple(clearest),
    )
