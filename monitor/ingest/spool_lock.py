"""Whose a spool's directory is: one process has it at a time, and a killed one has it no longer."""

import fcntl
import os
from pathlib import Path

from monitor.domain.errors import SpoolUnavailable

_NAME = "lock"


def hold(directory: Path) -> int:
    """Make a spool's directory where there is none, and lock it; it is free once the descriptor is closed.

    Raises:
        SpoolUnavailable: another process holds it, or it cannot be written.
    """
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(directory / _NAME, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise SpoolUnavailable(f"spool directory {directory}: {error.strerror}") from error
    return _locked(directory, descriptor)


def hold_to_read(directory: Path) -> int | None:
    """Lock it without writing anything; None where nobody has ever locked it, as in a copy of the spool's file.

    Raises:
        SpoolUnavailable: another process holds it, or it cannot be read.
    """
    try:
        descriptor = os.open(directory / _NAME, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SpoolUnavailable(f"spool directory {directory}: {error.strerror}") from error
    return _locked(directory, descriptor)


def _locked(directory: Path, descriptor: int) -> int:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise SpoolUnavailable(f"spool directory {directory} is in use by another sidecar") from error
    return descriptor
