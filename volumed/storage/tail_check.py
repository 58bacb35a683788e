"""Does `.dat` end where `.idx` says it does? (docs/spec/storage.md 5.7)

The tail row is the last one if its record ends the file, else the row with the largest offset. A volume that fails
the check is served, but takes no writes.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from volumed.errors import CorruptNeedle, VolumeLoadError
from volumed.formats.idx import Row, unpack_row
from volumed.formats.needle import HEADER_LENGTH, append_time_offset, decode_header, decode_record, record_length
from volumed.storage.fileio import File, FileIO
from volumed.storage.map_records import VolumeProgress

__all__ = ["Tail", "TailTooLong", "check_tail"]

_TIME_LENGTH = 8


class Tail(NamedTuple):
    """The last record. ``append_at_ns`` is 0 in versions 1 and 2, and in a volume without records."""

    end: int
    append_at_ns: int


class TailTooLong(VolumeLoadError):
    """`.dat` goes on behind the last indexed record, which itself is in order and ends at ``indexed_end``."""

    def __init__(self, path: str, dat_end: int, indexed_end: int) -> None:
        super().__init__(f"data file {path} actual {dat_end} bytes expected {indexed_end} bytes")
        self.indexed_end = indexed_end


def check_tail(files: FileIO, dat: File, dat_end: int, version: int, progress: VolumeProgress, width: int) -> Tail:
    """Raises `VolumeLoadError`, `CorruptNeedle`, `OSError`: the volume must be read-only.

    ``dat_end`` is the file's length rounded up to 8, ``progress`` that of all rows.
    """
    key, offset, size = _tail_row(dat_end, version, progress, width)
    if not offset:
        return Tail(dat_end, 0)
    end = offset + record_length(size, version)
    head = _read(files, dat, offset, HEADER_LENGTH)
    _, found_key, found_size = decode_header(head)
    if found_size != max(size, 0):
        raise CorruptNeedle.size_mismatch(offset, found_key, found_size, max(size, 0))
    if version < 3 and size > 0:
        decode_record(_read(files, dat, offset, end - offset), version, size, offset)
    if found_key != key and (version < 3 or size < 0):
        raise VolumeLoadError(
            f"index key {key} does not match needle's Id {found_key} on volume {os.path.basename(dat.path)}"
        )
    append_at_ns = 0
    if version == 3:
        time = _read(files, dat, offset + append_time_offset(size), _TIME_LENGTH)
        append_at_ns = int.from_bytes(time, "big")
    if dat_end > end and (version == 3 or size < 0):
        raise TailTooLong(dat.path, dat_end, end)
    _read(files, dat, end - 1, 1)
    return Tail(end, append_at_ns)


def _tail_row(dat_end: int, version: int, progress: VolumeProgress, width: int) -> Row:
    if progress.last_row:
        key, offset, size = unpack_row(progress.last_row, 0, width)
        if offset and offset + record_length(size, version) == dat_end:
            return key, offset, size
    return progress.tail_key, progress.tail_offset, progress.tail_size


def _read(files: FileIO, dat: File, offset: int, length: int) -> bytes:
    data = files.read_at(dat, offset, length)
    if len(data) < length:
        raise CorruptNeedle.eof()
    return data
