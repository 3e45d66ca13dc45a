"""How soon a rise is seen, and how often one that is none: our detector beside others, on the same streams."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np

from monitor.benchmarks.drift_streams import CONTESTANTS, ORACLE, OURS, Shape

_CHUNK = 20
"""Runs that a process does before it reports."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Plan:
    """What is simulated.

    Attributes:
        average_run_length: that is asked of the detectors that take one.
        runs: streams a cell.
        stationary: verdicts watched of a stream without a change.
        quiet: stationary verdicts watched before a change.
        longest: verdicts watched after one.
        ramp: verdicts over which the slow rise, a doubling, comes about.
    """

    average_run_length: float = 20_000
    runs: int = 200
    seed: int = 1
    baselines: tuple[float, ...] = (0.02, 0.05, 0.15)
    rises: tuple[float, ...] = (1.25, 1.5, 2.0, 3.0)
    learned_from: tuple[int, ...] = (500, 2000, 10_000)
    stationary: int = 20_000
    quiet: int = 500
    longest: int = 10_000
    ramp: int = 10_000

    @property
    def usual_length(self) -> int:
        """The middle one of the baselines' lengths: that of detectors that learn none, and of the plot."""
        return sorted(self.learned_from)[len(self.learned_from) // 2]


@dataclass(frozen=True, kw_only=True, slots=True)
class Quiet:
    """A detector on streams without a change.

    Attributes:
        early: share of runs with an alarm within a tenth of the run length asked for.
        alarmed: share of runs with an alarm in all that was watched.
        average_run_length: verdicts watched for each alarm; None without one.
    """

    detector: str
    baseline: float
    learned_from: int
    early: float
    alarmed: float
    average_run_length: float | None


@dataclass(frozen=True, kw_only=True, slots=True)
class Delay:
    """A detector on streams that rise.

    Attributes:
        rise: the rate after, as a multiple of the baseline.
        ramp: verdicts over which it came about; 0 for a jump.
        mean, p90: verdicts from the beginning of the rise to the alarm, of runs without an earlier alarm; a rise
            that was not seen counts as the whole time watched.
        missed: share of these runs in which it was not seen.
            None where every run had one.
        early: share of all runs with an alarm before the rise, which are left out.
    """

    detector: str
    baseline: float
    learned_from: int
    rise: float
    ramp: int
    mean: float | None
    p90: float | None
    missed: float
    early: float


@dataclass(frozen=True, kw_only=True, slots=True)
class DriftFigures:
    """All that was measured."""

    plan: Plan
    quiet: tuple[Quiet, ...]
    delays: tuple[Delay, ...]

    def to_json(self) -> dict[str, Any]:
        """As a JSON value."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class _Cell:
    detector: str
    shape: Shape


def measure(plan: Plan, *, processes: int, tick: Callable[[], None] = lambda: None) -> DriftFigures:
    """Run every detector over every stream.

    Args:
        plan: what is simulated.
        processes: that share the work.
        tick: called as often as `steps` says.
    """
    alarms: dict[_Cell, list[int | None]] = {cell: [None] * plan.runs for cell in _cells(plan)}
    with ProcessPoolExecutor(processes) as pool:
        pending = {
            pool.submit(_first_alarms, cell, plan.average_run_length, plan.seed, chunk): (cell, chunk)
            for cell, chunk in product(alarms, _chunks(plan))
        }
        for done in as_completed(pending):
            cell, chunk = pending[done]
            alarms[cell][chunk.start : chunk.stop] = done.result()
            tick()
    quiet = [_quiet(cell, found, plan) for cell, found in alarms.items() if cell.shape.after == cell.shape.before]
    delays = [_delay(cell, found) for cell, found in alarms.items() if cell.shape.after > cell.shape.before]
    return DriftFigures(plan=plan, quiet=tuple(quiet), delays=tuple(delays))


def steps(plan: Plan) -> int:
    """How often `tick` is called."""
    return len(list(_cells(plan))) * len(_chunks(plan))


def _chunks(plan: Plan) -> list[range]:
    return [range(start, min(start + _CHUNK, plan.runs)) for start in range(0, plan.runs, _CHUNK)]


def _cells(plan: Plan) -> Iterator[_Cell]:
    for detector in CONTESTANTS:
        # Only ours learns a baseline: the length of the reference is nothing to the others but a longer past.
        lengths = plan.learned_from if detector == OURS else (plan.usual_length,)
        for before, length in product(plan.baselines, lengths):
            yield _Cell(detector, Shape(before, before, length, plan.stationary, 0))
            for rise in plan.rises:
                yield _Cell(detector, Shape(before, before * rise, length, plan.quiet, plan.longest))
            if detector != ORACLE:
                slow = Shape(before, before * 2, length, plan.quiet, plan.longest + plan.ramp, plan.ramp)
                yield _Cell(detector, slow)


def _first_alarms(cell: _Cell, average_run_length: float, seed: int, runs: range) -> list[int | None]:
    first_alarm = CONTESTANTS[cell.detector]()
    return [first_alarm(cell.shape.draw(seed, run), average_run_length) for run in runs]


def _quiet(cell: _Cell, found: Sequence[int | None], plan: Plan) -> Quiet:
    watched = [plan.stationary if place is None else place + 1 for place in found]
    alarms = sum(place is not None for place in found)
    early = sum(place is not None and place < plan.average_run_length / 10 for place in found)
    return Quiet(
        detector=cell.detector,
        baseline=cell.shape.before,
        learned_from=cell.shape.learned_from,
        early=early / len(found),
        alarmed=alarms / len(found),
        average_run_length=sum(watched) / alarms if alarms else None,
    )


def _delay(cell: _Cell, found: Sequence[int | None]) -> Delay:
    shape = cell.shape
    late = [place for place in found if place is None or place >= shape.quiet]
    delays = [shape.changed if place is None else place - shape.quiet + 1 for place in late]
    return Delay(
        detector=cell.detector,
        baseline=shape.before,
        learned_from=shape.learned_from,
        rise=round(shape.after / shape.before, 6),
        ramp=shape.ramp,
        mean=float(np.mean(delays)) if delays else None,
        p90=float(np.quantile(delays, 0.9)) if delays else None,
        missed=sum(place is None for place in late) / len(late) if late else 0.0,
        early=1 - len(late) / len(found),
    )
