"""What processes cost."""

from typing import Any

import psutil


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its children since they started."""
    # Of children that have ended, the parent's own account keeps the sum.
    times = [seen for process in _family(pid) if (seen := _times(process)) is not None]
    if not times:
        return 0.0
    ended = times[0].children_user + times[0].children_system
    return float(sum(seen.user + seen.system for seen in times) + ended)


def _times(process: psutil.Process) -> Any:
    try:
        return process.cpu_times()
    except psutil.NoSuchProcess:
        return None  # it ended since it was listed: its parent has its time now


def memory_bytes(pid: int) -> int:
    """Memory of a process and all its children that they would free by ending."""
    # Unique memory: Postgres's processes share their buffers, which would be counted once for each.
    return sum(int(process.memory_full_info().uss) for process in _family(pid))


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
