"""`groundwatch trace`: everything that happened to one trace, in order of time."""

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from monitor.cli.console import wide_console
from monitor.cli.ledger import ledger
from monitor.cli.safe_json import safe_json
from monitor.cli.trace_view import print_lineage
from monitor.domain.errors import InvalidInput
from monitor.storage.engine import LedgerEngine
from monitor.storage.lineage import Happening, Step, TraceKey, find_traces, in_order
from monitor.storage.lineage_letters import find_dead_letters
from monitor.storage.lineage_steps import read_lineage


def register(app: typer.Typer) -> None:
    """Add `trace`."""
    app.command(name="trace")(trace)


def trace(
    trace_id: Annotated[str, typer.Argument(metavar="ID", help="The trace's own id, or OpenTelemetry's.")],
    *,
    tenant: Annotated[str | None, typer.Option(help="Whose trace; needed where several tenants have one.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line and step, texts in full.")] = False,
) -> None:
    """Tell what happened to one trace, in order of time, and how its verdict stands.

    Where its record lay, what each judge said of it at what price, what the policy decided, how it waited for the pool
    and what came of that, alerts whose time it falls in, labels, feedback, and the verdicts of other judge versions. An
    OpenTelemetry trace may hold several answers: all are told. docs/lineage.md lists the steps.
    """
    for name, given in (("ID", trace_id), ("--tenant", tenant or "")):
        if not given.isascii() and any("\ud800" <= char <= "\udfff" for char in given):
            raise InvalidInput(f"{name}: {given!r} is no UTF-8")
    with ledger() as engine:
        keys = find_traces(engine, trace_id, tenant=tenant)
        _hold_one_tenant(trace_id, keys)
        found: list[tuple[TraceKey | None, list[Step]]] = [(key, read_lineage(engine, key)) for key in keys]
        if not found:
            found = [(None, _unread(engine, trace_id, tenant))]
    if as_json:
        for key, steps in found:
            for step in steps:
                typer.echo(safe_json(_as_line(key, step)))
        return
    console = wide_console()
    for key, steps in found:
        print_lineage(console, key, steps)


def _hold_one_tenant(trace_id: str, keys: Sequence[TraceKey]) -> None:
    tenants = sorted({key.tenant for key in keys})
    if len(tenants) > 1:
        listed = ", ".join(map(repr, tenants))
        raise InvalidInput(f"{trace_id!r} is a trace of several tenants: {listed}; say whose with --tenant")


def _unread(engine: LedgerEngine, trace_id: str, tenant: str | None) -> list[Step]:
    """Dead letters with this id, which nobody could read as a trace.

    Raises:
        InvalidInput: there is none either.
    """
    found = in_order(find_dead_letters(engine, trace_id, tenant=tenant))
    if not any(step.happening is Happening.DEAD_LETTER for step in found):
        whose = "no tenant has a" if tenant is None else f"tenant {tenant!r} has no"
        unsure = "; dead letters are many, and were not all searched" if found else ""
        raise InvalidInput(
            f"{whose} trace {trace_id!r}: it may not have arrived yet (groundwatch status), have been left out by"
            f" sampling, or be kept no longer{unsure}"
        )
    return found


def _as_line(key: TraceKey | None, step: Step) -> dict[str, Any]:
    return {
        "tenant": key.tenant if key else None,
        "trace_id": key.trace_id if key else None,
        "at": step.at,
        "step": step.happening.value,
        "evaluator": step.evaluator,
        "judge_version": step.judge_version,
        "event_time": step.event_time,
        **step.facts,
    }
