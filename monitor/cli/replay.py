"""`groundwatch replay`: judge again what was judged, what could not be judged, and what could not be read."""

import getpass
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Annotated

import typer

from monitor.cli.console import plain_table, wide_console
from monitor.cli.ledger import ledger
from monitor.cli.moments import moment
from monitor.cli.replay_report import print_report, report_as_json
from monitor.config import Settings, load_settings
from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import InvalidInput
from monitor.domain.judgement import Unjudgeable
from monitor.inference.loading import load_cascade
from monitor.services.replay import ReplaySender
from monitor.services.replay_report import report as make_report
from monitor.services.stopping import StopOnSignals
from monitor.storage.engine import LedgerEngine
from monitor.storage.replays import Kind, Replay, ReplayBook, ReplayState, Selection
from monitor.storage.replays_source import extent
from monitor.streaming.producer import Producer
from monitor.streaming.topics import ensure_topics

_HELP = """Judge stored traces again, by another version of the judges, beside the verdicts that there are.

1. Write the new judges' settings to a file, and start a worker with them. It reads rag.replays.v1 only, so that live
traffic waits for no replay: GROUNDWATCH_CONFIG=new.toml groundwatch-worker judge --replays

2. Send what it shall judge: GROUNDWATCH_CONFIG=new.toml groundwatch replay start --since 7d

3. Compare: groundwatch replay report 1

Old verdicts stay as they are; a trace has one verdict of each version. No detector watches replayed verdicts."""

app = typer.Typer(no_args_is_help=True, help=_HELP)

_Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The replay; `groundwatch replay status` lists them.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
_Rate = Annotated[float, typer.Option(min=0.1, max=100_000, help="Records a second, at most.")]
_RATE = 50.0
_LINES_EVERY = 10


def register(root: typer.Typer) -> None:
    """Add the `replay` commands."""
    root.add_typer(app, name="replay")


