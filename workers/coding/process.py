"""A worker's coding process: one per operation, killed when the operation is told to stop."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Self, TypeVar

from volumed.erasure.coding import CodingTask
from volumed.erasure.columns import Progress
from volumed.errors import NodeError
from volumed.helpers import start_helper
from volumed.storage.fileio import File, FileIO
from workers.coding.messages import Advance, Done, Failed, receive, send_task

__all__ = ["COMMAND", "CodingProcess"]

T = TypeVar("T")

COMMAND: Sequence[str] = (sys.executable, "-m", "workers.coding.child")


class CodingProcess:
    """A `Coder`. Used by one thread, which waits; as a context manager it ends the process, whatever happens.

    The process is killed when ``progress`` is told to stop.
    """

    def __init__(self, title: str, progress: Progress, files: FileIO) -> None:
        """``title`` is for ``ps``; ``files`` is told what the disk refused. Raises `OSError`."""
        self._files = files
        self._process, self._channel = start_helper([*COMMAND, title])
        # Whoever else wants a processor gets it at once. Said from here, it holds for the start of the process too:
        # clients would feel that. Where it is not allowed, it computes as it is.
        with suppress(OSError):
            os.sched_setscheduler(self._process.pid, os.SCHED_IDLE, os.sched_param(0))
        self._stream = self._channel.makefile("rwb")
        progress.when_stopped(self._process.kill)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        # What the process did not live to take is still to be written.
        with suppress(ConnectionError):
            self._stream.close()
        self._channel.close()

    def run(self, task: CodingTask[T], opened: Sequence[File], progress: Progress) -> T:
        """See `Coder`."""
        # A process that has ended shows when it is listened to.
        with suppress(ConnectionError):
            send_task(self._channel, self._stream, task, opened)
        outcome = self._follow(progress)
        progress.require_running()
        if outcome is None:
            raise NodeError(f"the coding process has ended with status {self._process.wait()}")
        if isinstance(outcome, Failed):
            self._files.note(outcome.error)
            raise outcome.error
        result: T = outcome.result
        return result

    def _follow(self, progress: Progress) -> Done | Failed | None:
        """What the task has come to; None: the process has ended."""
        told = Advance(0, 0)
        while isinstance(message := receive(self._stream), Advance):
            progress.expect(message.total_bytes - told.total_bytes)
            progress.advance(message.done_bytes - told.done_bytes)
            told = message
        return message
