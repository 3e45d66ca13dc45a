"""What processes cost."""

import psutil


def cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its children since they started."""
    # Of children that have ended, the parent's own account keeps the sum.
    times = [process.cpu_times() for process in _family(pid)]
    ended = times[0].children_user + times[0].children_system
    return float(sum(seen.user + seen.system for seen in times) + ended)


def memory_bytes(pid: int) -> int:
    """Memory of a process and all its children that they would free by ending."""
    # Unique memory: Postgres's processes share their buffers, which would be counted once for each.
    return sum(int(process.memory_full_info().uss) for process in _family(pid))


def _family(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]
