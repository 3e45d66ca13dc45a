"""Every trace is accounted for: what was accepted, and what became of it."""

from dataclasses import asdict, dataclass

from sqlalchemy import Connection, Engine, text

from monitor.storage.engine import snapshot


@dataclass(frozen=True, kw_only=True, slots=True)
class Accounting:
    """Records of the traces topic. `accepted = verdicts + unjudged + dead_letters + duplicates + in_flight`, always.

    Attributes:
        accepted: records that lie in the topic, as far as the ledger has been told.
        verdicts: traces with a verdict.
        unjudged: traces that ended as "could not judge".
        dead_letters: records that could not be read as a trace.
        duplicates: records with the id of a trace that was taken in before, or that were put back under another offset.
        in_flight: accepted and not yet at one of these ends.
        pending: those of `in_flight` that wait for the pool alone.
        lost: those of `in_flight` that lie before a record that has arrived, in the same partition. Not zero
            while records overtake one another on their way; once the ledger has caught up, they are lost.
    """

    accepted: int
    verdicts: int
    unjudged: int
    dead_letters: int
    duplicates: int
    in_flight: int
    pending: int
    lost: int

    def as_json(self) -> dict[str, int]:
        """The same, as a JSON value."""
        return asdict(self)


_ACCOUNTING = text(
    "select accepted, verdicts, unjudged, dead_letters, duplicates, in_flight, pending, lost from report.accounting"
)


def accounting(engine: Engine) -> Accounting:
    """The accounting as of now; it reads a few counters, however many traces there are.

    Raises:
        LedgerUnavailable: Postgres is away or not migrated.
    """
    with snapshot(engine) as connection:
        return read_accounting(connection)


def read_accounting(connection: Connection) -> Accounting:
    """The accounting as the caller's transaction sees it."""
    return Accounting(**connection.execute(_ACCOUNTING).one()._asdict())
