"""Child processes: started by exec, watched through a pidfd, restarted with growing pauses."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from supervisor.loop import Loop

__all__ = ["GrowingDelay", "Process", "ProcessTable", "describe_exit"]

_log = logging.getLogger(__name__)


class GrowingDelay:
    """Pauses before restarts: at once, then doubling up to a limit; from the start again after a long enough life."""

    def __init__(self, first_s: float, limit_s: float, reset_after_s: float, *, at_once: bool = True) -> None:
        self._first_s = first_s
        self._limit_s = limit_s
        self._reset_after_s = reset_after_s
        self._start_s = 0.0 if at_once else first_s
        self._next_s = self._start_s

    def after(self, lived_s: float) -> float:
        """The pause after a process that lived so long."""
        if lived_s >= self._reset_after_s:
            self._next_s = self._start_s
        delay_s = self._next_s
        self._next_s = min(max(self._first_s, 2 * delay_s), self._limit_s)
        return delay_s

    def reset(self) -> None:
        self._next_s = self._start_s


class Process:
    """One running child."""

    def __init__(self, name: str, child: subprocess.Popen[bytes]) -> None:
        self.name = name
        self.pid = child.pid
        self.pidfd = os.pidfd_open(child.pid)
        self._child = child
        self._started_at_s = time.monotonic()

    @property
    def lived_s(self) -> float:
        return time.monotonic() - self._started_at_s

    def signal(self, number: signal.Signals) -> None:
        """Send a signal; it cannot reach a successor with the same process id, since we have not reaped it."""
        self._child.send_signal(number)

    def reap(self) -> int:
        """Exit status (negative: the signal that ended it). The process has ended."""
        os.close(self.pidfd)
        return self._child.wait()


class ProcessTable:
    """Starts children and tells when they end."""

    def __init__(self, loop: Loop) -> None:
        self._loop = loop
        self._running: dict[int, Process] = {}
        self.on_end: Callable[[], None] | None = None
        """Called after each end of a process was handled."""

    def __len__(self) -> int:
        return len(self._running)

    def pids(self) -> dict[str, int]:
        """Name and process id of all that run."""
        return {process.name: process.pid for process in self._running.values()}

    def spawn(
        self,
        name: str,
        module: str,
        arguments: Sequence[str],
        on_exit: Callable[[Process, int], None],
        fds: dict[str, int] | None = None,
    ) -> Process:
        """Start ``python -m module arguments``. ``fds``: environment variable → file descriptor it inherits."""
        passed = fds or {}
        environment = os.environ | {key: str(fd) for key, fd in passed.items()}
        environment["VOLUMED_PARENT_PID"] = str(os.getpid())
        child = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            env=environment,
            pass_fds=tuple(passed.values()),
            stdin=subprocess.DEVNULL,
            # A terminal's interrupt is for the supervisor, which stops its children in order.
            process_group=0,
        )
        process = Process(name, child)
        self._running[process.pid] = process
        self._loop.add_reader(process.pidfd, lambda: self._ended(process, on_exit))
        _log.info("%s started, pid %d", name, process.pid)
        return process

    def _ended(self, process: Process, on_exit: Callable[[Process, int], None]) -> None:
        self._loop.remove_reader(process.pidfd)
        del self._running[process.pid]
        status = process.reap()
        _log.info("%s ended: %s", process.name, describe_exit(status))
        on_exit(process, status)
        if self.on_end is not None:
            self.on_end()


def describe_exit(status: int) -> str:
    """An exit status in words."""
    if status >= 0:
        return f"exit status {status}"
    return f"killed by {signal.Signals(-status).name}"
