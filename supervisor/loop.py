"""The supervisor's loop: one thread that waits for file descriptors, ZeroMQ, timers, signals and other threads.

Nothing that runs on it may block. Other threads hand their results over with `Loop.post`.
"""

from __future__ import annotations

import heapq
import itertools
import logging
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

import zmq

__all__ = ["Loop", "Timer"]

_log = logging.getLogger(__name__)
_WAKE_BYTES = 4096


class Timer:
    """A call planned for later."""

    __slots__ = ("action",)

    def __init__(self, action: Callable[[], None]) -> None:
        self.action: Callable[[], None] | None = action

    def cancel(self) -> None:
        self.action = None


class Loop:
    """Readiness, timers and posted calls, all run by `run` on the calling thread."""

    def __init__(self) -> None:
        self._poller = zmq.Poller()
        self._readers: dict[Any, Callable[[], None]] = {}
        self._timers: list[tuple[float, int, Timer]] = []
        self._order = itertools.count()
        self._posted: deque[Callable[[], None]] = deque()
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._running = False
        self.add_reader(self._wake_fd, self._run_posted)

    def add_reader(self, source: Any, action: Callable[[], None]) -> None:
        """Call ``action`` whenever a file descriptor or ZeroMQ socket is readable."""
        self._readers[source] = action
        self._poller.register(source, zmq.POLLIN)

    def remove_reader(self, source: Any) -> None:
        if self._readers.pop(source, None) is not None:
            self._poller.unregister(source)

    def call_later(self, delay_s: float, action: Callable[[], None]) -> Timer:
        """Call ``action`` once after the delay."""
        timer = Timer(action)
        heapq.heappush(self._timers, (time.monotonic() + delay_s, next(self._order), timer))
        return timer

    def post(self, action: Callable[[], None]) -> None:
        """Call ``action`` on the loop's thread soon. The only method for other threads."""
        self._posted.append(action)
        os.eventfd_write(self._wake_fd, 1)

    def on_signals(self, numbers: Iterable[signal.Signals], action: Callable[[signal.Signals], None]) -> None:
        """Call ``action`` on the loop for each signal; the handlers themselves only write a byte."""
        read_fd, write_fd = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(write_fd)
        for number in numbers:
            signal.signal(number, lambda *_: None)

        def deliver() -> None:
            for number in os.read(read_fd, _WAKE_BYTES):
                action(signal.Signals(number))

        self.add_reader(read_fd, deliver)

    def run(self) -> None:
        """Serve until `stop`. An action that fails is logged and costs only itself."""
        self._running = True
        while self._running:
            for source, _ in self._poller.poll(self._run_timers()):
                action = self._readers.get(source)
                if action is not None:
                    self._guarded(action)

    def stop(self) -> None:
        """Leave `run` after the current action."""
        self._running = False
        os.eventfd_write(self._wake_fd, 1)

    def _run_posted(self) -> None:
        os.eventfd_read(self._wake_fd)
        while self._posted:
            self._guarded(self._posted.popleft())

    def _run_timers(self) -> int | None:
        """Run what is due; milliseconds to the next timer, rounded up."""
        while self._timers:
            due_s = self._timers[0][0]
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                return int(wait_s * 1000) + 1
            action = heapq.heappop(self._timers)[2].action
            if action is not None:
                self._guarded(action)
        return None

    @staticmethod
    def _guarded(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            _log.exception("supervisor action failed")
