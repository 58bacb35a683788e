"""One mounted volume. SKELETON: signatures are settled, bodies follow."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["Volume"]


class VolumeSnapshot(NamedTuple):
    """What a reader thread needs; replaced as a whole, never changed."""

    generation: int
    version: int


class Volume:
    """State of a mounted volume. Mutations on the worker's loop thread only; reads from any thread."""

    volume_id: int
    collection: str

    def read_needle(self, key: int, flags: int) -> bytes:
        """Payload of `read_payload.pack_payload`. Any thread; may wait for the disk.

        ``flags``: bus.frames FLAG_READ_DELETED, FLAG_META_ONLY. Raises NeedleNotFound, NeedleDeleted,
        VolumeUnavailable, CorruptNeedle (short file, S mismatch of a metadata read), DiskError.
        The caller verifies the record (S, CRC) and compares the cookie."""
        raise NotImplementedError

    def read_range(self, generation: int, offset: int, length: int) -> bytes:
        """Raw bytes of `.dat`. Any thread. Raises StaleGeneration, CorruptNeedle (EOF), VolumeUnavailable."""
        raise NotImplementedError
