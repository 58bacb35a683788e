"""How many reads the node had in the last minute, hour, day and week (http.md 6.3)."""

from __future__ import annotations

import glob
from collections import deque

from volumed.bus.calls import ReadHistoryView
from volumed.metrics.families import REQUESTS
from volumed.metrics.page import read_page

__all__ = ["ReadHistory", "count_reads"]

_READS = frozenset({"GET", "HEAD"})
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
    """Turns a running total into counts per period. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._total = 0
        self._rings = (_Ring(_SECOND, 60), _Ring(_MINUTE, 60), _Ring(_HOUR, 24), _Ring(_DAY, 7))

    def observe(self, now_s: float, total: int) -> None:
        """Take the number of reads since the node started."""
        for ring in self._rings:
            ring.add(now_s, total - self._total)
        self._total = total

    def view(self) -> ReadHistoryView:
        """What the status page shows."""
        return ReadHistoryView(*(ring.counts() for ring in self._rings))


def count_reads(pages: str) -> int:
    """Reads that all fronts have answered since the node started; ``pages`` is the beginning of the paths of their
    metrics pages, which outlive them."""
    return sum(
        series.cells[0]
        for path in glob.iglob(glob.escape(pages) + "*")
        for series in read_page(path)[0]
        if series.name == REQUESTS.name and series.labels[0] in _READS
    )
