"""Payload of a ``READ_NEEDLE`` reply: where the record lies, then its bytes (shared by workers and fronts).

Little-endian ``version u8, generation u32, offset u64, size i32``, then

* the whole record (storage.md 3), nothing for an empty object (``size`` 0); or
* for a metadata read of a record with S above `needle.PAGED_SIZE_MIN`: its first 20 bytes (header and data size D),
  then everything behind the data, from ``offset + 20 + D`` to the record's end (storage.md 3.7).
"""

from __future__ import annotations

from struct import Struct
from typing import NamedTuple

from volumed.formats.needle import (
    PAGED_HEAD_LENGTH,
    PAGED_SIZE_MIN,
    Needle,
    PagedHead,
    decode_body_meta,
    decode_paged_head,
    decode_record,
)

__all__ = ["ReadPayload", "decode_payload", "pack_payload", "unpack_payload"]

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
    version, generation, offset, size = _HEAD.unpack_from(payload)
    return ReadPayload(version, generation, offset, size, payload[_HEAD.size :])


def decode_payload(payload: ReadPayload) -> tuple[Needle, PagedHead | None]:
    """The needle of a metadata read; with a head if it came without its data, whose checksum is then unverified.

    ``size`` must not be 0. Raises `CorruptNeedle`."""
    version, _, offset, size, record = payload
    if size <= PAGED_SIZE_MIN or version == 1:
        return decode_record(record, version, size, offset), None
    head = decode_paged_head(record[:PAGED_HEAD_LENGTH], version, size, offset)
    return decode_body_meta(head, record[PAGED_HEAD_LENGTH:], version), head
