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
        """``count`` bytes were written; wait if they are more than the time since the last look allows."""
        if not self._bytes_per_s:
            return
        self._bytes += count
        # DEVIATE: the reference looks at the clock alone. On a quick disk hundreds of megabytes fit into one period,
        # and then nothing comes for minutes.
        worth_s = self._bytes / self._bytes_per_s
        passed_s = self._clock() - self._since
        if max(worth_s, passed_s) < _PERIOD_S:
            return
        if worth_s > passed_s:
            self._sleep(worth_s - passed_s)
        self._bytes = 0
        self._since = self._clock()
