"""Payload of a ``READ_NEEDLE`` reply: where the record lies, then its bytes (shared by workers and fronts).

Little-endian ``version u8, generation u32, offset u64, size i32``, then

* the whole record (storage.md 3), nothing for an empty object (``size`` 0); or
* for a metadata read of a record with S above `PAGED_READ_SIZE`: its first 20 bytes (header and data size D), then
  everything behind the data, from ``offset + 20 + D`` to the record's end (storage.md 3.7).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

__all__ = ["META_BYTES_MAX", "PAGED_HEAD_BYTES", "PAGED_READ_SIZE", "ReadPayload", "pack_payload", "unpack_payload"]

PAGED_READ_SIZE = 1 << 20
"""Records with S above this may be read page by page."""

PAGED_HEAD_BYTES = 20
"""Record header and data size."""

META_BYTES_MAX = 131072
"""Longest part behind the data that a metadata read accepts."""

_HEAD = Struct("<BIQi")


class ReadPayload(NamedTuple):
    """``size`` is S of the index row, positive also for a needle read as deleted."""

    version: int
    generation: int
    offset: int
    size: int
    record: bytes | memoryview


def pack_payload(version: int, generation: int, offset: int, size: int, record: bytes) -> bytes:
    """The reply for one read."""
    return _HEAD.pack(version, generation, offset, size) + record


def unpack_payload(payload: bytes | memoryview) -> ReadPayload:
    """The inverse of `pack_payload`; ``record`` is a slice of ``payload``."""
    return ReadPayload(*_HEAD.unpack_from(payload), payload[_HEAD.size :])
