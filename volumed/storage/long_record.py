"""Where the data of a record lie that is too long to be read at once, and everything else that it says."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from volumed.errors import CorruptNeedle
from volumed.formats.needle import (
    HEADER_LENGTH,
    PAGED_HEAD_LENGTH,
    Needle,
    decode_body_meta,
    decode_header,
    decode_paged_head,
)

__all__ = ["LongRecord", "read_layout"]

_CHECKSUM_LENGTH = 4


class LongRecord(NamedTuple):
    """``needle`` is without data, its checksum as stored. The data are from ``data_start`` to ``data_end``, counted in
    bytes from the start of the record."""

    needle: Needle
    data_start: int
    data_end: int


def read_layout(read: Callable[[int, int], bytes], version: int, size: int, offset: int) -> LongRecord:
    """Read all but the data of the record of S = ``size`` at ``offset``. ``read(offset, length)`` gives as many bytes
    or raises `CorruptNeedle`, as this does for what is no such record."""
    if version == 1:
        cookie, key, found = decode_header(read(offset, HEADER_LENGTH))
        if found != size:
            raise CorruptNeedle.size_mismatch(offset, key, found, size)
        data_end = HEADER_LENGTH + size
        checksum = int.from_bytes(read(offset + data_end, _CHECKSUM_LENGTH), "big")
        return LongRecord(Needle(cookie, key, size, checksum=checksum), HEADER_LENGTH, data_end)
    head = decode_paged_head(read(offset, PAGED_HEAD_LENGTH), version, size, offset)
    needle = decode_body_meta(head, read(offset + head.tail_offset, head.tail_length), version)
    return LongRecord(needle, PAGED_HEAD_LENGTH, head.tail_offset)
