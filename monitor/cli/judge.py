"""`groundwatch judge`: the local cascade over a file, without Kafka and without Postgres."""

import json
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from enum import StrEnum
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli.console import lines_with_progress
from monitor.cli.records import BadLine, Record, opened, read_lines, read_record, written
from monitor.config import Settings, load_settings
from monitor.domain.errors import InvalidSettings
from monitor.domain.trace import Origin
from monitor.domain.verdict import Assessment, Label, Verdict
from monitor.embedded.offline import offline_cascade
from monitor.inference.cascade import Cascade, Explain
from monitor.inference.loading import load_calibration, load_edge, load_policy, load_screen, now
from monitor.judging.metrics import auroc, balanced_accuracy
from monitor.services.offline import OfflineCascade

_BATCH = 64
_OFFLINE = Origin(topic="offline", partition=0, offset=0)


class JudgeName(StrEnum):
    """Who judges."""

    SCREEN = "screen"
    GGUF = "gguf"
    CASCADE = "cascade"


def register(app: typer.Typer) -> None:
    """Add `judge`."""
    app.command()(judge)


def judge(
    *,
    source: Annotated[
        Path, typer.Option("--input", "-i", help="JSONL: labelled rows or rag_trace.v1; `-` is standard input.")
    ],
    target: Annotated[
        Path, typer.Option("--output", "-o", help="JSONL, a line for each input line; `-` is standard output.")
    ] = Path("-"),
    who: Annotated[JudgeName, typer.Option("--judge", help="Who judges.")] = JudgeName.CASCADE,
    gguf: Annotated[Path | None, typer.Option(help="GGUF model; gguf.path of the settings when absent.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as one JSON object on stdout.")] = False,
) -> None:
    """Judge every line of a file: same judges, same calibration, same policy as the workers.

    Each output line has `id`, `label` (hallucinated, faithful or null), `p_hallucination`, `outcome` (verdict,
    unjudged or dead_letter), `judge_version`; `reason` and `detail` where there is no verdict, the `unsupported`
    spans of the answer, and `expected` where the input line carried a label. A line that is no trace gives a
    dead_letter line. The edge judge's time budget does not apply, so that the same input gives the same output.
    """
    if as_json and str(target) == "-":
        raise typer.BadParameter("--json needs --output: both would write to standard output", param_hint="--json")
    if str(source) != "-" and source.resolve() == target.resolve():
        raise typer.BadParameter("is the input file", param_hint="--output")
    began = time.monotonic()
    with opened_offline(load_settings(), who, gguf) as cascade, opened(source) as lines, written(target) as out:
        tally = Tally(cascade.version)
        size = source.stat().st_size if source.is_file() else None
        arriving = lines_with_progress(read_lines(lines), size, "judging")
        while batch := list(islice(arriving, _BATCH)):
            for result in judge_lines(cascade, batch, tally.rows):
                tally.add(result)
                # ASCII: an id may hold half a surrogate pair, which no file can.
                out.write(json.dumps(result) + "\n")
    summary = tally.summary(time.monotonic() - began)
    if as_json:
        typer.echo(json.dumps(summary))
    _narrate(summary)


@contextmanager
def opened_offline(settings: Settings, who: JudgeName, gguf: Path | None) -> Iterator[Cascade | OfflineCascade]:
    """The cascade for one of the command's judges.

    Raises:
        InvalidSettings: a GGUF judge is wanted and no model is named.
    """
    path = gguf or settings.gguf.path
    if who is JudgeName.GGUF and path is None:
        raise InvalidSettings("--judge gguf needs --gguf PATH, or gguf.path in the settings")
    # A share of 1 of the wall time never runs out.
    policy = settings.policy.model_copy(update={"edge_budget_share": 1.0})
    if who is not JudgeName.CASCADE:
        policy = policy.model_copy(update={"edge": "none" if who is JudgeName.SCREEN else "all"})
    wanted = settings.model_copy(update={"gguf": settings.gguf.model_copy(update={"path": path}), "policy": policy})
    if who is JudgeName.CASCADE:
        with offline_cascade(wanted) as cascade:
            yield cascade
    else:
        yield _alone(wanted, who)


