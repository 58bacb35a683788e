"""The speed limit of background copying (docs/spec/storage.md 7.6)."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Throttle"]

_PERIOD_S = 0.1


class Throttle:
    """Spreads writes so that they stay near a rate; 0 = no limit."""

    def __init__(
        self, bytes_per_s: int, sleep: Callable[[float], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._bytes_per_s = bytes_per_s
        self._sleep = sleep
        self._clock = clock
        self._bytes = 0
        self._since = clock()

    def spend(self, count: int) -> None:
        """``count`` bytes were written; wait if they were too many for the time since the last look."""
        if not self._bytes_per_s:
            return
        self._bytes += count
        if self._clock() - self._since <= _PERIOD_S:
            return
        over = self._bytes - self._bytes_per_s * _PERIOD_S
        if over > 0:
            self._sleep(over / self._bytes_per_s)
        self._bytes = 0
        self._since = self._clock()
