"""What every child process does first: die with its parent, say in ``ps`` what it is, and take its place among the
others."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
from pathlib import Path

__all__ = ["be_first_to_go", "die_with_parent", "set_title", "use_batch_scheduling"]

_PR_SET_PDEATHSIG = 1


def die_with_parent() -> None:
    """Have the kernel kill this process when its parent ends, so that ``kill -9`` of the supervisor leaves no
    orphan that holds a port, a lock or a file. Exits at once when the parent is already gone."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    parent = os.environ.get("VOLUMED_PARENT_PID")
    if parent is not None and os.getppid() != int(parent):
        raise SystemExit(0)


def set_title(title: str) -> None:
    """Name the process for ``ps`` and ``top``."""
    from setproctitle import setproctitle

    setproctitle(title)


def be_first_to_go() -> None:
    """When memory runs out this process goes first, not a disk's worker."""
    with contextlib.suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")


def use_batch_scheduling() -> None:
    """Ask for ``SCHED_BATCH``: no wake-up preemption, so batches on the bus grow (measured: half the CPU of a
    write at 64 clients). Must run before the ZeroMQ context exists, whose I/O threads inherit it.
    ``VOLUMED_SCHED_BATCH=0`` switches it off."""
    if os.environ.get("VOLUMED_SCHED_BATCH") != "0":
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
