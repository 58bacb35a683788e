"""Volume files as comparable bytes: everything that a reader looks at, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from volumed.formats.needle import (
    HEADER_LENGTH,
    append_time_offset,
    decode_header,
    padding_length,
    record_length,
)
from volumed.formats.superblock import SuperBlock

__all__ = ["RecordSpan", "masked_dat", "volume_files", "walk_records"]

APPEND_TIME_LENGTH = 8


class RecordSpan(NamedTuple):
    """Where one record lies in a `.dat`, in bytes, and what its header says."""

    offset: int
    length: int
    key: int
    size: int


def walk_records(dat: bytes) -> Iterator[RecordSpan]:
    """Every record in file order. Raises AssertionError when the file does not end with a record's end."""
    superblock = SuperBlock.decode(dat)
    offset = superblock.length
    while offset < len(dat):
        assert offset + HEADER_LENGTH <= len(dat), f"a header is cut short at {offset}"
        _, key, size = decode_header(dat, offset)
        length = record_length(size, superblock.version)
        assert offset + length <= len(dat), f"the record of key {key:x} at {offset} is cut short"
        yield RecordSpan(offset, length, key, size)
        offset += length


def masked_dat(dat: bytes) -> bytes:
    """The file with append times and padding zeroed: clocks differ, and padding is whatever lay in a buffer."""
    version = SuperBlock.decode(dat).version
    masked = bytearray(dat)
    for record in walk_records(dat):
        end = record.offset + record.length
        padding = end - padding_length(max(record.size, 0), version)
        masked[padding:end] = bytes(end - padding)
        if version == 3:
            at = record.offset + append_time_offset(record.size)
            masked[at : at + APPEND_TIME_LENGTH] = bytes(APPEND_TIME_LENGTH)
    return bytes(masked)


def volume_files(directory: Path) -> dict[str, bytes]:
    """Name → content of the `.dat`, `.idx` and `.vif` files of a data directory."""
    return {
        path.name: path.read_bytes()
        for path in sorted(directory.iterdir())
        if path.suffix in (".dat", ".idx", ".vif")
    }
