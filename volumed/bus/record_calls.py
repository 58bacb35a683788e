"""Calls that store records of another volume, a copy of it or one that is merged, as they are (grpc.md 3.21, 3.24)."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from volumed.bus.calls import Request

__all__ = ["RECORDS_BYTES_TARGET", "RECORDS_MAX", "ForeignRecord", "RecordsStored", "StoreRecords"]

RECORDS_BYTES_TARGET = 1 << 20
"""What the bodies of one call should take; a single record may be longer."""
RECORDS_MAX = 512
"""Of one call."""


class ForeignRecord(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A record without its footer; the append time is given anew."""

    key: int
    """Of the index row."""
    header: bytes
    """16 bytes; its own key may be another one."""
    body: bytes
    checksum: int
    """As stored."""


class RecordsStored(msgspec.Struct, frozen=True):
    """All were stored, or were there already."""


class StoreRecords(Request, frozen=True):
    """Store in order; fails with the first error. Unless ``verbatim``, bodies are verified and cookies compared.
    S = 0 deletes what is not an empty object (grpc.md P7)."""

    volume_id: int
    records: list[ForeignRecord]
    verbatim: bool = False
    zero_is_any_cookie: bool = False
    """A record with cookie 0 gets that of the needle it overwrites."""
    Result: ClassVar[type[msgspec.Struct]] = RecordsStored
