"""Processor time of a tree of processes, to the nanosecond while they live."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from pathlib import Path

__all__ = ["CpuMeter"]

CPUCLOCK_SCHED = 2
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")


class CpuMeter:
    """User and system time that a server's processes, with all their threads, use from now on.

    A process that starts later counts in full; one that ends meanwhile too, if its parent has waited for it and lives.
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
            times[pid] = time.clock_gettime(_process_clock(pid)) + _of_ended_children(pid)
        except OSError:
            continue  # it has ended
    return times


def _of_ended_children(pid: int) -> float:
    # Behind the name, which may contain anything: proc_pid_stat(5), fields 16 and 17.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[13]) + int(fields[14])) / _TICKS_PER_S


def _process_clock(pid: int) -> int:
    """The kernel's clock id of another process (clock_getcpuclockid(3))."""
    return (~pid << 3) | CPUCLOCK_SCHED
