"""CRC-32C of needle data and its text form (docs/spec/storage.md 3.4)."""

from __future__ import annotations

from crc32c import crc32c

__all__ = ["crc32c", "etag", "masked", "matches"]

_MASK_DELTA = 0xA282EAD8


def masked(crc: int) -> int:
    """The masked form of a raw checksum: stored before release 3.09, and what gRPC reports today."""
    return ((crc >> 15 | crc << 17) + _MASK_DELTA) & 0xFFFFFFFF


def matches(calculated: int, stored: int) -> bool:
    """Whether a stored checksum, raw or of the old masked form, is that of the data."""
    return stored == calculated or stored == masked(calculated)


def etag(crc: int) -> str:
    """8 lower-case hex digits, without quotes."""
    return f"{crc:08x}"
