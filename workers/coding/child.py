"""The coding process: ``python -m workers.coding.child <title>``, started by a worker, talks over its standard input, a
socket.

It reads and writes files that the worker has opened, and knows of nothing else: what the files are called, and when
they are complete, is the worker's business. It can be killed at any time, and ends with the worker.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys

from volumed.erasure.coding import CoderHere
from volumed.erasure.columns import Progress
from volumed.processes import be_first_to_go, die_with_parent, set_title
from volumed.storage.fileio import FileIO
from workers.coding.messages import Advance, Done, Failed, TaskSent, receive_task, send

__all__ = ["main"]


def main(title: str, files: FileIO) -> None:
    """Carry tasks out until the socket is closed."""
    die_with_parent()
    set_title(title)
    # A service manager or a terminal may send them to all processes; the worker decides when an operation ends.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    be_first_to_go()
    with (
        socket.socket(fileno=os.dup(0)) as channel,
        channel.makefile("rb") as requests,
        channel.makefile("wb") as replies,
    ):
        while (sent := receive_task(channel, requests)) is not None:
            send(replies, _carry_out(sent, files, replies))


def _carry_out(sent: TaskSent, files: FileIO, replies: io.BufferedIOBase) -> Done | Failed:
    progress = Progress(lambda done, total: send(replies, Advance(done, total)))
    try:
        return Done(CoderHere(files).run(sent.task, sent.opened, progress))
    except OSError as error:
        return Failed(error)


if __name__ == "__main__":
    main(sys.argv[1], FileIO())