@app.command()
def start(
    *,
    since: Annotated[
        str | None, typer.Option(help="From this event time on: 2026-03-01T12:00Z, 2026-03-01, or 7d for so long ago.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="Up to this event time, without it; now when absent.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's.")] = None,
    service: Annotated[str | None, typer.Option(help="Only this service's.")] = None,
    environment: Annotated[str | None, typer.Option(help="Only in this environment.")] = None,
    unjudged: Annotated[bool, typer.Option("--unjudged", help="Only what could not be judged.")] = False,
    dead_letters: Annotated[
        bool,
        typer.Option(
            "--dead-letters",
            help="What could not be read, in place of traces: put back on rag.traces.v1 as new records, once "
            "the sender or groundwatch was mended. Times are those of their death.",
        ),
    ] = False,
    reason: Annotated[
        str | None, typer.Option(help="Of --unjudged or --dead-letters, only those with this reason.")
    ] = None,
    judge_version: Annotated[
        str | None,
        typer.Option(
            help="By this version, as the worker's log names it (cascade@…); of this command's settings when absent."
        ),
    ] = None,
    rate: _Rate = _RATE,
    actor: Annotated[str | None, typer.Option(help="By whom; your user name when absent.")] = None,
    as_json: _Json = False,
) -> None:
    """Send a selection to be judged anew, no faster than --rate, until all of it is on its topic.

    What the version has judged already is left out. Ctrl-C, or a kill, stops between two chunks or repeats one:
    `groundwatch replay resume ID` goes on. Dead letters of which only the first 64 KiB are kept cannot be sent, and are
    counted as refused.
    """
    now = datetime.now(UTC)
    selection = Selection(
        kind=_kind(unjudged=unjudged, dead_letters=dead_letters, reason=reason),
        since=moment(since, "--since", now=now),
        until=moment(until, "--until", now=now) or now,
        tenant=tenant,
        service=service,
        environment=environment,
        reason=reason,
    )
    if selection.since is not None and selection.since >= selection.until:
        raise InvalidInput("--since is not before --until: nothing to replay")
    if dead_letters and (tenant or service or environment or judge_version):
        raise InvalidInput("--dead-letters goes without --tenant, --service, --environment and --judge-version")
    settings = load_settings()
    version = None if dead_letters else judge_version or load_cascade(settings).version
    with ledger() as engine:
        replay = ReplayBook(engine).begin(selection, judge_version=version, actor=actor or getpass.getuser())
        by = f", to be judged by {version}" if version else ""
        typer.echo(f"replay {replay.replay_id}{by}", err=True)
        _send(engine, settings, replay, rate=rate, as_json=as_json)


@app.command()
def resume(
    replay_id: _Id,
    *,
    again: Annotated[
        bool,
        typer.Option("--again", help="From the beginning: what the version has not judged by now is sent once more."),
    ] = False,
    rate: _Rate = _RATE,
    as_json: _Json = False,
) -> None:
    """Go on sending a replay where it stopped, was stopped, or was killed."""
    with ledger() as engine:
        replay = ReplayBook(engine).turn(replay_id, ReplayState.SENDING, anew=again)
        if replay.state is ReplayState.SENT:
            typer.echo("all of it was sent; --again sends what is not judged yet", err=True)
        _send(engine, load_settings(), replay, rate=rate, as_json=as_json)


@app.command()
def stop(replay_id: _Id, *, as_json: _Json = False) -> None:
    """Stop sending, wherever the sender runs; what is on the topic will still be judged."""
    with ledger() as engine:
        replay = ReplayBook(engine).turn(replay_id, ReplayState.STOPPED)
    _show([replay], as_json=as_json, one=True)


@app.command()
def status(
    replay_id: Annotated[int | None, typer.Argument(metavar="[ID]", min=1, help="Only this one.")] = None,
    *,
    as_json: _Json = False,
) -> None:
    """List the last replays, or one: who began it, what it selects, and how far sending is."""
    with ledger() as engine:
        book = ReplayBook(engine)
        found = book.newest() if replay_id is None else [book.find(replay_id)]
    _show(found, as_json=as_json, one=replay_id is not None)


@app.command()
def report(
    replay_id: _Id,
    *,
    against: Annotated[
        str | None, typer.Option(help="Compare with this judge version; with each trace's first verdict when absent.")
    ] = None,
    as_json: _Json = False,
) -> None:
    """Compare the versions over a replay's selection: agreement, rates, segments, and the answers that changed most.

    Rates carry 95 % intervals (Wilson). Kappa is Cohen's: 1 is full agreement, 0 what chance would give. Run it at any
    time: what the new version has not judged yet is counted as missing.
    """
    with ledger() as engine:
        replay = ReplayBook(engine).find(replay_id)
        if replay.selection.kind is Kind.DEAD_LETTERS:
            raise InvalidInput(
                f"replay {replay_id} sent dead letters, which had no verdict: {replay.sent:,} sent, {replay.refused:,} "
                "refused because only their first bytes are kept. `groundwatch status` accounts for them"
            )
        made = make_report(engine, replay, against=against)
    if as_json:
        typer.echo(json.dumps(report_as_json(made), ensure_ascii=False, indent=2))
    else:
        print_report(made)


@app.command()
def version() -> None:
    """Print the judge version that these settings make, as `--judge-version` takes it."""
    typer.echo(load_cascade(load_settings()).version)


def _kind(*, unjudged: bool, dead_letters: bool, reason: str | None) -> Kind:
    if unjudged and dead_letters:
        raise InvalidInput("--unjudged and --dead-letters are two replays")
    kind = Kind.UNJUDGED if unjudged else Kind.DEAD_LETTERS if dead_letters else Kind.TRACES
    known: list[str] = []
    if kind is Kind.UNJUDGED:
        known = list(Unjudgeable)
    elif kind is Kind.DEAD_LETTERS:
        known = list(DeadLetterReason)
    if reason is not None and not known:
        raise InvalidInput("--reason goes with --unjudged or --dead-letters")
    if reason is not None and reason not in known:
        raise InvalidInput(f"--reason: {reason!r} is none of {', '.join(known)}")
    return kind


def _send(engine: LedgerEngine, settings: Settings, replay: Replay, *, rate: float, as_json: bool) -> None:
    about = extent(engine, replay.selection)
    ensure_topics(settings.kafka)
    producer = Producer(settings.kafka)
    stopping = StopOnSignals()
    sender = ReplaySender(engine, producer=producer, topics=settings.kafka, rate=rate, stop=stopping)
    try:
        for number, now in enumerate(sender.send(replay)):
            replay = now
            if number % _LINES_EVERY == 0:
                of = f" of about {about:,}" if about is not None else ""
                typer.echo(f"sent {replay.sent:,}{of}", err=True)
    finally:
        producer.close()
        typer.echo(_where(replay), err=True)
    if as_json:
        typer.echo(json.dumps(replay.as_json(), ensure_ascii=False, indent=2))


def _where(replay: Replay) -> str:
    refused = f"; {replay.refused:,} refused: only their first bytes are kept" if replay.refused else ""
    if replay.state is ReplayState.SENT:
        return f"replay {replay.replay_id}: all sent, {replay.sent:,} records{refused}"
    more = f"`groundwatch replay resume {replay.replay_id}` goes on"
    return f"replay {replay.replay_id}: {replay.sent:,} records sent{refused}; {more}"


def _show(replays: Sequence[Replay], *, as_json: bool, one: bool) -> None:
    if as_json:
        values = [replay.as_json() for replay in replays]
        typer.echo(json.dumps(values[0] if one else values, ensure_ascii=False, indent=2))
        return
    table = plain_table(["replay", "state", "judge version", "by", "began", "what"], ["sent", "refused"])
    for replay in replays:
        table.add_row(
            str(replay.replay_id),
            replay.state,
            replay.judge_version or "-",
            replay.actor,
            f"{replay.created_at:%Y-%m-%d %H:%M}",
            ", ".join(_words(replay.selection)),
            f"{replay.sent:,}",
            f"{replay.refused:,}",
        )
    wide_console().print(table)


def _words(selection: Selection) -> Iterator[str]:
    yield selection.kind.value.replace("_", " ")
    for name in ("reason", "tenant", "service", "environment"):
        if value := getattr(selection, name):
            yield f"{name} {value}"
    if selection.since:
        yield f"from {selection.since:%Y-%m-%d %H:%M}"
    yield f"to {selection.until:%Y-%m-%d %H:%M}"
