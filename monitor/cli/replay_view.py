"""How replays look."""

from collections.abc import Iterator, Sequence

import typer
from rich.text import Text

from monitor.cli.console import plain_table, printable, wide_console
from monitor.cli.safe_json import safe_json
from monitor.services.replay_waiting import Positions
from monitor.storage.replays import Replay, ReplayState, Selection


def show_replays(replays: Sequence[Replay], stands: Positions | None, *, as_json: bool, one: bool) -> None:
    """Replays on standard output, as a table or as JSON: a list, or the `one`.

    Args:
        replays: which.
        stands: how far their judges are; None where Kafka did not tell.
        as_json: JSON instead of a table.
        one: there is one, and it was asked for.
    """
    waiting = [None if stands is None else stands.waiting(replay) for replay in replays]
    if as_json:
        found = [{**replay.as_json(), "waiting": left} for replay, left in zip(replays, waiting, strict=True)]
        typer.echo(safe_json(found[0] if one else found))
        return
    words = ["replay", "state", "judge version", "by", "began", "came on", "what"]
    table = plain_table(words, ["sent", "waiting", "refused"])
    for replay, left in zip(replays, waiting, strict=True):
        cells = [
            str(replay.replay_id),
            replay.state,
            replay.judge_version or "-",
            replay.actor,
            f"{replay.created_at:%Y-%m-%d %H:%M}",
            f"{replay.updated_at:%Y-%m-%d %H:%M:%S}",
            ", ".join(_words(replay.selection)),
            f"{replay.sent:,}",
            "-" if left is None else f"{left:,}",
            f"{replay.refused:,}",
        ]
        # People choose these words, and a terminal, or rich, would obey some of them.
        table.add_row(*[Text(printable(cell)) for cell in cells])
    wide_console().print(table)


def replay_line(replay: Replay) -> str:
    """Where sending stands, for the log of whoever sends."""
    refused = f"; {replay.refused:,} refused" if replay.refused else ""
    if replay.state is ReplayState.SENT:
        return f"replay {replay.replay_id}: all sent, {replay.sent:,} records{refused}"
    more = f"`groundwatch replay resume {replay.replay_id}` goes on"
    return f"replay {replay.replay_id}: {replay.sent:,} records sent{refused}; {more}"


def _words(selection: Selection) -> Iterator[str]:
    yield selection.kind.value.replace("_", " ")
    for name in ("reason", "tenant", "service", "environment"):
        if value := getattr(selection, name):
            yield f"{name} {value}"
    if selection.since:
        yield f"from {selection.since:%Y-%m-%d %H:%M}"
    yield f"to {selection.until:%Y-%m-%d %H:%M}"
