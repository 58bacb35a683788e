"""Memory that a front fills and one worker reads, for one copy: a file in the runtime directory that both map.

    front:   area = StagingArea(directory, size)       area.fill(block), then a call that says how much
    worker:  staged = StagedBlocks(area.path)          staged.view(length)

The front holds a lock on the file as long as it lives, by which the worker knows that it is gone. The file loses its
name as soon as the worker has it open, so nothing is left behind.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import tempfile

from volumed.errors import NodeError

__all__ = ["StagedBlocks", "StagingArea"]

_PREFIX = "staging-"


class StagingArea:
    """The front's side. Used by one thread."""

    def __init__(self, directory: str, size: int) -> None:
        """Raises `OSError`."""
        self._fd, self.path = tempfile.mkstemp(prefix=_PREFIX, dir=directory)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            # Memory that is not there when it is touched would be a fatal signal.
            os.posix_fallocate(self._fd, 0, size)
            self._map = mmap.mmap(self._fd, size)
        except OSError:
            self.forget_name()
            os.close(self._fd)
            raise
        self.size = size

    def fill(self, block: memoryview) -> None:
        """Put a block, at most `size` bytes, at the start."""
        self._map[: len(block)] = block

    def forget_name(self) -> None:
        """The worker has it open."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)

    def close(self) -> None:
        """Give the memory back and the lock up."""
        self.forget_name()
        self._map.close()
        os.close(self._fd)


class StagedBlocks:
    """A worker's read-only mapping of it."""

    def __init__(self, path: str) -> None:
        """Raises `OSError`."""
        self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(self._fd, 0, access=mmap.ACCESS_READ)
        except (OSError, ValueError):
            os.close(self._fd)
            raise
        self._view = memoryview(self._map)

    def view(self, length: int) -> memoryview:
        """The first ``length`` bytes. Raises `NodeError` when there are fewer."""
        if not 0 <= length <= len(self._view):
            raise NodeError(f"no {length} bytes in a staging area of {len(self._view)}")
        return self._view[:length]

    def is_abandoned(self) -> bool:
        """Whether the front has closed it, or is gone."""
        try:
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def close(self) -> None:
        """Unmap, now or when the last view is gone."""
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()
        os.close(self._fd)
