"""For the log: what every read meets is said once in a while."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Hashable

__all__ = ["Occasional"]

_EVERY_S = 60.0
_KNOWN_MAX = 10_000


class Occasional:
    """Any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._said_s: dict[Hashable, float] = {}

    def is_due(self, matter: Hashable) -> bool:
        """Whether nothing was said of a matter for a minute; then it counts as said now."""
        now_s = self._clock()
        with self._lock:
            said_s = self._said_s.get(matter)
            if said_s is not None and now_s - said_s < _EVERY_S:
                return False
            self._said_s.pop(matter, None)
            while len(self._said_s) >= _KNOWN_MAX:
                del self._said_s[next(iter(self._said_s))]
            self._said_s[matter] = now_s
            return True
