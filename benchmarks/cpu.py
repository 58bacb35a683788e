"""Processor time of a tree of processes, to the nanosecond."""

from __future__ import annotations

import time
from collections.abc import Iterable

__all__ = ["CpuMeter"]

CPUCLOCK_SCHED = 2


class CpuMeter:
    """User and system time that a server's processes, with all their threads, use from now on.

    A process that starts later counts in full; one that ends meanwhile is left out (a server under load starts and
    ends none).
    """

    def __init__(self, pids: Iterable[int]) -> None:
        self._before = _times(pids)

    def seconds(self, pids: Iterable[int]) -> float:
        """Seconds of processor time since the meter was made, over ``pids`` (the processes that live now)."""
        return sum(spent - self._before.get(pid, 0.0) for pid, spent in _times(pids).items())


def _times(pids: Iterable[int]) -> dict[int, float]:
    times = {}
    for pid in pids:
        try:
            times[pid] = time.clock_gettime(_process_clock(pid))
        except OSError:
            continue  # it has ended
    return times


def _process_clock(pid: int) -> int:
    """The kernel's clock id of another process (clock_getcpuclockid(3))."""
    return (~pid << 3) | CPUCLOCK_SCHED
