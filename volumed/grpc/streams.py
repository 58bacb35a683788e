"""Calls that last: streams, and calls that wait for other servers (docs/spec/grpc.md 7.1, rule P14).

The library keeps a thread busy as long as a call lasts. With a pool, a few endless streams, or a few calls that wait
for a disk that hangs, would keep everybody else waiting; so each call has a thread of its own, that ends with it.

A handler of a stream is a generator. It is advanced only when the client has taken what came before (back-pressure is
the library's), and closed when the client is gone, so its ``finally`` is the place to clean up. While it waits for
something else it must watch its `Call`::

    def volume_tail_sender(self, request, call):
        while not call.ended:
            yield ...
            call.wait(2.0)
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import Any

import grpc

from volumed.codes import Code
from volumed.errors import VolumedError

__all__ = ["CALLS_MAX", "Call", "CallThreads"]

CALLS_MAX = 2048
"""Calls at once, from all clients; more are refused with RESOURCE_EXHAUSTED."""

_POLL_SHARE = 0.05
_POLL_MIN_S = 0.005
_POLL_MAX_S = 0.25


class Call:
    """What a handler may know of its call: whether anybody still waits for the answer."""

    def __init__(self, context: grpc.ServicerContext) -> None:
        self._context = context
        self._ended = threading.Event()
        self._began = time.monotonic()
        self.when_ended(self._ended.set)

    @property
    def ended(self) -> bool:
        """The client has cancelled, or its connection or the server is gone."""
        return self._ended.is_set()

    @property
    def left_s(self) -> float:
        """How long the client waits for the answer, in seconds; infinite if it does not say."""
        left_s: float | None = self._context.time_remaining()
        return math.inf if left_s is None else left_s

    def require(self) -> None:
        """Raises `VolumedError` when it has ended."""
        if self.ended:
            raise VolumedError("context canceled", Code.CANCELLED)

    def wait(self, seconds: float) -> bool:
        """Sleep, but no longer than the call lasts; whether it has ended."""
        return self._ended.wait(seconds)

    def wait_for_work(self) -> bool:
        """`wait` between two questions to a worker about something that takes a moment, or hours: longer and longer,
        but for a small share of what the call has taken so far."""
        elapsed_s = time.monotonic() - self._began
        return self.wait(min(max(_POLL_MIN_S, _POLL_SHARE * elapsed_s), _POLL_MAX_S))

    def cancel(self) -> None:
        """End the call from here; its client is told CANCELLED."""
        self._context.cancel()

    def when_ended(self, action: Callable[[], Any]) -> None:
        """Do ``action``, which must not block, when the call ends, however it ends; at once if it has ended."""
        if not self._context.add_callback(action):
            action()


class CallThreads(futures.ThreadPoolExecutor):
    """The "pool" of a `grpc.server`: a thread per call. One that hangs does not keep the process from ending."""

    def __init__(self) -> None:
        super().__init__(max_workers=1)

    def submit(self, work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> futures.Future[Any]:
        """Run ``work`` on a new thread."""
        future: futures.Future[Any] = futures.Future()

        def run() -> None:
            try:
                future.set_result(work(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        threading.Thread(target=run, name="grpc-call", daemon=True).start()
        return future
