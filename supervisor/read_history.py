"""How many reads the node had in the last minute, hour, day and week (http.md 6.3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from volumed.bus.calls import ReadHistoryView

__all__ = ["ReadHistory"]

_SECOND, _MINUTE, _HOUR, _DAY = 1, 60, 3600, 86400


class _Ring:
    """Counts of the last ``slots`` periods of ``step_s`` seconds, the current one included."""

    def __init__(self, step_s: int, slots: int) -> None:
        self._step_s = step_s
        self._counts = deque([0] * slots, maxlen=slots)
        self._period = 0

    def add(self, now_s: float, count: int) -> None:
        period = int(now_s // self._step_s)
        passed = period - self._period
        self._counts.extend([0] * min(passed, len(self._counts)))
        self._period = period
        self._counts[-1] += count

    def counts(self) -> list[int]:
        """The oldest first."""
        return list(self._counts)


class ReadHistory:
    """Turns the running totals of the fronts into counts per period. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}
        self._rings = (_Ring(_SECOND, 60), _Ring(_MINUTE, 60), _Ring(_HOUR, 24), _Ring(_DAY, 7))

    def observe(self, now_s: float, totals: Iterable[tuple[int, int]]) -> None:
        """Take (process id, reads since its start) of every front that lives. What a front served between the last
        look and its end is not counted."""
        current = dict(totals)
        new = sum(max(0, total - self._seen.get(pid, 0)) for pid, total in current.items())
        self._seen = current
        for ring in self._rings:
            ring.add(now_s, new)

    def view(self) -> ReadHistoryView:
        """What the status page shows."""
        return ReadHistoryView(*(ring.counts() for ring in self._rings))
