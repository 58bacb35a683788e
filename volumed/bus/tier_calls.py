"""Calls that move the data of a volume to a remote tier and back (docs/spec/grpc.md 5.3, 5.4).

A move takes as long as it takes: it is started by one call, and looked at by others until it is over. It goes on when
nobody looks.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from volumed.bus.calls import Request

__all__ = [
    "DISTANT_BYTES_MAX",
    "DistantBytes",
    "FetchTier",
    "ReadDistant",
    "TierMove",
    "TierMoveView",
    "TierRequest",
    "UploadTier",
    "WatchTier",
]

DISTANT_BYTES_MAX = 4 << 20


class TierMove(msgspec.Struct, frozen=True):
    """A move that has started; 0 = there is nothing to do."""

    move_id: int


class UploadTier(Request, frozen=True):
    """Move the data of a volume to a backend, ``destination`` as an operator names it."""

    volume_id: int
    collection: str
    destination: str
    keep_local: bool = False
    """Keep the `.dat`, though nothing reads it any more."""
    concurrency: int = 0
    """Parts at a time; 0 = as configured."""
    Result: ClassVar[type[msgspec.Struct]] = TierMove


class FetchTier(Request, frozen=True):
    """Bring the data back to the disk."""

    volume_id: int
    collection: str
    keep_remote: bool = False
    """Leave the object where it is."""
    concurrency: int = 0
    Result: ClassVar[type[msgspec.Struct]] = TierMove


class TierMoveView(msgspec.Struct, frozen=True):
    """How far a move is, in bytes."""

    processed: int
    total: int
    ended: bool


class WatchTier(Request, frozen=True):
    """Look at a move. Fails as the move has failed; a move that is over can be looked at once."""

    move_id: int
    Result: ClassVar[type[msgspec.Struct]] = TierMoveView


class DistantBytes(msgspec.Struct, frozen=True):
    """A piece of a `.dat`."""

    data: bytes


class ReadDistant(Request, frozen=True):
    """Bytes of a `.dat` that is in a remote tier, for a process that reads those on the disk by itself. Fails with
    `StaleGeneration` when the volume is not the one that was looked at."""

    volume_id: int
    generation: int
    offset: int
    length: int
    """`DISTANT_BYTES_MAX` at most."""
    Result: ClassVar[type[msgspec.Struct]] = DistantBytes


TierRequest = UploadTier | FetchTier | WatchTier | ReadDistant
