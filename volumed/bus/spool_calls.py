"""Calls of a large upload: its data go to the disk's worker in pieces before it is known what they make.

The worker keeps them in a spool, a nameless file on its disk. A spool belongs to the front that opened it: only that
one can use it, and it is gone with the front. One append of a spool is under way at a time.

    OpenSpool → AppendSpool … → StoreSpool (→ ReadSpool …, for the replicas) → CloseSpool
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from volumed.bus.calls import Request

__all__ = [
    "SPOOL_BLOCK_BYTES_MAX",
    "AppendSpool",
    "AppendSpoolData",
    "CloseSpool",
    "OpenSpool",
    "ReadSpool",
    "SpoolBlock",
    "SpoolRequest",
    "SpoolStored",
    "StoreSpool",
]

SPOOL_BLOCK_BYTES_MAX = 1 << 20
"""Longest piece of one append or read."""


class OpenSpool(Request, frozen=True):
    """Make an empty spool. Fails with `NoFreeSpace` when ``expected_bytes`` would not fit, and `RetryError` when there
    are too many."""

    spool_id: int
    """Given by the sender, which never uses one twice: so it can close a spool whose opening it did not wait for."""
    expected_bytes: int
    """0 = not known."""


class AppendSpool(Request, frozen=True):
    """Append ``length`` bytes that lie at ``shared_at`` of the sender's body pool."""

    spool_id: int
    shared_at: int
    length: int


class AppendSpoolData(Request, frozen=True):
    """Append what comes with the call; for a sender without a body pool."""

    spool_id: int
    data: bytes


class SpoolBlock(msgspec.Struct, frozen=True):
    """Bytes of a spool."""

    data: bytes


class ReadSpool(Request, frozen=True):
    """Read ``length`` bytes at ``offset``, all of which were appended."""

    spool_id: int
    offset: int
    length: int
    Result: ClassVar[type[msgspec.Struct]] = SpoolBlock


class SpoolStored(msgspec.Struct, frozen=True):
    """Like `volumed.bus.frames.StoreResult`; errors are the call's."""

    outcome: int
    size: int


class StoreSpool(Request, frozen=True):
    """Put the needle whose body is ``prefix``, all data of the spool, ``suffix`` (storage.md 3.2). The spool stays."""

    spool_id: int
    volume_id: int
    generation: int
    cookie: int
    key: int
    checksum: int
    """Raw CRC-32C of the data."""
    prefix: bytes
    suffix: bytes
    flags: int = 0
    """`FLAG_FSYNC` of `volumed.bus.frames`."""
    Result: ClassVar[type[msgspec.Struct]] = SpoolStored


class CloseSpool(Request, frozen=True):
    """Throw a spool away; absent is not an error."""

    spool_id: int


SpoolRequest = OpenSpool | AppendSpool | AppendSpoolData | ReadSpool | StoreSpool | CloseSpool
