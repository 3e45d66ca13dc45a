"""What calibration and policy are fitted on: labelled rows, and what judges make of them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from monitor.benchmarks.asking import missing
from monitor.benchmarks.panel import Benched, opened
from monitor.benchmarks.scores import ScoreFile, as_trace, row_key
from monitor.cli.console import progress
from monitor.config import Settings, load_settings
from monitor.domain.errors import InvalidInput
from monitor.domain.judgement import JudgeIdentity, Opinion, Tier
from monitor.inference.simulated import SimulatedJudge
from monitor.training.rows import Row, read_rows, without
from monitor.training.split import balanced, is_calibration_row


class Calibrated(StrEnum):
    """Whose scores are calibrated, cheapest first."""

    SCREEN = "screen"
    ENCODER = "encoder"
    GGUF = "gguf"
    POOL = "pool"


@dataclass(frozen=True, slots=True)
class Scored:
    """One judge's raw scores, aligned with the rows."""

    identity: JudgeIdentity
    scores: list[float | None]


def select_rows(sources: Sequence[Path], exclude: Sequence[Path], *, all_rows: bool) -> list[Row]:
    """The rows to fit on, balanced, in the order in which a limit takes them."""
    shut_out = [row for path in exclude for row in read_rows(path)]
    rows = without(
        [row for path in sources for row in read_rows(path)],
        ids=frozenset(row.id for row in shut_out),
        groups=frozenset(row.group for row in shut_out),
    )
    # By identity and not by id: files of different makers may use the same ids.
    rows_by_raw = {id(row.raw): row for row in rows if all_rows or is_calibration_row(row.raw)}
    return [rows_by_raw[id(raw)] for raw in balanced([row.raw for row in rows_by_raw.values()])]


def score_all(
    judges: Sequence[Calibrated], rows: Sequence[Row], *, gguf: Path | None, limit: int | None, scores: Path | None
) -> list[Scored]:
    """What each judge says of the rows; a silence after the first `limit` rows from all but the screen.

    Args:
        judges: whom to ask.
        rows: about what.
        gguf: a model in place of that of the settings.
        limit: rows for the slow judges; all when None.
        scores: file that keeps scores, so that no judge is asked twice about a row.
    """
    settings, kept = load_settings(), ScoreFile(scores)
    if gguf is not None:
        settings = settings.model_copy(update={"gguf": settings.gguf.model_copy(update={"path": gguf})})
    return [_score(name, settings, rows, limit, kept) for name in dict.fromkeys(judges)]


def simulated_pool(rows: Sequence[Row], sensitivity: float, specificity: float) -> Scored:
    """What a pool of this skill would say of the rows; see `SimulatedJudge`."""
    truth = {row_key(row): row.hallucinated for row in rows}
    judge = SimulatedJudge(
        lambda trace: truth.get(trace.trace_id),
        sensitivity=sensitivity,
        specificity=specificity,
        name="simulated pool",
        tier=Tier.POOL,
    )
    said = [judge.judge(replace(as_trace(row), trace_id=row_key(row)), deadline_seconds=1.0) for row in rows]
    return Scored(judge.identity, [one.raw_score if isinstance(one, Opinion) else None for one in said])


def segments_of(rows: Sequence[Row], by: str | None) -> list[str] | None:
    """Each row's segment, from the fields that `by` names with commas between; None without `by`.

    Raises:
        InvalidInput: a row lacks one of them.
    """
    if by is None:
        return None
    fields = [name.strip() for name in by.split(",")]
    lacking = next(((row, name) for row in rows for name in fields if name not in row.raw), None)
    if lacking is not None:
        raise InvalidInput(f"--segment-by {by}: row {lacking[0].id} of {lacking[0].file} has no field {lacking[1]!r}")
    return ["/".join(str(row.raw[name]) for name in fields) for row in rows]


def _score(name: Calibrated, settings: Settings, rows: Sequence[Row], limit: int | None, kept: ScoreFile) -> Scored:
    # The screen is fast enough for every row.
    asked = rows if name is Calibrated.SCREEN or limit is None else rows[:limit]
    with opened(Benched(name.value), settings, deadline_seconds=settings.gguf.deadline_seconds) as judge:
        unknown = missing(judge, asked, kept)
        with progress(f"{name.value} scores", len(asked), len(asked) - len(unknown)) as tick:
            judge.answer(unknown, kept, tick)
        identity = judge.identity
    known = [kept.known(identity, row) for row in asked]
    scores = [None if one is None else one.score for one in known]
    return Scored(identity, [*scores, *[None] * (len(rows) - len(asked))])
