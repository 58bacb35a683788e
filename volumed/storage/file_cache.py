"""Open files that are kept for the next reader, the lately used ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["FileCache"]

_Key = TypeVar("_Key")
_Open = TypeVar("_Open")


class _Entry(Generic[_Open]):
    """What is open, the map record it was opened for, and whether it was used since the last look."""

    __slots__ = ("opened", "raw", "used")

    def __init__(self, raw: bytes, opened: _Open) -> None:
        self.raw = raw
        self.opened = opened
        self.used = True


class FileCache(Generic[_Key, _Open]):
    """At most ``limit`` files by key; the least used go first (second chance). What is open for another record than the
    one that is given counts as not there. Any thread; a file is closed when the last one that holds it lets go."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._entries: dict[_Key, _Entry[_Open]] = {}

    def find(self, key: _Key, raw: bytes) -> _Open | None:
        """What is open for the map record ``raw``."""
        entry = self._entries.get(key)
        if entry is None or entry.raw != raw:
            return None
        entry.used = True
        return entry.opened

    def keep(self, key: _Key, raw: bytes, opened: _Open) -> None:
        """Keep what was opened for the map record ``raw``."""
        self._entries[key] = _Entry(raw, opened)
        while len(self._entries) > self._limit:
            self._evict()

    def drop_stale(self, current: Callable[[_Key], bytes | None]) -> None:
        """Close what was opened for a record that is not the ``current`` one: an open file keeps its disk space."""
        for key, entry in list(self._entries.items()):
            if current(key) != entry.raw:
                self._entries.pop(key, None)

    def clear(self) -> None:
        """Close everything."""
        self._entries.clear()

    def _evict(self) -> None:
        try:
            key = next(iter(self._entries))
            oldest = self._entries.pop(key)
        except (StopIteration, KeyError, RuntimeError):
            return  # another thread is doing the same
        if oldest.used:
            oldest.used = False
            self._entries[key] = oldest
