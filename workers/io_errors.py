"""Counts what the disk cannot read or write (docs/spec/http.md 10)."""

from __future__ import annotations

import errno
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from volumed.metrics.families import IO_ERRORS, QUARANTINED
from volumed.metrics.recorder import Recorder
from volumed.storage.fileio import Buffer, File, FileIO

__all__ = ["CountingFiles", "QuarantineGauge"]


class CountingFiles(FileIO):
    """All file I/O of a worker; an `OSError` names its file, and is counted on its way if it means broken hardware."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._lock = threading.Lock()
        """Reader threads and the loop count in one cell."""

    def read_at(self, file: File, offset: int, length: int) -> bytes:
        with self._counted(file):
            return super().read_at(file, offset, length)

    def read_into(self, file: File, offset: int, buffer: memoryview) -> int:
        with self._counted(file):
            return super().read_into(file, offset, buffer)

    def copy(self, source: File, target: File, target_offset: int, length: int, *, source_offset: int = 0) -> None:
        try:
            super().copy(source, target, target_offset, length, source_offset=source_offset)
        except OSError as error:
            # Where the kernel does not copy, `read_at` and `write_at` have counted it.
            if error.filename is None:
                self.note(error)
                error.filename, error.filename2 = source.path, target.path
            raise

    def write_at(self, file: File, offset: int, pieces: Sequence[Buffer]) -> int:
        with self._counted(file):
            return super().write_at(file, offset, pieces)

    def sync(self, file: File) -> None:
        with self._counted(file):
            super().sync(file)

    def note(self, error: OSError) -> None:
        if error.errno == errno.EIO:
            with self._lock:
                self._recorder.count(IO_ERRORS)

    @contextmanager
    def _counted(self, file: File) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.note(error)
            error.filename = file.path
            raise


class QuarantineGauge:
    """How many volumes of the disk are withdrawn because of such errors, and how many shards have met some: those are
    only left aside by reads."""

    def __init__(self, recorder: Recorder) -> None:
        self._cells = recorder.cells
        self._volumes = recorder.cell(QUARANTINED, "volume")
        self._shards = recorder.cell(QUARANTINED, "ec_shard")

    def set(self, volumes: int, shards: int) -> None:
        """As of now."""
        self._cells[self._volumes] = volumes
        self._cells[self._shards] = shards
