"""`groundwatch replay`: judge again what was judged, what could not be judged, and what could not be read."""

import getpass
import os
import re
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Annotated

import typer

from monitor.cli.console import printable
from monitor.cli.ledger import ledger
from monitor.cli.moments import moment
from monitor.cli.replay_report import print_report, report_as_json
from monitor.cli.replay_view import replay_line, show_replays
from monitor.cli.safe_json import safe_json
from monitor.config import Settings, load_settings
from monitor.domain.dead_letter import DeadLetterReason
from monitor.domain.errors import InvalidInput, StreamUnavailable
from monitor.domain.judgement import Unjudgeable
from monitor.inference.loading import load_cascade
from monitor.services.replay import ReplaySender
from monitor.services.replay_count import would_send
from monitor.services.replay_report import report as make_report
from monitor.services.replay_waiting import positions
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

3. See how far its judges are: groundwatch replay status

4. Compare: groundwatch replay report 1

Old verdicts stay as they are; a trace has one verdict of each version. No detector watches replayed verdicts."""

app = typer.Typer(no_args_is_help=True, help=_HELP)

_Id = Annotated[int, typer.Argument(metavar="ID", min=1, help="The replay; `groundwatch replay status` lists them.")]
_Json = Annotated[bool, typer.Option("--json", help="One JSON object on stdout.")]
_Rate = Annotated[float, typer.Option(min=0.1, max=100_000, help="Records a second, at most.")]
_RATE = 50.0
_LINES_EVERY = 10
_VERSION = re.compile(r"cascade@[0-9a-f]{12}")


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
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only count what would be sent. Begins no replay, and needs no Kafka.")
    ] = False,
    as_json: _Json = False,
) -> None:
    """Send a selection to be judged anew, no faster than --rate, until all of it is on its topic.

    What the version has judged already is left out. Ctrl-C (exit code 130) and SIGTERM (143) stop between two chunks, a
    kill repeats one: `groundwatch replay resume ID` goes on. While Kafka or Postgres is away, it waits.

    Dead letters are sent once, and only where they can be read by now. Those that still cannot, or of which only the
    first bytes are kept, are counted as refused, and so is what Kafka does not take.
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
    version = None if dead_letters else _version(judge_version) or load_cascade(settings).version
    with ledger() as engine:
        if dry_run:
            counted = would_send(
                engine, selection, judge_version=version, traces_topic=settings.kafka.traces_topic, now=now
            )
            by = f" to be judged by {version}" if version else ""
            refused = f"; {counted.refused:,} would be refused" if counted.refused else ""
            words = f"{counted.sent:,} records would be sent{by}{refused}"
            typer.echo(safe_json({"judge_version": version, **asdict(counted)}) if as_json else words)
            return
        # Before anything is begun: a replay that nobody can send would wait for somebody to resume it.
        ensure_topics(settings.kafka)
        replay = ReplayBook(engine).begin(selection, judge_version=version, actor=actor or _user())
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
    settings = load_settings()
    with ledger() as engine:
        ensure_topics(settings.kafka)
        replay = ReplayBook(engine).turn(replay_id, ReplayState.SENDING, anew=again)
        if replay.state is ReplayState.SENT:
            typer.echo("all of it was sent; --again sends what is not judged yet", err=True)
        _send(engine, settings, replay, rate=rate, as_json=as_json)


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
    """List the last replays, or one: who began it, what it selects, how far sending is, and how far its judges are.

    `waiting` is what its judge version has still to read: all that was sent, where no worker of that version runs
    (`groundwatch-worker judge --replays`, with its settings). One that is `sending` and has not come on for minutes
    was killed: `groundwatch replay resume ID`.
    """
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
                "refused. `groundwatch status` accounts for them"
            )
        made = make_report(engine, replay, against=against)
    if as_json:
        typer.echo(safe_json(report_as_json(made)))
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


def _version(named: str | None) -> str | None:
    if named is None or _VERSION.fullmatch(named):
        return named
    raise InvalidInput(
        f"--judge-version: {named!r} is none: cascade@ and twelve hexadecimal digits, as `groundwatch replay version` "
        "prints it and the worker's log names it"
    )


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user that it knows no name of
        return f"uid {os.getuid()}"


def _say(words: str) -> None:
    typer.echo(printable(words), err=True)


def _send(engine: LedgerEngine, settings: Settings, replay: Replay, *, rate: float, as_json: bool) -> None:
    stopping = StopOnSignals()
    about = extent(engine, replay.selection)
    producer = Producer(settings.kafka)
    sender = ReplaySender(engine, producer=producer, topics=settings.kafka, rate=rate, stop=stopping, say=_say)
    told = replay.sent
    try:
        for number, now in enumerate(sender.send(replay)):
            replay = now
            if number % _LINES_EVERY == 0 and replay.sent > told:
                told = replay.sent
                of = f" of about {about:,}" if about is not None else ""
                _say(f"sent {replay.sent:,}{of}")
    finally:
        producer.close()
        _say(replay_line(replay))
    if as_json:
        typer.echo(safe_json(replay.as_json()))
    if replay.state is not ReplayState.SENT and stopping.exit_code:
        raise typer.Exit(stopping.exit_code)


def _show(replays: Sequence[Replay], *, as_json: bool, one: bool) -> None:
    try:
        stands = positions(load_settings().kafka, replays)
    except StreamUnavailable as error:
        stands = None
        _say(f"how many wait for their judges is not known: {error}")
    show_replays(replays, stands, as_json=as_json, one=one)
