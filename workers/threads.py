"""Threads for what may wait for the disk."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from queue import SimpleQueue

__all__ = ["JobThreads"]

_log = logging.getLogger(__name__)


class JobThreads:
    """Runs jobs in the order given. A job hands its outcome over by itself and should not raise.

    The threads do not keep the process alive: on a disk that hangs, one of them may never come back.
    """

    def __init__(self, name: str, count: int = 1) -> None:
        self._jobs: SimpleQueue[Callable[[], None]] = SimpleQueue()
        for index in range(count):
            threading.Thread(target=self._run, name=f"{name}-{index}", daemon=True).start()

    def submit(self, job: Callable[[], None]) -> None:
        """Run ``job`` on one of the threads."""
        self._jobs.put(job)

    def _run(self) -> None:
        while True:
            job = self._jobs.get()
            try:
                job()
            except Exception:
                _log.exception("a job failed")
            del job
