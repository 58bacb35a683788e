"""Blocking work of the supervisor: done on threads, its outcome handled on the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from supervisor.loop import Loop
from volumed.errors import NodeError, RetryError, VolumedError

__all__ = ["Jobs"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
_UNFINISHED_MAX = 5000


class Jobs:
    """A few threads for calls that wait for masters, workers or files. What waits for different ones has threads of its
    own, so that nothing waits for who is silent but who asks just him."""

    def __init__(self, loop: Loop, name: str, threads: int) -> None:
        self._loop = loop
        self._name = name
        self._unfinished = 0
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def submit(
        self,
        work: Callable[[], _T],
        done: Callable[[_T], None],
        failed: Callable[[VolumedError], None],
    ) -> None:
        """Run ``work`` on a thread, then ``done`` or ``failed`` on the loop. Called on the loop."""
        if self._unfinished >= _UNFINISHED_MAX:
            self._loop.post(lambda: failed(RetryError(f"too many jobs wait: {self._name}")))
            return
        self._unfinished += 1

        def finish(future: Future[_T]) -> None:
            self._unfinished -= 1
            error = future.exception()
            if error is None:
                done(future.result())
            elif isinstance(error, VolumedError):
                failed(error)
            else:
                _log.error("a job failed", exc_info=error)
                failed(NodeError(str(error)))

        future = self._pool.submit(work)
        future.add_done_callback(lambda ended: self._loop.post(lambda: finish(ended)))

    def close(self) -> None:
        """Start nothing more; what hangs is left to the end of the process."""
        self._pool.shutdown(wait=False, cancel_futures=True)
