"""The superblock: the first bytes of a `.dat` file (docs/spec/storage.md 2)."""

from __future__ import annotations

from dataclasses import dataclass
from struct import Struct

from volumed.errors import FormatError
from volumed.formats.replication import NO_REPLICATION, ReplicaPlacement
from volumed.formats.ttl import NO_TTL, Ttl

__all__ = [
    "CURRENT_VERSION",
    "SUPERBLOCK_LENGTH",
    "SUPERBLOCK_LENGTH_MAX",
    "VERSIONS",
    "SuperBlock",
    "superblock_length",
]

VERSIONS = (1, 2, 3)
CURRENT_VERSION = 3

SUPERBLOCK_LENGTH = 8
"""Bytes before the extra part; the whole superblock of every volume that exists in practice."""
EXTRA_LENGTH_MAX = 0xFFFF
SUPERBLOCK_LENGTH_MAX = SUPERBLOCK_LENGTH + EXTRA_LENGTH_MAX
"""Reading this many bytes (or what the file has) is always enough to decode."""

_FIXED = Struct(">BB2sHH")


def superblock_length(head: bytes) -> int:
    """Length of the superblock that starts with ``head``, its first `SUPERBLOCK_LENGTH` bytes."""
    version, *_, extra_length = _FIXED.unpack(head)
    return SUPERBLOCK_LENGTH + (extra_length if version > 1 else 0)


@dataclass(frozen=True, slots=True)
class SuperBlock:
    """What a volume says about itself. `extra` is the undecoded protobuf `SuperBlockExtra`, kept as it is."""

    version: int = CURRENT_VERSION
    replica_placement: ReplicaPlacement = NO_REPLICATION
    ttl: Ttl = NO_TTL
    compaction_revision: int = 0
    extra: bytes = b""

    @property
    def length(self) -> int:
        """Offset of the first record, in bytes. Version 1 has no extra part."""
        return SUPERBLOCK_LENGTH + (len(self.extra) if self.version > 1 else 0)

    def encode(self) -> bytes:
        """Raises `FormatError` for a version that does not exist."""
        if self.version not in VERSIONS:
            raise FormatError.unsupported_version(self.version)
        extra = self.extra if self.version > 1 else b""
        placement, revision = self.replica_placement.byte, self.compaction_revision & 0xFFFF
        return _FIXED.pack(self.version, placement, self.ttl.to_bytes(), revision, len(extra)) + extra

    @classmethod
    def decode(cls, buffer: bytes | memoryview) -> SuperBlock:
        """Decode the start of a file. Raises `FormatError`: cut short, or a version that does not exist."""
        if len(buffer) < SUPERBLOCK_LENGTH:
            raise FormatError("EOF")
        version, placement, ttl, revision, extra_length = _FIXED.unpack_from(buffer)
        if version not in VERSIONS:
            raise FormatError.unsupported_version(version)
        end = SUPERBLOCK_LENGTH + (extra_length if version > 1 else 0)
        if len(buffer) < end:
            raise FormatError("EOF")
        return cls(
            version,
            ReplicaPlacement.from_byte(placement),
            Ttl.from_bytes(ttl),
            revision,
            bytes(buffer[SUPERBLOCK_LENGTH:end]),
        )
