"""Rows of an `.idx` (and `.sdx`, `.cpx`, `.ecx`) file (docs/spec/storage.md 4.1).

A row is (key, offset, size). Offsets are in bytes here and in units of 8 bytes on disk, where they take 4 or
5 bytes: the *width*, a property of the whole server. Of 5 bytes the highest comes after the four others.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from struct import Struct
from typing import TYPE_CHECKING

from volumed.errors import FormatError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = [
    "DELETED",
    "MAX_VOLUME_SIZE",
    "ROW_LENGTH",
    "Row",
    "decode_rows",
    "encode_rows",
    "is_live",
    "iter_rows",
    "pack_row",
    "pack_rows",
    "row_count",
    "unpack_row",
]

Row = tuple[int, int, int]
"""Key, offset in bytes, size (`S`, signed)."""

DELETED = -1
"""Size of a deletion row."""

ROW_LENGTH = {4: 16, 5: 17}
"""Bytes of a row, by offset width."""

MAX_VOLUME_SIZE = {4: 1 << 35, 5: 1 << 43}
"""End of `.dat` in bytes at which appends with data stop, by offset width (3.8)."""

_ALIGNMENT = 8
_ROW_4 = Struct(">QIi")
_ROW_5 = Struct(">QIBi")


def is_live(offset: int, size: int) -> bool:
    """Whether a row says that the needle exists (a size of 0 is a live empty object)."""
    return offset != 0 and size >= 0


def pack_row(key: int, offset: int, size: int, width: int = 5) -> bytes:
    """One row. `offset` must be a multiple of 8 below `MAX_VOLUME_SIZE[width]`, else `ValueError`."""
    if offset % _ALIGNMENT or not 0 <= offset < MAX_VOLUME_SIZE[width]:
        raise ValueError(f"no index row can hold the offset {offset}")
    unit = offset // _ALIGNMENT
    if width == 5:
        return _ROW_5.pack(key, unit & 0xFFFFFFFF, unit >> 32, size)
    return _ROW_4.pack(key, unit, size)


def pack_rows(rows: Iterable[Row], width: int = 5) -> bytes:
    """Many rows as one byte string, to be appended with one write."""
    return b"".join([pack_row(key, offset, size, width) for key, offset, size in rows])


def unpack_row(buffer: bytes | memoryview, position: int = 0, width: int = 5) -> Row:
    """The row at a byte position. Raises `FormatError` when it is cut short."""
    if len(buffer) - position < ROW_LENGTH[width]:
        raise FormatError.index_length(len(buffer))
    if width == 5:
        key, low, high, size = _ROW_5.unpack_from(buffer, position)
        return key, (high << 32 | low) * _ALIGNMENT, size
    key, unit, size = _ROW_4.unpack_from(buffer, position)
    return key, unit * _ALIGNMENT, size


def row_count(length: int, width: int = 5) -> int:
    """Rows in `length` bytes. Raises `FormatError` unless they are whole rows."""
    count, rest = divmod(length, ROW_LENGTH[width])
    if rest:
        raise FormatError.index_length(length)
    return count


def iter_rows(buffer: bytes | memoryview, width: int = 5) -> Iterator[Row]:
    """Every row in order. Raises `FormatError`, before the first row, unless there are only whole rows."""
    row_count(len(buffer), width)
    if width == 5:
        return ((k, (high << 32 | low) * _ALIGNMENT, s) for k, low, high, s in _ROW_5.iter_unpack(buffer))
    return ((k, unit * _ALIGNMENT, s) for k, unit, s in _ROW_4.iter_unpack(buffer))


def decode_rows(
    buffer: bytes | memoryview, width: int = 5
) -> tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int32]]:
    """Keys, offsets in bytes and sizes of all rows as three arrays. Raises `FormatError` like `iter_rows`."""
    import numpy as np  # start-up time: only bulk work needs it

    row_count(len(buffer), width)
    rows = np.frombuffer(buffer, dtype=_dtype(width))
    offsets = rows["low"].astype(np.int64)
    if width == 5:
        offsets |= rows["high"].astype(np.int64) << 32
    return rows["key"].astype(np.uint64), offsets * _ALIGNMENT, rows["size"].astype(np.int32)


def encode_rows(
    keys: NDArray[np.uint64], offsets: NDArray[np.int64], sizes: NDArray[np.int32], width: int = 5
) -> bytes:
    """The inverse of `decode_rows`, for arrays of equal length. Raises `ValueError` like `pack_row`."""
    import numpy as np

    if np.any((offsets % _ALIGNMENT != 0) | (offsets < 0) | (offsets >= MAX_VOLUME_SIZE[width])):
        raise ValueError("no index row can hold one of the offsets")
    units = offsets // _ALIGNMENT
    rows = np.empty(len(keys), dtype=_dtype(width))
    rows["key"], rows["low"], rows["size"] = keys, units & 0xFFFFFFFF, sizes
    if width == 5:
        rows["high"] = units >> 32
    return rows.tobytes()


def _dtype(width: int) -> np.dtype[np.void]:
    import numpy as np

    high = [("high", "u1")] if width == 5 else []
    return np.dtype([("key", ">u8"), ("low", ">u4"), *high, ("size", ">i4")])
