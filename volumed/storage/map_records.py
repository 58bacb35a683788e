"""Binary values of the needle map: entries, volume records, progress records (ARCHITECTURE.md, "The needle map").

The map never leaves its machine and is thrown away when in doubt, so its values have no versions. A change of a
layout needs a new `MAP_FORMAT`, which makes every older environment stale.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field
from struct import Struct

__all__ = [
    "ENTRY",
    "ENTRY_KEY",
    "MAP_FORMAT",
    "NO_FLAGS",
    "READ_ONLY",
    "VOLUME_KEY",
    "Counters",
    "VolumeFlag",
    "VolumeProgress",
    "VolumeRecord",
]

MAP_FORMAT = 3

ENTRY_KEY = Struct(">IQ")
"""Key of a needle entry: map id of the volume, needle id."""

ENTRY = Struct(">Qi")
"""Value of a needle entry: offset of the last put in bytes, size S; negative = deleted (storage.md 4.2)."""

VOLUME_KEY = Struct(">I")
"""Key of a volume or progress record."""

_RECORD = Struct("<IBBHHQIIHH")
_PROGRESS = Struct("<QHQQ17sQQQQQQQQiQQI")


class VolumeFlag(enum.IntFlag):
    """Reasons to refuse work (docs/spec/storage.md 5.4), with the letters used there."""

    NO_WRITE_OR_DELETE = 1
    """A"""
    NO_WRITE_CAN_DELETE = 2
    """B"""
    DISK_SPACE_LOW = 4
    """C: deletes still work."""
    UNAVAILABLE = 8
    """U: nothing works, reads included."""


NO_FLAGS = VolumeFlag(0)

READ_ONLY = VolumeFlag.NO_WRITE_OR_DELETE | VolumeFlag.NO_WRITE_CAN_DELETE | VolumeFlag.DISK_SPACE_LOW
"""What "read-only" means in reports."""


@dataclass(frozen=True, slots=True)
class VolumeRecord:
    """What a reader must know about a mounted volume. It changes rarely: readers keep the parsed form as long as
    the raw bytes are equal."""

    generation: int
    """Changes whenever an offset that a reader may hold becomes invalid; never 0."""
    version: int
    replica_placement: int
    """Effective byte, `.vif` override applied."""
    ttl: int
    """32-bit wire form (storage.md 1.4)."""
    flags: VolumeFlag
    compaction_revision: int
    dat_inode: int
    """0 when the data are in a remote tier: only the worker can read them."""
    dat_path: str
    """Where the file would be then."""
    collection: str
    map_id: int = 0
    """First part of the keys of the volume's entries; a vacuum changes it."""

    @property
    def is_remote(self) -> bool:
        """The data are in a remote tier."""
        return not self.dat_inode

    @property
    def read_only(self) -> bool:
        """As reported: A, B or C."""
        return bool(self.flags & READ_ONLY)

    def encode(self) -> bytes:
        """Raises `ValueError` for a path or collection over 65535 bytes."""
        path, collection = self.dat_path.encode("utf-8", "surrogateescape"), self.collection.encode()
        if max(len(path), len(collection)) > 0xFFFF:
            raise ValueError("path or collection too long for a volume record")
        head = _RECORD.pack(
            self.generation,
            self.version,
            self.replica_placement,
            self.flags,
            self.compaction_revision,
            self.dat_inode,
            self.ttl,
            self.map_id,
            len(path),
            len(collection),
        )
        return head + path + collection

    @classmethod
    def decode(cls, raw: bytes) -> VolumeRecord:
        """The inverse of `encode`."""
        generation, version, placement, flags, revision, inode, ttl, map_id, path_length, _ = _RECORD.unpack_from(raw)
        path_end = _RECORD.size + path_length
        return cls(
            generation,
            version,
            placement,
            ttl,
            VolumeFlag(flags),
            revision,
            inode,
            raw[_RECORD.size : path_end].decode("utf-8", "surrogateescape"),
            raw[path_end:].decode(),
            map_id,
        )


@dataclass(slots=True)
class Counters:
    """Needle counters under the load rule, the same live and after a reload (docs/spec/grpc.md 3.33, P10).

    ``old_size`` below is the size the map held for the key before the row: None = unknown, negative = deleted.
    """

    file_count: int = 0
    """Puts ever indexed, not live objects."""
    content_bytes: int = 0
    deleted_count: int = 0
    deleted_bytes: int = 0

    def put(self, size: int, old_size: int | None) -> None:
        """Account for a live row."""
        self.file_count += 1
        self.content_bytes += size
        if old_size is not None and old_size >= 0:
            self.deleted_count += 1
            self.deleted_bytes += old_size

    def delete(self, old_size: int | None) -> None:
        """Account for a deletion row; a row counts even when nothing was live."""
        self.deleted_count += 1
        if old_size is not None and old_size > 0:
            self.deleted_bytes += old_size


@dataclass(slots=True)
class VolumeProgress:
    """How much of a volume's `.idx` the map holds, and what follows from those rows."""

    dat_inode: int = 0
    compaction_revision: int = 0
    idx_inode: int = 0
    """With the two before it: which files these are."""
    idx_bytes: int = 0
    """Bytes of `.idx` applied."""
    last_row: bytes = b""
    """The last applied row, as in the file."""
    counters: Counters = field(default_factory=Counters)
    max_key: int = 0
    """Over all rows, deletions included."""
    max_record_end: int = 0
    """Over rows with offset ≠ 0 and S > 0, in bytes (storage.md 4.2)."""
    tail_key: int = 0
    tail_offset: int = 0
    tail_size: int = 0
    """Row with the largest offset, which the tail check looks at (storage.md 5.7); offset 0 = no such row."""
    last_append_at_ns: int = 0
    ttl_clock_s: int = 0
    """The volume's TTL clock in seconds since 1970 (storage.md 5.9)."""
    map_id: int = 0
    """Under which the entries are."""

    def encode(self) -> bytes:
        """Fixed-length binary form."""
        counters = self.counters
        return _PROGRESS.pack(
            self.dat_inode,
            self.compaction_revision,
            self.idx_inode,
            self.idx_bytes,
            self.last_row,
            counters.file_count,
            counters.content_bytes,
            counters.deleted_count,
            counters.deleted_bytes,
            self.max_key,
            self.max_record_end,
            self.tail_key,
            self.tail_offset,
            self.tail_size,
            self.last_append_at_ns,
            self.ttl_clock_s,
            self.map_id,
        )

    @staticmethod
    def map_id_of(raw: bytes) -> int:
        """Only the map id of a binary form."""
        return int(_PROGRESS.unpack(raw)[-1])

    @classmethod
    def decode(cls, raw: bytes, row_length: int) -> VolumeProgress:
        """The inverse of `encode`; ``row_length`` is that of `.idx` rows."""
        dat_inode, revision, idx_inode, idx_bytes, last_row, *numbers = _PROGRESS.unpack(raw)
        last_row = last_row[:row_length] if idx_bytes else b""
        return cls(dat_inode, revision, idx_inode, idx_bytes, last_row, Counters(*numbers[:4]), *numbers[4:])
