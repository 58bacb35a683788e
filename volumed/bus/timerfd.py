"""A timer of microseconds on an asyncio loop.

The loop's own timers count milliseconds, four times as long as a batch may be held. The kernel's timerfd is exact;
Python has no binding for it before 3.13.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import os
import time
from collections.abc import Callable

__all__ = ["MicroTimer"]

_NONBLOCK, _CLOEXEC = os.O_NONBLOCK, os.O_CLOEXEC
_EXPIRATIONS_BYTES = 8
_libc = ctypes.CDLL(None, use_errno=True)


class _TimerSpec(ctypes.Structure):
    """``struct itimerspec``."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("interval_s", "interval_ns", "value_s", "value_ns"))


class MicroTimer:
    """Calls ``callback`` once on the loop, ``delay_s`` (below one second) after `arm`."""

    def __init__(self, loop: asyncio.AbstractEventLoop, delay_s: float, callback: Callable[[], None]) -> None:
        self._loop = loop
        self._callback = callback
        self._spec = ctypes.byref(_TimerSpec(0, 0, 0, int(delay_s * 1e9)))
        self._stopped = ctypes.byref(_TimerSpec(0, 0, 0, 0))
        self._fd = _libc.timerfd_create(time.CLOCK_MONOTONIC, _NONBLOCK | _CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), f"timerfd_create: {errno.errorcode.get(ctypes.get_errno())}")
        self.armed = False
        loop.add_reader(self._fd, self._expired)

    def arm(self) -> None:
        """Start counting; does nothing while it counts already."""
        if not self.armed:
            self.armed = True
            _libc.timerfd_settime(self._fd, 0, self._spec, None)

    def disarm(self) -> None:
        """Stop counting."""
        if self.armed:
            self.armed = False
            _libc.timerfd_settime(self._fd, 0, self._stopped, None)

    def close(self) -> None:
        """Release the descriptor."""
        self._loop.remove_reader(self._fd)
        os.close(self._fd)

    def _expired(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self._fd, _EXPIRATIONS_BYTES)
        if self.armed:
            self.armed = False
            self._callback()
