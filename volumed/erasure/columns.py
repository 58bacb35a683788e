"""Working through shards column by column, with several threads: the same short piece of every shard at a time.

A thread takes a column, does everything with it while it is in the processor's cache, and takes the next one. Memory
is one column per thread, whatever the size of the volume.
"""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from volumed.erasure.errors import EcInterrupted
from volumed.erasure.joined_crc import joined_crc
from volumed.erasure.sidecar import CHECKSUM_BLOCK, ShardSums
from volumed.storage.fileio import File, FileIO

__all__ = [
    "COLUMN_BYTES", "THREADS", "Column", "ColumnSums", "Progress", "column_buffers", "for_all_columns", "new_files",
    "sync_all",
]  # fmt: skip

COLUMN_BYTES = 256 << 10
"""Divides every block size, so that a column of a data shard is one piece of the `.dat`, and all of a checksum's
block."""

THREADS = max(1, min(2, len(os.sched_getaffinity(0)) // 2))
"""Half of the processors: clients need the others."""

_STRETCH_COLUMNS = 64
"""16 MiB of every shard."""


class Progress:
    """How far an operation is, and the wish that it stops. For any thread."""

    def __init__(self, report: Callable[[int, int], None] = lambda _done, _total: None) -> None:
        """``report`` gets the bytes done and the bytes of all after every column, from the thread that did it."""
        self.done_bytes = 0
        self.total_bytes = 0
        self._report = report
        # Who is told how far it is may find that it is enough.
        self._lock = threading.RLock()
        self._stopped = threading.Event()
        self._actions: list[Callable[[], None]] = []
        self._actions_lock = threading.Lock()

    def stop(self) -> None:
        """Let the operation end at the next column; it raises `EcInterrupted` then, and leaves nothing behind."""
        with self._actions_lock:
            self._stopped.set()
            actions, self._actions = self._actions, []
        for action in actions:
            action()

    def when_stopped(self, action: Callable[[], None]) -> None:
        """Call ``action``, which must not block, with `stop`; at once if that was before."""
        with self._actions_lock:
            if not self._stopped.is_set():
                self._actions.append(action)
                return
        action()

    @property
    def stopped(self) -> bool:
        """Nobody wants the result."""
        return self._stopped.is_set()

    def require_running(self) -> None:
        """Raises `EcInterrupted` after `stop`."""
        if self.stopped:
            raise EcInterrupted

    def expect(self, count: int) -> None:
        """So many bytes more are to be done."""
        with self._lock:
            self.total_bytes += count

    def advance(self, count: int) -> None:
        """So many bytes are done."""
        with self._lock:
            self.done_bytes += count
            self._report(self.done_bytes, self.total_bytes)


class Column(NamedTuple):
    """The piece ``[offset, offset + length)`` of every shard."""

    number: int
    offset: int
    length: int

    @property
    def ends_a_stretch(self) -> bool:
        """Whether what was written so far is to go to the disk now: one flush of all at the end would hold up everybody
        on that disk for long. The thread that has this column does it while the others go on."""
        return self.number % _STRETCH_COLUMNS == _STRETCH_COLUMNS - 1


class _Columns:
    """The columns that are still to be done, shared by the threads."""

    def __init__(self, length: int, progress: Progress, bytes_per_column: int, reads: int) -> None:
        self._length = length
        self._progress = progress
        self._reads = reads
        self._size = bytes_per_column
        self._next = 0
        self._lock = threading.Lock()

    def take(self) -> Iterator[Column]:
        """Columns for one thread. Raises `EcInterrupted`."""
        while True:
            self._progress.require_running()
            with self._lock:
                number = self._next
                self._next += 1
            if number * self._size >= self._length:
                return
            offset = number * self._size
            yield Column(number, offset, min(self._size, self._length - offset))
            self._progress.advance(min(self._size, self._length - offset) * self._reads)

    def abandon(self) -> None:
        """A thread has failed: the others end too."""
        with self._lock:
            self._next = self._length


def for_all_columns(
    length: int,
    work: Callable[[Iterator[Column]], None],
    progress: Progress,
    *,
    threads: int = THREADS,
    bytes_per_column: int = COLUMN_BYTES,
    reads: int = 1,
) -> None:
    """Run ``work`` in so many threads; each gets some of the columns of shards of so many bytes. Of every column it
    ``reads`` so many shards: that is what ``progress`` counts, and was told to expect.

    Raises what the first failed thread raised, when all have ended, and `EcInterrupted`.
    """
    columns = _Columns(length, progress, bytes_per_column, reads)

    def run() -> None:
        try:
            work(columns.take())
        except BaseException:
            columns.abandon()
            raise

    count = max(1, min(threads, -(-length // bytes_per_column)))
    with ThreadPoolExecutor(count, thread_name_prefix="ec") as pool:
        running = [pool.submit(run) for _ in range(count)]
    for future in running:
        future.result()


def column_buffers(count: int) -> list[memoryview]:
    """Memory for one column of so many shards."""
    # Pages of our own: aligned, and back to the system as soon as nobody refers to them.
    whole = memoryview(mmap.mmap(-1, count * COLUMN_BYTES))
    return [whole[at : at + COLUMN_BYTES] for at in range(0, len(whole), COLUMN_BYTES)]


class ColumnSums:
    """Checksums of a shard's columns, and from them those of its blocks. Every column has one writer."""

    def __init__(self, length: int) -> None:
        """``length`` of the shard in bytes."""
        self._length = length
        self._columns = [0] * -(-length // COLUMN_BYTES)

    def put(self, column: Column, checksum: int) -> None:
        """The checksum of a column."""
        self._columns[column.number] = checksum

    def result(self, block: int = CHECKSUM_BLOCK) -> ShardSums:
        """When all columns are there; ``block`` in bytes is a multiple of a column."""
        blocks = []
        for start in range(0, self._length, block):
            total = 0
            for at in range(start, min(start + block, self._length), COLUMN_BYTES):
                total = joined_crc(total, self._columns[at // COLUMN_BYTES], min(COLUMN_BYTES, self._length - at))
            blocks.append(total)
        return ShardSums(self._length, tuple(blocks))


def new_files(files: FileIO, paths: Sequence[str]) -> list[File]:
    """Empty files to write shards to. Raises `OSError`."""
    outputs = [files.open(path, create=True) for path in paths]
    for output in outputs:
        files.truncate(output, 0)
    return outputs


def sync_all(files: FileIO, outputs: Sequence[File]) -> None:
    """Flush them side by side. Raises `OSError`."""
    with ThreadPoolExecutor(len(outputs)) as pool:
        list(pool.map(files.sync, outputs))
