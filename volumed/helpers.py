"""Processes that a front or a worker has something done by, and may kill at any time."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Sequence

__all__ = ["start_helper"]


def start_helper(command: Sequence[str]) -> tuple[subprocess.Popen[bytes], socket.socket]:
    """Start a process that talks over its standard input, a socket; the other end is returned too. Raises `OSError`.

    The process is killed when the thread that started it ends.
    """
    ours, theirs = socket.socketpair()
    with theirs:
        try:
            process = subprocess.Popen(
                command,
                stdin=theirs.fileno(),
                env=os.environ | {"VOLUMED_PARENT_PID": str(os.getpid())},
                process_group=0,
            )
        except OSError:
            ours.close()
            raise
    return process, ours
