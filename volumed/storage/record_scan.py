"""The records of a `.dat` one after the other, read in large blocks (docs/spec/storage.md 8)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from volumed.formats.needle import HEADER_LENGTH, decode_header, record_length
from volumed.storage.fileio import File, FileIO

__all__ = ["BLOCK_BYTES", "BlockReader", "RecordHeader", "scan_headers"]

BLOCK_BYTES = 1 << 20


class RecordHeader(NamedTuple):
    """Where a record is, its header, and its whole length in bytes."""

    offset: int
    cookie: int
    key: int
    size: int
    length: int


class BlockReader:
    """Reads a file in ascending order, one system call per block. Used by one thread."""

    def __init__(self, files: FileIO, file: File, block_bytes: int = BLOCK_BYTES) -> None:
        self._files = files
        self._file = file
        self._block_bytes = block_bytes
        self._block = memoryview(b"")
        self._block_at = 0

    def read(self, offset: int, length: int) -> memoryview:
        """``length`` bytes at ``offset``; fewer only at the end of the file. Raises `OSError`."""
        at = offset - self._block_at
        if at < 0 or at + length > len(self._block):
            if length >= self._block_bytes:
                return memoryview(self._files.read_at(self._file, offset, length))
            self._block = memoryview(self._files.read_at(self._file, offset, self._block_bytes))
            self._block_at, at = offset, 0
        return self._block[at : at + length]


def scan_headers(reader: BlockReader, start: int, end: int, version: int) -> Iterator[RecordHeader]:
    """Headers of the records from ``start`` on. Ends at an impossible size and at a record that ends behind ``end``.
    Raises `OSError`, `CorruptNeedle` (the file is shorter)."""
    at = start
    while at + HEADER_LENGTH <= end:
        cookie, key, size = decode_header(reader.read(at, HEADER_LENGTH))
        length = record_length(size, version)
        if size < 0 or at + length > end:
            return
        yield RecordHeader(at, cookie, key, size, length)
        at += length
