"""Counting into a page. A handle is resolved once; a count is then an index into memory."""

from __future__ import annotations

from bisect import bisect_left

from volumed.metrics.families import FAMILIES, Family, Kind, Owner
from volumed.metrics.page import MetricsPage

__all__ = ["Histogram", "Recorder"]


class Histogram:
    """One series of a histogram."""

    __slots__ = ("_bounds", "_cells", "_first", "_floats", "_sum")

    def __init__(self, page: MetricsPage, first: int, bounds: tuple[float, ...]) -> None:
        self._cells = page.cells
        self._floats = page.floats
        self._first = first
        self._sum = first + len(bounds) + 1
        self._bounds = bounds

    def observe(self, value: float) -> None:
        """Count a value in its bucket."""
        self._cells[self._first + bisect_left(self._bounds, value)] += 1
        self._floats[self._sum] += value


class Recorder:
    """All series of one owner. Those without labels are there from the start; gauges that are not lasting start at 0,
    since what the predecessor had in progress ended with it."""

    def __init__(self, page: MetricsPage, owner: Owner) -> None:
        self._page = page
        self.cells = page.cells
        for name, first in page.series():
            if FAMILIES[name].kind is Kind.GAUGE and not FAMILIES[name].lasting:
                self.cells[first] = 0
        for family in FAMILIES.values():
            if family.owner is owner and not family.labels:
                self.cell(family)

    def cell(self, family: Family, *labels: str) -> int:
        """Index into `cells` of a counter or gauge, the first cell of a histogram."""
        return self._page.find(family.name, labels, family.cells)

    def count(self, family: Family, *labels: str) -> None:
        """One more of what a counter counts."""
        self.cells[self.cell(family, *labels)] += 1

    def histogram(self, family: Family, *labels: str) -> Histogram:
        """A handle to observe through."""
        return Histogram(self._page, self.cell(family, *labels), family.buckets)
