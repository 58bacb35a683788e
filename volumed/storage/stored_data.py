"""What is stored of a needle, as far as a put must know: its cookie, and whether the data can be the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

from volumed.errors import CorruptNeedle, DiskError
from volumed.formats.checksum import matches
from volumed.formats.needle import HEADER_LENGTH, PAGED_HEAD_LENGTH, decode_header
from volumed.storage.fileio import error_text

if TYPE_CHECKING:
    from volumed.storage.volume import Volume

__all__ = ["data_position", "read_stored", "stored_cookie"]

_CHECKSUM_LENGTH = 4


def read_stored(volume: Volume, offset: int, length: int) -> bytes:
    """Bytes of the `.dat`. Raises `OSError`, `CorruptNeedle` (file too short)."""
    try:
        raw = volume.site.files.read_at(volume.dat, offset, length)
    except OSError as error:
        volume.note_io(error)
        raise
    if len(raw) < length:
        raise CorruptNeedle.eof()
    return raw


def stored_cookie(volume: Volume, offset: int) -> int:
    """Cookie of the record at ``offset``. Raises `DiskError`."""
    try:
        cookie, _, _ = decode_header(read_stored(volume, offset, HEADER_LENGTH))
    except (OSError, CorruptNeedle) as error:
        reason = error_text(error) if isinstance(error, OSError) else error.text
        raise DiskError(f"reading existing needle: {reason}") from error
    return cookie


def data_position(volume: Volume, offset: int, size: int, checksum: int, data_length: int) -> int | None:
    """Where the data of the record lie, None when length or checksum show that they are others: most rewrites
    differ in one of them. Raises `OSError`, `CorruptNeedle`."""
    if volume.version > 1:
        head = read_stored(volume, offset, PAGED_HEAD_LENGTH)
        data_at, stored_length = offset + PAGED_HEAD_LENGTH, int.from_bytes(head[HEADER_LENGTH:], "big")
    else:
        data_at, stored_length = offset + HEADER_LENGTH, size
    if stored_length != data_length:
        return None
    stored = int.from_bytes(read_stored(volume, offset + HEADER_LENGTH + size, _CHECKSUM_LENGTH), "big")
    return data_at if matches(checksum, stored) else None
