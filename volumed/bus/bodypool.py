"""Large bodies by reference: memory that a front writes and workers read.

A front receives a large body straight into a slab of its pool, a sparse file in the runtime directory that it maps.
Only the slab's place crosses the bus; the worker writes the bytes from its own read-only mapping to the `.dat`.

    front:   slab = pool.allocate(length, head_room=…, tail_room=…)      ``slab.data`` takes the received bytes
             link.store(pack_put_shared(…, slab.offset + …), done, slab)  the link shares the slab while it must
             slab.release()                                               when the request is over
    worker:  PoolReader(path).view(shared_at, size)

A slab is counted: its memory is used again when the request and every link have let go of it, and a link does not
let go of a slab whose batch was never answered until the worker that may still read it is gone.
"""

from __future__ import annotations

import bisect
import contextlib
import ctypes
import mmap
import os

from volumed.bus.frames import FrameError
from volumed.errors import RetryError

__all__ = ["POOL_BYTES", "BodyPool", "ExtentAllocator", "PoolReader", "Slab"]

POOL_BYTES = 4 << 30
"""Address space of a pool; what is not in use takes no memory."""

_KEPT_BYTES = 32 << 20
"""Memory at the start of the pool that is kept once it was used. First fit fills from there, so that a steady load
runs on pages that are already there, and a burst gives its memory back."""

_PAGE = mmap.PAGESIZE
_PUNCH_HOLE_KEEP_SIZE = 3
_libc = ctypes.CDLL(None, use_errno=True)


class ExtentAllocator:
    """First fit over ``[0, capacity)``; lengths are multiples of the caller's unit."""

    def __init__(self, capacity: int) -> None:
        self._free = [(0, capacity)]
        """(offset, length), ascending, never touching each other."""

    @property
    def free_bytes(self) -> int:
        return sum(length for _, length in self._free)

    def allocate(self, length: int) -> int | None:
        """Offset of a free extent, None when there is none as long."""
        for index, (offset, available) in enumerate(self._free):
            if available >= length:
                rest = (offset + length, available - length)
                self._free[index : index + 1] = [rest] if available > length else []
                return offset
        return None

    def free(self, offset: int, length: int) -> None:
        """Give an extent back; neighbours are joined."""
        at = bisect.bisect(self._free, (offset, 0))
        end = offset + length
        first, last = at, at
        if at and sum(self._free[at - 1]) == offset:
            first = at - 1
            offset = self._free[first][0]
        if at < len(self._free) and self._free[at][0] == end:
            last = at + 1
            end = sum(self._free[at])
        self._free[first:last] = [(offset, end - offset)]


class Slab:
    """Memory for one body; whoever holds a share must `release` it once."""

    __slots__ = ("_pool", "_shares", "data", "length", "offset", "view")

    def __init__(self, pool: BodyPool, offset: int, view: memoryview, data: memoryview) -> None:
        self._pool = pool
        self._shares = 1
        self.offset = offset
        """Where the slab starts in the pool."""
        self.length = len(view)
        self.view = view
        """All of it: head room, data, tail room."""
        self.data = data
        """The part for the received bytes."""

    def retain(self) -> None:
        """Take another share."""
        self._shares += 1

    def release(self) -> None:
        """Give a share back; with the last one the memory is free and the views must not be used any more."""
        self._shares -= 1
        if not self._shares:
            self.data.release()
            self.view.release()
            self._pool.free(self.offset, self.length)


class BodyPool:
    """A front's pool. Used by one thread."""

    def __init__(self, path: str, capacity: int = POOL_BYTES, kept_bytes: int = _KEPT_BYTES) -> None:
        """Create the file ``path``, in place of what a killed front of this name has left. ``capacity`` and
        ``kept_bytes`` are multiples of the page size."""
        self.path = path
        self._kept_bytes = kept_bytes
        self._kept_end = 0
        self._extents = ExtentAllocator(capacity)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.ftruncate(self._fd, capacity)
        self._map = mmap.mmap(self._fd, capacity)
        self._view = memoryview(self._map)

    @property
    def free_bytes(self) -> int:
        """Bytes that are not part of any slab."""
        return self._extents.free_bytes

    def allocate(self, length: int, head_room: int = 0, tail_room: int = 0) -> Slab:
        """A slab for ``length`` bytes with room for the other parts of a needle body around them. Raises
        `RetryError` when pool or memory are used up."""
        total = _whole_pages(head_room + length + tail_room)
        offset = self._extents.allocate(total)
        if offset is None:
            raise RetryError("too many large uploads at once")
        try:
            self._reserve(offset, offset + total)
        except OSError as error:
            self._extents.free(offset, total)
            raise RetryError("no memory for a large upload") from error
        view = self._view[offset : offset + total]
        return Slab(self, offset, view, view[head_room : head_room + length])

    def free(self, offset: int, length: int) -> None:
        """Called by the last `Slab.release`."""
        first = max(offset, self._kept_bytes)
        if first < offset + length:
            size = ctypes.c_long(offset + length - first)
            _libc.fallocate(self._fd, _PUNCH_HOLE_KEEP_SIZE, ctypes.c_long(first), size)
        self._extents.free(offset, length)

    def close(self) -> None:
        """Remove the file. Slabs that are still held stay usable."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path)
        os.close(self._fd)
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()

    def _reserve(self, start: int, end: int) -> None:
        """Have the filesystem set the memory aside: touching a page that it cannot provide is a fatal signal."""
        kept_end = min(end, self._kept_bytes)
        if kept_end > self._kept_end:
            os.posix_fallocate(self._fd, self._kept_end, kept_end - self._kept_end)
            self._kept_end = kept_end
        start = max(start, self._kept_bytes)
        if start < end:
            os.posix_fallocate(self._fd, start, end - start)


class PoolReader:
    """A worker's read-only mapping of one front's pool."""

    def __init__(self, path: str) -> None:
        """Raises `OSError`."""
        self.path = path
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self._map = mmap.mmap(fd, 0, access=mmap.ACCESS_READ)
        finally:
            os.close(fd)
        self._view = memoryview(self._map)

    def view(self, offset: int, length: int) -> memoryview:
        """Bytes of the pool. Raises `FrameError` when they are not inside it."""
        if offset + length > len(self._view):
            raise FrameError(f"{length} bytes at {offset} are not in a pool of {len(self._view)}")
        return self._view[offset : offset + length]

    def close(self) -> None:
        """Unmap, now or when the last view is gone."""
        self._view.release()
        with contextlib.suppress(BufferError):
            self._map.close()


def _whole_pages(length: int) -> int:
    return max(1, -(-length // _PAGE)) * _PAGE
