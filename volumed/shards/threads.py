"""Threads for what may wait: for a disk, or for other servers."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

__all__ = ["BoundedThreads"]

_IDLE_S = 10.0
"""A thread that has had nothing to do for so long ends."""

_T = TypeVar("_T")
_Job = tuple["Future[Any]", Callable[[], Any]]


class BoundedThreads:
    """At most ``count`` threads, as many as are needed, with at most ``waiting_max`` jobs before them.

    They do not keep the process alive: on a disk that hangs, one of them may never come back.
    """

    def __init__(self, name: str, count: int, waiting_max: int) -> None:
        self._name = name
        self._count = count
        self._limit = count + waiting_max
        self._jobs: SimpleQueue[_Job] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        self._threads = 0
        self._began_s: dict[int, float] = {}

    def submit(self, work: Callable[[], _T]) -> Future[_T] | None:
        """Do ``work`` on a thread; None when too much is waiting already, or the process may have no thread more. A job
        may be cancelled while it waits."""
        future: Future[_T] = Future()
        with self._lock:
            if self._unfinished >= self._limit or not self._has_thread():
                return None
            self._unfinished += 1
            self._jobs.put((future, work))
        return future

    def _has_thread(self) -> bool:
        """Whether one will come to a new job; under the lock."""
        if self._threads < min(self._count, self._unfinished + 1):
            try:
                threading.Thread(target=self._run, name=self._name, daemon=True).start()
            except RuntimeError:
                return self._threads > 0
            self._threads += 1
        return True

    def is_hung(self, limit_s: float) -> bool:
        """Whether a job has been running for longer than that."""
        oldest = min(list(self._began_s.values()), default=None)
        return oldest is not None and time.monotonic() - oldest > limit_s

    def _run(self) -> None:
        me = threading.get_ident()
        while True:
            try:
                future, work = self._jobs.get(timeout=_IDLE_S)
            except Empty:
                if self._may_end():
                    return
                continue
            if future.set_running_or_notify_cancel():
                self._began_s[me] = time.monotonic()
                _settle(future, work)
                del self._began_s[me]
            with self._lock:
                self._unfinished -= 1
            del future, work

    def _may_end(self) -> bool:
        """Whether nothing has come at the last moment."""
        with self._lock:
            if not self._jobs.empty():
                return False
            self._threads -= 1
            return True


def _settle(future: Future[Any], work: Callable[[], Any]) -> None:
    try:
        result = work()
    except BaseException as error:
        future.set_exception(error)
        # The error knows this call: the two would keep alive what was read until the garbage is collected.
        del future
    else:
        future.set_result(result)