def _alone(settings: Settings, who: JudgeName) -> Cascade:
    screen = load_screen(settings) if who is JudgeName.SCREEN else None
    return Cascade(
        screen=screen,
        edge=None if screen else load_edge(settings),
        calibration=load_calibration(settings.policy.calibration),
        policy=load_policy(settings),
        clock=now,
        explain=Explain(settings.gguf.explain),
        edge_deadline_seconds=settings.gguf.deadline_seconds,
    )


def judge_lines(cascade: Cascade | OfflineCascade, lines: Sequence[bytes], before: int) -> Iterator[dict[str, Any]]:
    """One result a line, in order; `before` lines of the file came earlier."""
    moment = now()
    read = [read_record(line, number=before + place, now=moment) for place, line in enumerate(lines, start=1)]
    judged = iter(cascade.assess([(one.trace, _OFFLINE) for one in read if isinstance(one, Record)]))
    for one in read:
        yield _dead(one, cascade.version) if isinstance(one, BadLine) else _result(one, next(judged))


def _dead(line: BadLine, version: str) -> dict[str, Any]:
    detail = f"{line.field}: {line.problem}"
    fields = {"id": line.id, "label": None, "p_hallucination": None, "outcome": "dead_letter"}
    return {**fields, "judge_version": version, "reason": line.reason.value, "detail": detail}


def _result(record: Record, assessment: Assessment) -> dict[str, Any]:
    result: dict[str, Any] = {"id": record.id, "label": None, "p_hallucination": None, "outcome": "unjudged"}
    result["judge_version"] = assessment.judge_version
    outcome = assessment.outcome
    if isinstance(outcome, Verdict):
        result |= {"label": outcome.label.value, "p_hallucination": outcome.probability, "outcome": "verdict"}
        result["unsupported"] = [asdict(span) for span in outcome.unsupported]
    else:
        result |= {"reason": outcome.reason.value, "detail": outcome.detail}
    if record.expected is not None:
        result["expected"] = record.expected.value
    return result


class Tally:
    """Counts results as they pass."""

    def __init__(self, judge_version: str) -> None:
        self.rows = 0
        self._version = judge_version
        self._outcomes: Counter[str] = Counter()
        self._reasons: Counter[str] = Counter()
        self._probabilities: list[float] = []
        self._called: list[bool] = []
        self._truth: list[bool] = []

    def add(self, result: dict[str, Any]) -> None:
        """Count one result."""
        self.rows += 1
        self._outcomes[result["outcome"]] += 1
        if result["outcome"] != "verdict":
            self._reasons[result["reason"]] += 1
        elif "expected" in result:
            self._probabilities.append(result["p_hallucination"])
            self._called.append(result["label"] == Label.HALLUCINATED)
            self._truth.append(result["expected"] == Label.HALLUCINATED)

    def summary(self, seconds: float) -> dict[str, Any]:
        """Counts, and quality against the labels; its figures are null without rows of both labels."""
        measurable = any(self._truth) and not all(self._truth)
        return {
            "rows": self.rows,
            "verdicts": self._outcomes["verdict"],
            "unjudged": self._outcomes["unjudged"],
            "dead_letters": self._outcomes["dead_letter"],
            "reasons": dict(self._reasons),
            "judge_version": self._version,
            "labelled_verdicts": len(self._truth),
            "auroc": auroc(self._probabilities, self._truth) if measurable else None,
            "balanced_accuracy": balanced_accuracy(self._called, self._truth) if measurable else None,
            "seconds": round(seconds, 3),
        }


def _narrate(summary: dict[str, Any]) -> None:
    counts = "{rows} lines: {verdicts} verdicts, {unjudged} unjudged, {dead_letters} dead letters in {seconds:.1f} s"
    typer.echo(counts.format(**summary), err=True)
    for reason, count in sorted(summary["reasons"].items()):
        typer.echo(f"  {reason}: {count}", err=True)
    if summary["auroc"] is not None:
        quality = (
            "AUROC {auroc:.3f}, balanced accuracy {balanced_accuracy:.3f} on {labelled_verdicts} labelled verdicts"
        )
        typer.echo(quality.format(**summary), err=True)
