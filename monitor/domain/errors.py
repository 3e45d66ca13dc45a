"""The error tree: every error that groundwatch raises on purpose.

GroundwatchError
├── BrokenContract          what came from outside breaks its contract
│   ├── InvalidTrace        a trace breaks `rag_trace.v1`
│   └── InvalidFeedback     feedback breaks `feedback.v1`
├── InvalidMessage          a record on a topic cannot be read as what it claims to be
├── InvalidInput            a file given to a command is not what the command reads
├── InvalidSettings         a setting has a value that is not allowed
├── JudgeUnavailable        a judge cannot be used at all (model missing, refused, wrong kind)
├── StreamUnavailable       Kafka cannot be reached, or refused a record
│   └── RecordRefused       Kafka refused this very record: sending it again would not help
├── LedgerUnavailable       Postgres cannot be reached, or is shutting down
├── ClocksDiffer            Postgres and this process disagree on what day it is
├── SpoolFull               the sidecar's disk spool has reached its limit
├── SpoolUnavailable        the sidecar's disk spool is locked, or cannot be read or written
├── ExportUnavailable       an export's directory is in use, another ledger's, or cannot be read or written
└── DeadLetterLimit         too large a share of a topic went to dead letters: the worker stops

A judge that fails on *one* trace raises nothing: it returns `CouldNotJudge` (see `judgement`).
The command line turns each into one clean message and exit code 1; nothing else is caught there.
"""

from monitor.domain.dead_letter import DeadLetterReason


class GroundwatchError(Exception):
    """Something that groundwatch expected could go wrong did."""


class BrokenContract(GroundwatchError):
    """What came from outside breaks its contract.

    Args:
        field: JSON path of the offending field, such as `documents[0].text`.
        problem: what is wrong and what is allowed, in one sentence.
        reason: the kind of wrong, as a dead letter names it.
    """

    def __init__(self, field: str, problem: str, reason: DeadLetterReason = DeadLetterReason.INVALID) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field
        self.problem = problem
        self.reason = reason


class InvalidTrace(BrokenContract):
    """A trace breaks the contract `rag_trace.v1`."""


class InvalidFeedback(BrokenContract):
    """Feedback breaks the contract `feedback.v1`."""


class InvalidMessage(GroundwatchError):
    """A record on one of our own topics cannot be decoded."""


class InvalidInput(GroundwatchError):
    """A file given to a command is not what the command reads."""


class InvalidSettings(GroundwatchError):
    """A setting has a value that is not allowed."""


class JudgeUnavailable(GroundwatchError):
    """A judge cannot be loaded or reached at all."""


class StreamUnavailable(GroundwatchError):
    """Kafka cannot be reached, or refused a record."""


class RecordRefused(StreamUnavailable):
    """Kafka refused a record for its own sake (too large, malformed): sending it again would not help."""


class LedgerUnavailable(GroundwatchError):
    """Postgres cannot be reached, or is shutting down."""


class ClocksDiffer(GroundwatchError):
    """Postgres and this process disagree on what day it is."""


class SpoolFull(GroundwatchError):
    """The sidecar's disk spool has reached its limit."""


class SpoolUnavailable(GroundwatchError):
    """The sidecar's disk spool is locked by another process, or cannot be read or written."""


class ExportUnavailable(GroundwatchError):
    """An export's directory is in use, belongs to another ledger, or cannot be read or written."""


class DeadLetterLimit(GroundwatchError):
    """Too large a share of the records went to dead letters."""
