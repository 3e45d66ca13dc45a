"""`groundwatch calibrate policy`: whom to ask next, from labelled rows and what errors and calls cost."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.benchmarks.policy_curve import Economy, Point, curve, held_out_cases, point_at, price_of, values_of
from monitor.cli.calibrate_plot import as_svg, as_text, panels
from monitor.cli.calibrate_scores import Calibrated, Scored, score_all, select_rows, simulated_pool
from monitor.cli.console import plain_table, wide_console
from monitor.domain.errors import InvalidInput
from monitor.domain.judgement import JudgeIdentity, Tier
from monitor.routing.value import Costs

_ORDER = tuple(Calibrated)


@dataclass(frozen=True, kw_only=True, slots=True)
class Step:
    """One judge more: the curve over its share of calls, and the point chosen on it."""

    asked: JudgeIdentity
    economy: Economy
    rows: int
    points: list[Point]
    chosen: Point

    @property
    def price(self) -> float:
        """What a call must be worth beyond its cost."""
        return max(0.0, self.chosen.bar - self.economy.call)

    def as_json(self) -> dict[str, Any]:
        """As a JSON value."""
        found = {"asked": self.asked.version, "tier": self.asked.tier.value, "rows": self.rows, "price": self.price}
        return {**found, "chosen": asdict(self.chosen), "curve": [asdict(point) for point in self.points]}


def register(calibrate: typer.Typer) -> None:
    """Add `calibrate policy`."""
    calibrate.command()(policy)


def policy(
    *,
    sources: Annotated[list[Path], typer.Option("--input", "-i", help="Labelled JSONL; may be repeated.")],
    judges: Annotated[list[Calibrated], typer.Option("--judge", help="The cascade's judges; two or three.")],
    exclude: Annotated[
        list[Path] | None, typer.Option(help="Labelled JSONL (.gz) whose rows and contexts are not used.")
    ] = None,
    gguf: Annotated[Path | None, typer.Option(help="GGUF model; gguf.path of the settings when absent.")] = None,
    limit: Annotated[int | None, typer.Option(min=100, help="Rows for the slow judges; all when absent.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="File that keeps raw scores: a judge is not asked twice about a row.")
    ] = None,
    all_rows: Annotated[
        bool, typer.Option("--all-rows", help="Use every row: for rows that no judge was trained on.")
    ] = False,
    cost_of_miss: Annotated[float, typer.Option(min=1e-9, help="Of a hallucinated answer called faithful.")] = 1.0,
    cost_of_false_alarm: Annotated[float, typer.Option(min=1e-9, help="Of a faithful one called hallucinated.")] = 1.0,
    cost_of_edge_call: Annotated[float, typer.Option(min=0, help="Of asking the GGUF judge once.")] = 0.0,
    cost_of_pool_call: Annotated[float, typer.Option(min=0, help="Of asking the pool once.")] = 0.0,
    edge_share: Annotated[float, typer.Option(min=0, max=1, help="At most this share goes to the GGUF judge.")] = 1.0,
    pool_share: Annotated[float, typer.Option(min=0, max=1, help="At most this share goes to the pool.")] = 1.0,
    simulate: Annotated[
        str | None, typer.Option(metavar="SENS,SPEC", help="An imagined pool of this sensitivity and specificity.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw the last judge's curve into this SVG file.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Curves, choice and settings as one JSON object.")] = False,
) -> None:
    """Choose where the next judge is worth asking; print the cost and accuracy curve and the settings to paste.

    The judges are taken from the cheapest to the dearest. For each after the first, a calibration fitted on four
    fifths of the rows says what asking it would be expected to avoid on the last fifth, and the labels say what it
    did avoid. Rows are sent where that exceeds the call's cost and, where a share is set, the price that keeps it.
    Costs are in any currency that all of them share. Each step takes all cheaper judges as heard.
    """
    ordered = sorted(dict.fromkeys(judges), key=_ORDER.index)
    skill = None if simulate is None else skill_of(simulate)
    if len(ordered) + (skill is not None) < 2:  # noqa: PLR2004 - one that has spoken, one that may be asked
        raise typer.BadParameter("needs two: one that has spoken and one that may be asked", param_hint="--judge")
    if skill is not None and Calibrated.POOL in ordered:
        raise typer.BadParameter(
            "imagines a pool in place of `--judge pool`: give one of them", param_hint="--simulate"
        )
    rows = select_rows(sources, exclude or [], all_rows=all_rows)
    scored = score_all(ordered, rows, gguf=gguf, limit=limit, scores=scores)
    if skill is not None:
        scored.append(simulated_pool(rows, *skill))
    costs = Costs(miss=cost_of_miss, false_alarm=cost_of_false_alarm)
    calls = {Tier.EDGE: (cost_of_edge_call, edge_share), Tier.POOL: (cost_of_pool_call, pool_share)}
    labels = [row.hallucinated for row in rows]
    steps = [
        _step(scored[: place + 1], labels, costs, *calls[scored[place].identity.tier])
        for place in range(1, len(scored))
    ]
    settings = settings_lines(costs, steps)
    if plot is not None:
        plot.write_text(as_svg(_title(steps[-1]), steps[-1].points, steps[-1].chosen), encoding="utf-8")
    if as_json:
        typer.echo(json.dumps({"steps": [step.as_json() for step in steps], "settings": settings}, indent=2))
        return
    for step in steps:
        _show(step)
    typer.echo("\n".join(["[policy]", *(f"{name} = {json.dumps(value)}" for name, value in settings.items())]))


def _step(scored: Sequence[Scored], labels: Sequence[bool], costs: Costs, call: float, share: float) -> Step:
    economy = Economy(costs=costs, call=call, threshold=costs.threshold)
    identities = [one.identity for one in scored]
    try:
        cases = held_out_cases(identities, [one.scores for one in scored], labels, threshold=costs.threshold)
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    bar = max(call, price_of(values_of(cases, economy), share))
    return Step(
        asked=identities[-1],
        economy=economy,
        rows=len(cases.labels),
        points=curve(cases, economy),
        chosen=point_at(cases, economy, bar),
    )


def skill_of(text: str) -> tuple[float, float]:
    """Sensitivity and specificity from `0.95,0.9`.

    Raises:
        typer.BadParameter: it is something else.
    """
    try:
        sensitivity, specificity = (float(part) for part in text.split(","))
    except ValueError:
        sensitivity = specificity = 0.0
    if not (0 < sensitivity < 1 and 0 < specificity < 1):
        raise typer.BadParameter("two numbers between 0 and 1, such as 0.95,0.9", param_hint="--simulate")
    return sensitivity, specificity


def settings_lines(costs: Costs, steps: Sequence[Step]) -> dict[str, float | str]:
    """The settings of the section `policy` that the choice comes to."""
    lines: dict[str, float | str] = {
        "mode": "value",
        "threshold": round(costs.threshold, 6),
        "cost_of_miss": costs.miss,
        "cost_of_false_alarm": costs.false_alarm,
    }
    for step in steps:
        lines |= {
            f"cost_of_{step.asked.tier}_call": step.economy.call,
            f"{step.asked.tier}_price": round(step.price, 6),
        }
    return lines


def _title(step: Step) -> str:
    return f"Asking {step.asked.version} ({step.asked.model}), {step.rows} labelled rows held out of the fit"


def _show(step: Step) -> None:
    console = wide_console()
    console.print(_title(step), highlight=False, markup=False)
    # Expected and found are of the same rows: the fit of the other folds, and the labels.
    numbers = (
        "calls",
        "worth more than",
        "cost expected",
        "found",
        "95 %",
        "bal. acc. expected",
        "found",
        "95 %",
        "kept",
    )
    table = plain_table(("",), numbers)
    for point in (*step.points, step.chosen):
        table.add_row("chosen" if point is step.chosen else "", *_cells(point))
    console.print(table)
    for panel in panels(step.points, step.chosen):
        console.print("\n".join(as_text(panel)), highlight=False, markup=False)
    console.print()


def _cells(point: Point) -> tuple[str, ...]:
    cost, balanced = point.cost, point.balanced_accuracy
    return (
        f"{point.share:.1%}",
        f"{max(point.bar, 0.0):.4f}",
        f"{point.predicted_cost:.4f}",
        f"{cost.value:.4f}",
        f"{cost.low:.4f}-{cost.high:.4f}",
        f"{point.predicted_balanced_accuracy:.4f}",
        f"{balanced.value:.4f}",
        f"{balanced.low:.4f}-{balanced.high:.4f}",
        f"{point.retained:.1%}",
    )
