"""Whether the bytes of a record are what its index row says, whatever its length, with little memory."""

from __future__ import annotations

from collections.abc import Callable

from volumed.errors import CorruptNeedle
from volumed.formats.checksum import crc32c, matches
from volumed.formats.needle import HEADER_LENGTH, decode_header, decode_record, record_length
from volumed.storage.long_record import read_layout

__all__ = ["PIECE_BYTES", "check_record"]

PIECE_BYTES = 4 << 20
"""Longer records are read in pieces of this length."""


def check_record(read: Callable[[int, int], bytes], version: int, size: int, offset: int) -> int:
    """The key in the record of S = ``size`` at ``offset``. ``read(offset, length)`` gives as many bytes, or raises.

    Raises `CorruptNeedle`, and what ``read`` raises.
    """
    length = record_length(size, version)
    if length <= PIECE_BYTES:
        return decode_record(read(offset, length), version, size, offset).key
    _, key, found = decode_header(read(offset, HEADER_LENGTH))
    if found != size:
        raise CorruptNeedle.size_mismatch(offset, key, found, size)
    record = read_layout(read, version, size, offset)
    checksum = 0
    for at in range(record.data_start, record.data_end, PIECE_BYTES):
        checksum = crc32c(read(offset + at, min(PIECE_BYTES, record.data_end - at)), checksum)
    if not matches(checksum, record.needle.checksum):
        raise CorruptNeedle.crc(key, checksum, record.needle.checksum)
    return key
