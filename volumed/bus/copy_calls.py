"""Calls about a volume as a set of files: to describe it, and to bring one in from another server.

A volume that arrives belongs to the worker of its disk; the front that receives it hands over block by block, through
memory that both map (`volumed.bus.staging`):

    OpenCopy → (WriteCopy … → EndCopiedFile) per file → MountCopy → CloseCopy

Until it is closed with ``keep`` the volume is there on trial: it is removed when the copy is closed without, when its
front is gone, and at the next start.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from volumed.bus.calls import Request

__all__ = [
    "CloseCopy",
    "CopyMounted",
    "CopyOpened",
    "CopyRequest",
    "DescribeVolume",
    "EndCopiedFile",
    "LiveDeletions",
    "LiveDeletionsView",
    "MountCopy",
    "OpenCopy",
    "VolumeFilesView",
    "WriteCopy",
]


class VolumeFilesView(msgspec.Struct, frozen=True):
    """A mounted volume as its files: where they are, and how much of them counts."""

    collection: str
    disk_type: str
    data_base: str
    """Path of a file in the data directory, without the extension."""
    index_base: str
    """The same in the directory of the `.idx`."""
    dat_inode: int
    idx_inode: int
    dat_end: int
    idx_bytes: int
    version: int
    offset_width: int
    replica_placement: int
    ttl: int
    """32-bit wire form (storage.md 1.4)."""
    compaction_revision: int
    file_count: int
    file_deleted_count: int
    modified_at_s: int
    vif: bytes
    """The `.vif`, as it would be written now."""


class DescribeVolume(Request, frozen=True):
    """The files of a mounted volume, from memory; ``not found volume id <vid>``."""

    volume_id: int
    Result: ClassVar[type[msgspec.Struct]] = VolumeFilesView


class CopyOpened(msgspec.Struct, frozen=True):
    """A copy was begun."""

    copy_id: int


class OpenCopy(Request, frozen=True):
    """Begin to take in a volume, which must not be mounted; whatever files of it are on the disk are removed."""

    volume_id: int
    collection: str
    source: str
    """For the note that marks an incomplete volume."""
    staging_path: str
    Result: ClassVar[type[msgspec.Struct]] = CopyOpened


class WriteCopy(Request, frozen=True):
    """Append the first ``length`` bytes of the staging memory to a file of the volume, ``.dat`` or another."""

    copy_id: int
    extension: str
    length: int
    """0 creates the file."""


class EndCopiedFile(Request, frozen=True):
    """The file is complete; ``modified_at_ns`` becomes its time."""

    copy_id: int
    extension: str
    modified_at_ns: int


class CopyMounted(msgspec.Struct, frozen=True):
    """A volume that was taken in, as it was loaded."""

    file_count: int
    file_deleted_count: int
    last_append_at_ns: int
    """Of the record that the last row names, 0 = there is none (grpc.md 3.16)."""
    modified_at_s: int


class MountCopy(Request, frozen=True):
    """Make the files durable, give them their names, and mount the volume. Fails when a size is not as announced."""

    copy_id: int
    dat_bytes: int
    """-1: the source keeps it elsewhere."""
    idx_bytes: int
    Result: ClassVar[type[msgspec.Struct]] = CopyMounted


class LiveDeletionsView(msgspec.Struct, frozen=True):
    """A number of deletions."""

    count: int


class LiveDeletions(Request, frozen=True):
    """Deletions in the mounted volume as the reference counts them while it runs, not after a start (grpc.md 3.33)."""

    copy_id: int
    Result: ClassVar[type[msgspec.Struct]] = LiveDeletionsView


class CloseCopy(Request, frozen=True):
    """End the copy; without ``keep`` the volume and all its files are removed. Absent is not an error."""

    copy_id: int
    keep: bool


CopyRequest = DescribeVolume | OpenCopy | WriteCopy | EndCopiedFile | MountCopy | LiveDeletions | CloseCopy
