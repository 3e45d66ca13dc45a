"""`groundwatch evaluate`: evaluators beyond faithfulness over a file, by the pool's model or a local GGUF file."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import Annotated, Any

import typer

from monitor.cli.console import lines_with_progress, plain_table, wide_console
from monitor.cli.evaluate_rows import DeadRow, read_asked, result_of
from monitor.cli.evaluate_summary import EvaluationTally
from monitor.cli.records import opened, read_lines, written
from monitor.config import Settings, load_settings
from monitor.domain.errors import InvalidInput, InvalidSettings
from monitor.domain.generation import Generator
from monitor.inference.generation import HttpGenerator
from monitor.inference.loading import load_generator
from monitor.judging.evaluators import Evaluator
from monitor.outbound import AsyncHttpClient
from monitor.services.evaluating import Asked, declared_evaluators, evaluate_all


def register(app: typer.Typer) -> None:
    """Add `evaluate`."""
    app.command()(evaluate)


def evaluate(
    *,
    source: Annotated[
        Path | None, typer.Option("--input", "-i", help="JSONL: labelled rows or rag_trace.v1; `-` is standard input.")
    ] = None,
    target: Annotated[
        Path, typer.Option("--output", "-o", help="JSONL, a line for each row and evaluator; `-` is standard output.")
    ] = Path("-"),
    names: Annotated[
        list[str] | None,
        typer.Option("--evaluator", "-e", help="Who evaluates; may be repeated. By evaluators.rules when absent."),
    ] = None,
    gguf: Annotated[
        Path | None, typer.Option(help="GGUF model that evaluates here; the pool does when absent.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the evaluators, and leave.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary (or the list) as JSON on stdout.")] = False,
) -> None:
    """Score every row of a file by declared evaluators: predicates, rubrics, pairs. See docs/evaluators.md.

    The model is the pool's (pool.url, pool.model), or the GGUF file that is named. A row may carry `reference`, for
    rubrics that use a reference answer, and `answer_b`, for pairwise evaluators. Each output line has `id`,
    `evaluator`, `evaluator_version`, `model` and `outcome`: scored, with `score` on the evaluator's own scale,
    `normalised` from 0 to 1 and the `justification`; could_not_judge, or dead_letter for a row that lacks what it
    needs, with `reason` and `detail`.
    """
    settings = load_settings()
    declared = declared_evaluators(settings.evaluators)
    if listing:
        _list(declared, as_json=as_json)
        return
    if source is None:
        raise typer.BadParameter("is needed", param_hint="--input")
    if as_json and str(target) == "-":
        raise typer.BadParameter("--json needs --output: both would write to standard output", param_hint="--json")
    if str(source) != "-" and source.resolve() == target.resolve():
        raise typer.BadParameter("is the input file", param_hint="--output")
    chosen = _chosen(declared, names, settings)
    tally = EvaluationTally()
    began = time.monotonic()
    with opened(source) as lines, written(target) as out:
        size = source.stat().st_size if source.is_file() else None
        arriving = lines_with_progress(read_lines(lines), size, "evaluating")

        def tell(result: dict[str, Any]) -> None:
            tally.add(result)
            # ASCII: an id may hold half a surrogate pair, which no file can.
            out.write(json.dumps(result) + "\n")

        rows = read_asked(arriving, declared, chosen, settings.evaluators)
        asyncio.run(_evaluate(_with_gguf(settings, gguf), rows, tell, local=gguf is not None))
    summary = tally.summary(time.monotonic() - began)
    if as_json:
        typer.echo(json.dumps(summary))
    for line in tally.lines(summary):
        typer.echo(line, err=True)


def _chosen(declared: Mapping[str, Evaluator], names: list[str] | None, settings: Settings) -> list[str] | None:
    """The evaluators that were named; None to go by the rules."""
    if not names:
        if not settings.evaluators.rules:
            raise InvalidSettings("name evaluators with --evaluator, or set evaluators.rules")
        return None
    for name in names:
        if name not in declared:
            raise InvalidInput(f"--evaluator {name}: not declared; there are {', '.join(declared)}")
    return list(dict.fromkeys(names))


def _with_gguf(settings: Settings, path: Path | None) -> Settings:
    if path is None:
        return settings
    return settings.model_copy(update={"gguf": settings.gguf.model_copy(update={"path": path})})


async def _evaluate(
    settings: Settings, rows: Iterator[Asked | DeadRow], tell: Callable[[dict[str, Any]], None], *, local: bool
) -> None:
    def askable() -> Iterator[Asked]:
        for row in rows:
            if isinstance(row, DeadRow):
                tell(row.result())
            else:
                yield row

    async with _generator(settings, local=local) as (generator, at_once):
        answered = evaluate_all(
            askable(), generator, at_once=at_once, deadline_seconds=settings.evaluators.deadline_seconds
        )
        async for asked, said in answered:
            tell(result_of(asked, said, model=generator.model))


@asynccontextmanager
async def _generator(settings: Settings, *, local: bool) -> AsyncIterator[tuple[Generator, int]]:
    """Who writes, and how many prompts it may be given at once."""
    if local:
        writer = load_generator(settings)
        assert writer is not None, "the path was just set"
        with closing(writer):
            yield writer, 1
        return
    pool = settings.pool
    async with AsyncHttpClient(deadline_seconds=pool.deadline_seconds) as client:
        yield HttpGenerator(pool, client), pool.concurrency * (1 + len(pool.urls))


def _list(declared: Mapping[str, Evaluator], *, as_json: bool) -> None:
    if as_json:
        rows = [
            {"name": each.name, "kind": each.kind.value, "version": each.version, "description": each.description}
            for each in declared.values()
        ]
        typer.echo(json.dumps(rows, indent=2))
        return
    table = plain_table(("evaluator", "kind", "version", "what it says"), ())
    for each in declared.values():
        table.add_row(each.name, each.kind.value, each.version.partition("@")[2], each.description)
    wide_console().print(table)
