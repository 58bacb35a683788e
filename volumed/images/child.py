"""The image process: ``python -m volumed.images.child``, started by a front, talks over its standard input, a socket.

It holds nothing that anybody would miss: the front kills it when an image takes too long, and starts another one.
It ends with the front, or when the front closes the socket.
"""

from __future__ import annotations

import math
import os
import resource
import signal
import socket
from typing import BinaryIO

from volumed.images.job import REPLY_HEAD, REQUEST_HEAD, decode_job
from volumed.images.transform import transform
from volumed.processes import be_first_to_go, die_with_parent, set_title

__all__ = ["CPU_LIMIT_S", "MEMORY_BYTES_MAX", "main"]

CPU_LIMIT_S = 10
"""Of one image; the kernel ends the process then."""
MEMORY_BYTES_MAX = 2 << 30
"""Address space. Decoding fails beyond it."""
_NICENESS = 5
"""Small requests go first."""


def main() -> None:
    """Answer until the socket is closed."""
    die_with_parent()
    set_title("volumed: images")
    # A service manager may send it to all processes; the front still finishes its requests.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    _limit()
    with (
        socket.socket(fileno=os.dup(0)) as channel,
        channel.makefile("rb") as requests,
        channel.makefile("wb") as replies,
    ):
        while _serve_one(requests, replies):
            pass


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(_NICENESS)
    be_first_to_go()


def _serve_one(requests: BinaryIO, replies: BinaryIO) -> bool:
    head = requests.read(REQUEST_HEAD.size)
    if len(head) < REQUEST_HEAD.size:
        return False
    job_length, data_length = REQUEST_HEAD.unpack(head)
    job = decode_job(requests.read(job_length))
    data = requests.read(data_length)
    _limit_cpu()
    image = transform(data, job)
    replies.write(REPLY_HEAD.pack(image is not None, len(image or b"")))
    replies.write(image or b"")
    replies.flush()
    return True


def _limit_cpu() -> None:
    """The limit counts from the start of the process."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft = math.ceil(used.ru_utime + used.ru_stime) + CPU_LIMIT_S
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (soft, hard))


if __name__ == "__main__":
    main()
