"""Our own workers as real processes."""

import sys
from collections.abc import Mapping
from itertools import count
from pathlib import Path

from monitor.embedded.processes import Child

_numbers = count()


def worker(name: str, directory: Path, environment: Mapping[str, str], *options: str) -> Child:
    """Start `groundwatch-worker NAME` with a log of its own in `directory`."""
    command = Path(sys.executable).with_name("groundwatch-worker")
    log = directory / f"{name}-{next(_numbers)}.log"
    return Child(name, [str(command), name, *options], log=log, environment=environment)


def command(directory: Path, environment: Mapping[str, str], *arguments: str) -> Child:
    """Start `groundwatch ARGUMENTS`, likewise."""
    program = Path(sys.executable).with_name("groundwatch")
    log = directory / f"{arguments[0]}-{next(_numbers)}.log"
    return Child(arguments[0], [str(program), *arguments], log=log, environment=environment)
