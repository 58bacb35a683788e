"""Blocking work of the supervisor: done on threads, its outcome handled on the loop."""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from supervisor.loop import Loop
from volumed.errors import NodeError, VolumedError

__all__ = ["Jobs"]

_log = logging.getLogger(__name__)
_T = TypeVar("_T")


class Jobs:
    """A few threads for calls that wait for masters, workers or files."""

    def __init__(self, loop: Loop, name: str, threads: int) -> None:
        self._loop = loop
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix=name)

    def submit(
        self,
        work: Callable[[], _T],
        done: Callable[[_T], None],
        failed: Callable[[VolumedError], None],
    ) -> None:
        """Run ``work`` on a thread, then ``done`` or ``failed`` on the loop."""

        def finish(future: Future[_T]) -> None:
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
