"""What a worker and its coding process tell each other over a socket: a task with its open files, then how far it is,
then its result or what went wrong.

Pickled: both ends are this program, and nobody else can get at the socket.
"""

from __future__ import annotations

import io
import pickle
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from volumed.erasure.coding import CodingTask
from volumed.storage.fileio import File

__all__ = ["Advance", "Done", "Failed", "TaskSent", "receive", "receive_task", "send", "send_task"]

_FILES_MAX = 64
"""Of a task: a volume, its index, and all the shards that it can have."""
_MARK = b"t"


class TaskSent(NamedTuple):
    """A task as it was sent."""

    task: CodingTask[Any]
    opened: list[File]


class Advance(NamedTuple):
    """So many bytes are done, of those known to be so far."""

    done_bytes: int
    total_bytes: int


class Done(NamedTuple):
    """The task is complete."""

    result: Any


class Failed(NamedTuple):
    """The disk has refused something."""

    error: OSError


def send_task(channel: socket.socket, stream: io.BufferedIOBase, task: CodingTask[Any], opened: Sequence[File]) -> None:
    """Send it over ``channel``, of which ``stream`` is the other face. Raises `OSError`."""
    socket.send_fds(channel, [_MARK], [file.fd for file in opened])
    send(stream, (task, [(file.path, file.writable) for file in opened]))


def receive_task(channel: socket.socket, stream: io.BufferedIOBase) -> TaskSent | None:
    """None: there are no more. The files are open in this process too."""
    mark, descriptors, _, _ = socket.recv_fds(channel, len(_MARK), _FILES_MAX)
    if not mark:
        return None
    task, files = pickle.load(stream)
    pairs = zip(files, descriptors, strict=True)
    return TaskSent(task, [File(path, descriptor, writable=writable) for (path, writable), descriptor in pairs])


def send(stream: io.BufferedIOBase, message: object) -> None:
    """Raises `OSError`."""
    pickle.dump(message, stream, pickle.HIGHEST_PROTOCOL)
    stream.flush()


def receive(stream: io.BufferedIOBase) -> Advance | Done | Failed | None:
    """None: the other side has ended."""
    try:
        message: Advance | Done | Failed = pickle.load(stream)
    except (EOFError, pickle.UnpicklingError, ConnectionError):
        return None
    return message
