"""`groundwatch bench peers`: DeepEval's and Ragas' faithfulness metrics beside our judge, on one model server."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from monitor import __version__
from monitor.benchmarks.counting_proxy import CountingProxy, counting_proxy
from monitor.benchmarks.labelled import read_labelled, sample
from monitor.benchmarks.panel import Benched, opened
from monitor.benchmarks.peers import LIBRARIES, Peer, our_answers
from monitor.benchmarks.peers_report import HEADINGS, Contestant, lines, to_json, to_markdown
from monitor.cli.bench_pipeline import machine
from monitor.cli.console import plain_table, wide_console
from monitor.config import Settings, load_settings
from monitor.domain.errors import InvalidInput
from monitor.embedded.model_server import ModelServer, model_server
from monitor.training.rows import Row


def register(bench: typer.Typer) -> None:
    """Add `bench peers`."""
    bench.command(name="peers")(bench_peers)


def bench_peers(
    *,
    sources: Annotated[
        list[Path], typer.Option("--input", "-i", help="Labelled JSONL or Parquet; a file or a folder.")
    ],
    gguf: Annotated[Path, typer.Option(help="GGUF model that the server serves, and our local engine runs.")],
    url: Annotated[
        str | None, typer.Option(help="Base URL of a running server, such as http://host:8000/v1; else one is started.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model's name there; the file's when absent.")] = None,
    rows: Annotated[int, typer.Option(min=2, help="Traces, half of them hallucinated.")] = 10,
    peers: Annotated[list[str] | None, typer.Option("--peer", help="deepeval or ragas; both when absent.")] = None,
    python: Annotated[Path, typer.Option(help="An interpreter that has the libraries.")] = Path(sys.executable),
    prompt: Annotated[str, typer.Option(help="Prompt family of our judge.")] = "entailment",
    deadline: Annotated[float, typer.Option(min=1, help="Seconds for one trace; what is later has no score.")] = 180.0,
    max_tokens: Annotated[int, typer.Option(min=16, help="Longest reply that the libraries may ask for.")] = 1024,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File for all figures, as JSON.")] = None,
    markdown: Annotated[Path | None, typer.Option(help="File for the table, as Markdown.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="All figures as one JSON object on stdout.")] = False,
) -> None:
    """Measure other libraries' faithfulness metrics beside our verdict-first judge: calls, tokens, seconds, no scores.

    Everyone gets the same rows, one after another, and the same model behind the same OpenAI-compatible server. A
    proxy before it counts calls and tokens in the server's own words. Every answer counts, errors included. The
    libraries run in processes of their own with their telemetry switched off; --python names an interpreter that
    has them. Rows without a question are passed over: Ragas refuses them.
    """
    wanted = peers or list(LIBRARIES)
    if unknown := [name for name in wanted if name not in LIBRARIES]:
        raise InvalidInput(f"--peer {unknown[0]!r}: choose from {', '.join(LIBRARIES)}")
    chosen = choose(read_labelled(sources), rows)
    with tempfile.TemporaryDirectory(prefix="groundwatch-peers-") as name:
        directory = Path(name)
        running = ModelServer(url=url, model=model or gguf.stem) if url else None
        serving = nullcontext(running) if running else model_server(gguf, directory=directory)
        with serving as server, counting_proxy(server.url) as proxy:
            contestants = [_ours_by_server(chosen, prompt, server, proxy, deadline)]
            for library in wanted:
                peer = Peer(
                    library=library,
                    python=python,
                    model=server.model,
                    max_tokens=max_tokens,
                    deadline_seconds=deadline,
                    directory=directory,
                )
                contestants.append(_theirs(chosen, peer, proxy))
        # After the server has gone, which would share the cores with it.
        contestants.insert(1, _ours_alone(chosen, prompt, gguf, deadline))
    facts = {
        "server": {"model": gguf.name, "started_here": url is None, "context_tokens": server.context_tokens},
        "limits": {"deadline_seconds": deadline, "max_tokens": max_tokens},
        "machine": machine(),
    }
    _publish(to_json(contestants, facts), output, markdown, as_json=as_json)


def choose(labelled: Sequence[Row], count: int) -> list[Row]:
    """A balanced sample of rows with a question, the data sets in turn.

    Raises:
        InvalidInput: there are too few.
    """
    asked = sample([row for row in labelled if row.question.strip()], per_data_set=None)
    by_label = {label: _in_turn([row for row in asked if row.hallucinated is label]) for label in (False, True)}
    chosen = [row for pair in zip(*by_label.values(), strict=True) for row in pair][:count]
    if len(chosen) < count:
        raise InvalidInput(f"{len(chosen)} rows with a question in a balanced sample; {count} are wanted")
    return chosen


def _in_turn(rows: Sequence[Row]) -> list[Row]:
    place: dict[str, int] = {}
    turns = []
    for row in rows:
        turns.append((place.setdefault(row.file, 0), row.file, row))
        place[row.file] += 1
    return [row for _, _, row in sorted(turns, key=lambda turn: turn[:2])]


def _settings(prompt: str, gguf: Path | None, server: ModelServer | None, url: str, deadline: float) -> Settings:
    loaded = load_settings()
    section = {"prompt": prompt, "deadline_seconds": deadline}
    overrides: dict[str, Any] = {"gguf": loaded.gguf.model_dump() | section | {"path": gguf}}
    if server is not None:
        own = {"url": url, "model": server.model, "concurrency": 1, "max_attempts": 1}
        overrides["pool"] = loaded.pool.model_dump() | section | own
    return load_settings(**overrides)


def _ours_by_server(
    rows: Sequence[Row], prompt: str, server: ModelServer, proxy: CountingProxy, deadline: float
) -> Contestant:
    settings = _settings(prompt, None, server, proxy.url, deadline)
    with opened(Benched.POOL, settings, deadline_seconds=deadline) as judge, _progress("groundwatch", rows) as tick:
        answers = our_answers(rows, judge.ask_now, tick, proxy=proxy)
    return Contestant(name="groundwatch, same server", version=__version__, answers=answers, ours=True)


def _ours_alone(rows: Sequence[Row], prompt: str, gguf: Path, deadline: float) -> Contestant:
    settings = _settings(prompt, gguf, None, "", deadline)
    with opened(Benched.GGUF, settings, deadline_seconds=deadline) as judge, _progress("local engine", rows) as tick:
        answers = our_answers(rows, judge.ask_now, tick, proxy=None)
    return Contestant(name="groundwatch, local engine", version=__version__, answers=answers)


def _theirs(rows: Sequence[Row], peer: Peer, proxy: CountingProxy) -> Contestant:
    with _progress(peer.library, rows) as tick:
        version, answers = peer.answers(rows, proxy, tick)
    return Contestant(name=peer.library, version=version, answers=answers)


@contextmanager
def _progress(title: str, rows: Sequence[Row]) -> Iterator[Callable[[], None]]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(title, total=len(rows))
        yield lambda: progress.advance(task)


def _publish(result: dict[str, Any], output: Path | None, markdown: Path | None, *, as_json: bool) -> None:
    text = json.dumps(result, indent=2)
    if output is not None:
        output.write_text(text + "\n", encoding="utf-8")
    if markdown is not None:
        markdown.write_text(to_markdown(result), encoding="utf-8")
    if as_json:
        typer.echo(text)
        return
    console = wide_console()
    table = plain_table(HEADINGS[:1], HEADINGS[1:])
    for line in lines(result):
        table.add_row(*line)
    console.print(table)
    for remark in to_markdown(result).split("\n\n")[1:]:
        console.print(f"  {remark.strip()}", style="dim", highlight=False)
