"""`groundwatch calibrate`: from labelled rows to calibration.json, and with `policy` to a cascade's thresholds."""

import json
from pathlib import Path
from typing import Annotated

import typer

from monitor.cli import calibrate_policy
from monitor.cli.calibrate_scores import Calibrated, score_all, segments_of, select_rows
from monitor.cli.console import plain_table, wide_console
from monitor.domain.errors import InvalidInput
from monitor.judging.calibration import Calibration
from monitor.judging.calibration_fit import fit_calibration
from monitor.judging.calibration_judge import JudgeCalibration

_BAR = 40

app = typer.Typer()


def register(root: typer.Typer) -> None:
    """Add the `calibrate` commands."""
    root.add_typer(app, name="calibrate")
    calibrate_policy.register(app)


@app.callback(invoke_without_command=True)
def calibrate(
    context: typer.Context,
    *,
    sources: Annotated[
        list[Path] | None, typer.Option("--input", "-i", help="Labelled JSONL; may be repeated. Required.")
    ] = None,
    judges: Annotated[
        list[Calibrated] | None, typer.Option("--judge", help="Whom to calibrate; may be repeated. Required.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The calibration file to write. Required.")
    ] = None,
    exclude: Annotated[
        list[Path] | None, typer.Option(help="Labelled JSONL (.gz) whose rows and contexts are not used.")
    ] = None,
    gguf: Annotated[Path | None, typer.Option(help="GGUF model; gguf.path of the settings when absent.")] = None,
    limit: Annotated[int | None, typer.Option(min=40, help="Rows for the slow judges; all when absent.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="File that keeps raw scores: a judge is not asked twice about a row.")
    ] = None,
    all_rows: Annotated[
        bool, typer.Option("--all-rows", help="Use every row: for rows that no judge was trained on.")
    ] = False,
    segment_by: Annotated[
        str | None,
        typer.Option(help="Fields of the rows that name their segment, such as `tenant,service,environment`."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The calibration as JSON on stdout, too.")] = False,
) -> None:
    """Fit each judge's raw score to a probability, and the weights of the judges together.

    Only rows whose context the screen's training leaves out are used, as many faithful as hallucinated, so that
    0.5 means that the evidence speaks for neither side. A judge whose probabilities are not clearly better than
    that gets no weight. All judges are measured cross-validated on the rows of this fit; who is weighed, and how,
    is chosen on whole files held out. `groundwatch calibrate policy` chooses the cascade's thresholds.
    """
    if context.invoked_subcommand is not None:
        return
    if not sources or not judges or output is None:
        hint = "--input" if not sources else "--judge" if not judges else "--output"
        raise typer.BadParameter("is required", param_hint=hint)
    rows = select_rows(sources, exclude or [], all_rows=all_rows)
    scored = score_all(judges, rows, gguf=gguf, limit=limit, scores=scores)
    try:
        fitted = fit_calibration(
            [one.identity for one in scored],
            [one.scores for one in scored],
            [row.hallucinated for row in rows],
            groups=[row.file for row in rows],
            segments=segments_of(rows, segment_by),
        )
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    text = json.dumps(fitted.to_json(), indent=2)
    output.write_text(text + "\n", encoding="utf-8")
    if as_json:
        typer.echo(text)
    _narrate(fitted, len(rows))


def _narrate(fitted: Calibration, rows: int) -> None:
    console = wide_console(stderr=True)
    fusion = max(fitted.fusions, key=lambda one: len(one.weights), default=None)
    console.print(f"Calibration of {rows} rows, half of them hallucinated", highlight=False)
    table = plain_table(("judge", "model", "curve"), ("rows", "AUROC", "Brier", "ECE", "error", "log loss", "weight"))
    for one in fitted.judges.values():
        weight = fusion.weights[one.version] if fusion else float(one.informative)
        curve = "isotonic" if one.isotonic else "Platt"
        figures = (one.auroc, one.brier, one.ece, one.calibration_error or 0.0, one.log_loss, weight)
        table.add_row(one.version, one.model, curve, str(one.rows), *(f"{figure:.3f}" for figure in figures))
    console.print(table)
    console.print("ECE pools the held-out folds; error is the unbiased one, within folds: see docs/calibration.md")
    for one in fitted.judges.values():
        low, high = one.intervals["ece"]
        console.print(f"\nReliability of {one.version} on held-out rows, ECE {one.ece:.3f} ({low:.3f} to {high:.3f}):")
        console.print("said  is    [95 %]", markup=False)
        for line in reliability(one):
            console.print(line, highlight=False, markup=False)
        if one.segments:
            console.print(f"told apart: {', '.join(one.segments)}", markup=False)


def reliability(judge: JudgeCalibration) -> list[str]:
    """A text curve: one line for each tenth of the held-out rows."""
    lines = []
    for one in judge.reliability:
        bar = "█" * round(one.observed * _BAR)
        bounds = f"{one.low:.2f}-{one.high:.2f}"
        lines.append(f"{one.predicted:.2f}  {one.observed:.2f}  {bounds}  {bar:<{_BAR}} {one.rows}")
    return lines
