"""`groundwatch labels`: random answers for people to label, and what they say of them."""

import getpass
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from monitor.cli.ledger import ledger
from monitor.cli.records import opened, read_lines, written
from monitor.domain.errors import InvalidInput
from monitor.domain.trace import Segment
from monitor.domain.verdict import FAITHFULNESS, Label
from monitor.storage.labels import Labelled, Task, Window, add_labels, draw_tasks

app = typer.Typer(no_args_is_help=True, help="Random answers for people to label, and what they say of them.")

_SHOWN_PROBLEMS = 10

Actor = Annotated[str | None, typer.Option(help="By whom; your user name when absent.")]


def register(root: typer.Typer) -> None:
    """Add the `labels` commands."""
    root.add_typer(app, name="labels")


@app.command()
def draw(
    service: Annotated[str, typer.Option(help="Whose answers.")],
    *,
    count: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 100,
    hours: Annotated[float, typer.Option(min=0.1, help="The window: so many hours of event time until now.")] = 24.0,
    tenant: Annotated[str, typer.Option(help="Of this tenant.")] = "default",
    environment: Annotated[str, typer.Option(help="In this environment.")] = "production",
    evaluator: Annotated[str, typer.Option(help="What the label is about.")] = FAITHFULNESS,
    output: Annotated[Path, typer.Option(help="Where to write the answers; `-` is standard output.")] = Path("-"),
    actor: Actor = None,
) -> None:
    """Draw answers at random, and write one JSON object a line for people to fill in `label`.

    The draw is kept, so that `groundwatch rates --trust people` knows how each label came to be. The judges' verdicts
    are left out on purpose: who sees them follows them. `groundwatch labels add` takes the filled-in lines; unlabelled
    ones stay open.
    """
    now = datetime.now(UTC)
    segment = Segment(tenant=tenant, service=service, environment=environment)
    window = Window(segment=segment, evaluator=evaluator, since=now - timedelta(hours=hours), until=now)
    with written(output) as file, ledger() as engine:
        drawn = draw_tasks(engine, window, count=count, actor=actor or getpass.getuser())
        if drawn is None:
            raise InvalidInput(f"{segment} has no judged answers in the last {hours:g} hours")
        for task in drawn.tasks:
            file.write(json.dumps(_as_line(task, window, drawn.draw_id), ensure_ascii=False) + "\n")
    typer.echo(f"drew {len(drawn.tasks):,} of {drawn.eligible:,} answers", err=True)


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="JSON lines with `trace_id` and `label`; `-` is standard input.")],
    *,
    actor: Actor = None,
) -> None:
    """Keep what one person says of answers: all lines or, where one is wrong, none.

    Each line has `trace_id`, `label` (faithful or hallucinated; empty ones are passed over), and may have `tenant`,
    `evaluator` and `note`; all else is passed over, so the lines of `draw` will do. A person's last word on an answer
    counts. Where people differ, most of them count.
    """
    given: list[Labelled] = []
    problems: list[str] = []
    empty = 0
    with opened(file) as lines:
        for number, line in enumerate(read_lines(lines), start=1):
            try:
                said = _Line.model_validate_json(line)
            except ValidationError as error:
                first = error.errors()[0]
                problems.append(f"line {number}: {'.'.join(map(str, first['loc'])) or '$'}: {first['msg']}")
                continue
            if said.label is None or said.label == "":
                empty += 1
                continue
            given.append(
                Labelled(
                    tenant=said.tenant,
                    trace_id=said.trace_id,
                    evaluator=said.evaluator,
                    label=Label(said.label),
                    note=said.note,
                )
            )
    if problems:
        more = len(problems) - _SHOWN_PROBLEMS
        rest = [f"and {more} more"] if more > 0 else []
        raise InvalidInput("\n".join(["nothing was kept:", *problems[:_SHOWN_PROBLEMS], *rest]))
    with ledger() as engine:
        kept = add_labels(engine, given, actor=actor or getpass.getuser())
    typer.echo(f"kept {kept:,} labels" + (f"; {empty:,} lines have none" if empty else ""))


_Empty = Annotated[str, StringConstraints(max_length=0)]
_Name = Annotated[str, StringConstraints(min_length=1, max_length=1000)]


class _Line(BaseModel):
    model_config = ConfigDict(extra="ignore")

    trace_id: _Name
    label: Label | _Empty | None
    tenant: _Name = "default"
    evaluator: _Name = FAITHFULNESS
    note: Annotated[str, StringConstraints(max_length=10_000)] = ""


def _as_line(task: Task, window: Window, draw_id: str) -> dict[str, Any]:
    return {
        "draw_id": draw_id,
        "tenant": window.segment.tenant,
        "trace_id": task.trace_id,
        "evaluator": window.evaluator,
        "label": "",
        "note": "",
        "question": task.question,
        "documents": task.documents,
        "answer": task.answer,
    }
