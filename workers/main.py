"""`groundwatch-worker NAME`: one process of the pipeline."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Sequence
from importlib import import_module
from typing import NoReturn

from monitor.config import TelemetrySettings, load_settings
from monitor.domain.errors import DeadLetterLimit, GroundwatchError
from monitor.streaming.logs import DriverRepeats

WORKERS = {
    "judge": "judges traces: rag.traces.v1 to rag.judgements.v1 and rag.dead-letters.v1; needs Kafka only",
    "ledger": "writes judgements and dead letters into Postgres, each exactly once; needs Kafka and Postgres",
    "pool": "asks the 70B pool about escalated traces; needs Postgres and the pool",
    "drift": "watches each segment's rate and raises alerts; needs Postgres",
    "alerts": "delivers alerts to webhooks and rag.alerts.v1; needs Postgres and Kafka",
}

OK = 0
FAILED = 1
DEAD_LETTER_LIMIT = 3

_EPILOG = """\
Every worker runs until SIGTERM or SIGINT, finishes what it has in hand, and leaves the rest where it is. A worker
that is killed loses nothing: start it again. Run as many judge workers as there are partitions, and as many of the
others as you like.

Settings come from GROUNDWATCH_<SECTION>__<NAME> and groundwatch.toml; `groundwatch settings` lists them.

exit codes:
  0  stopped as asked
  1  failed, with a message; starting it again may help
  2  wrong usage
  3  the judge worker met too many dead letters and stopped before draining the topic: starting it again
     without a look at the dead letters only moves more of them
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one worker and exit with its code."""
    parser = _parser()
    given = parser.parse_args(arguments)
    name = given.name
    if given.replays and name != "judge":
        parser.error("--replays goes with judge")
    # Until the worker handles it in its own way: loading a model may take a while.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(OK))
    try:
        settings = load_settings()
        _set_up_logging(settings.telemetry)
        # Imported by name: a judge at an edge site installs no database driver, the ledger no model runtime.
        options = {"replays": True} if given.replays else {}
        code: int = import_module(f"workers.{name}").run(settings, **options)
    except DeadLetterLimit as error:
        code = _say(name, error, DEAD_LETTER_LIMIT)
    except GroundwatchError as error:
        code = _say(name, error, FAILED)
    except KeyboardInterrupt:
        code = OK
    _leave(code)


def _leave(code: int) -> NoReturn:
    # A driver's thread that waits for a broker that is away must not keep the process: nothing is left to save.
    if any(thread is not threading.main_thread() and not thread.daemon for thread in threading.enumerate()):
        logging.shutdown()
        os._exit(code)
    sys.exit(code)


def _say(name: str, error: GroundwatchError, code: int) -> int:
    sys.stderr.write(f"groundwatch-worker {name}: {error}\n")
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="groundwatch-worker",
        description="Run one process of the pipeline.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--replays",
        action="store_true",
        help="judge: work on rag.replays.v1 instead, what `groundwatch replay` sends, and leave live traffic alone",
    )
    names = "\n".join(f"{name:<7} {what}" for name, what in WORKERS.items())
    parser.add_argument("name", metavar="NAME", choices=WORKERS, help="which one, see below")
    parser.epilog = f"workers:\n{_indented(names)}\n\n{_EPILOG}"
    return parser


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _set_up_logging(settings: TelemetrySettings) -> None:
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line("%(asctime)s %(levelname)s %(name)s %(message)s"))
    handler.addFilter(DriverRepeats())
    logging.basicConfig(level=settings.log_level, handlers=[handler])
    for driver in ("aiokafka", "faust", "httpx", "kafka", "mode"):
        logging.getLogger(driver).setLevel(max(logging.WARNING, logging.getLogger().level))


class _Line(logging.Formatter):
    """One line a message, with what it carries in `extra` behind it as `name=value`."""

    _STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

    def format(self, record: logging.LogRecord) -> str:
        extra = {name: value for name, value in vars(record).items() if name not in self._STANDARD}
        return super().format(record) + "".join(f" {name}={value}" for name, value in extra.items())


if __name__ == "__main__":
    main()
