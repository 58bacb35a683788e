"""Calls that put single files beside a volume, block by block through memory that both sides map
(``volumed.bus.staging``), and that change a volume's side files.

    OpenFile or OpenEcFile → WriteFile … → CloseFile
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from volumed.bus.calls import Request

__all__ = [
    "CloseFile",
    "ConfigureVolume",
    "ConsolidateIndex",
    "FileClosed",
    "FileOpened",
    "FileRequest",
    "OpenEcFile",
    "OpenFile",
    "VolumeConfigured",
    "WriteFile",
]


class FileOpened(msgspec.Struct, frozen=True):
    """A file was begun."""

    file_id: int


class OpenFile(Request, frozen=True):
    """Begin a file of a volume: of a mounted one under its own name, of an absent one as ``<file>.copying``."""

    volume_id: int
    collection: str
    """Of an absent volume."""
    extension: str
    staging_path: str
    Result: ClassVar[type[msgspec.Struct]] = FileOpened


class OpenEcFile(Request, frozen=True):
    """Begin a file of an erasure coded volume, which takes the place of the one that is there when it is complete."""

    volume_id: int
    collection: str
    extension: str
    in_index: bool
    """Whether it belongs in the index directory."""
    staging_path: str
    Result: ClassVar[type[msgspec.Struct]] = FileOpened


class WriteFile(Request, frozen=True):
    """Append the first ``length`` bytes of the staging memory."""

    file_id: int
    length: int


class FileClosed(msgspec.Struct, frozen=True):
    """``deletions``: the file is another copy of the `.ecx` that is there, which stays; these needles are deleted only
    in the other one. They belong in the journal."""

    deletions: list[int] = []


class CloseFile(Request, frozen=True):
    """The file is complete and becomes durable, or, without ``keep``, is removed. Absent is not an error."""

    file_id: int
    keep: bool
    Result: ClassVar[type[msgspec.Struct]] = FileClosed


class VolumeConfigured(msgspec.Struct, frozen=True):
    """What became of it: ``failed_step`` is "unmount" or "mount", empty when all went well."""

    failed_step: str = ""
    reason: str = ""


class ConfigureVolume(Request, frozen=True):
    """Unmount a volume, store a replication in its `.vif`, mount it; "" = what the superblock says (grpc.md 3.14)."""

    volume_id: int
    replication: str
    Result: ClassVar[type[msgspec.Struct]] = VolumeConfigured


class ConsolidateIndex(Request, frozen=True):
    """Move the index files of a mounted volume from the data directory to the index directory (grpc.md 3.10)."""

    volume_id: int


FileRequest = OpenFile | OpenEcFile | WriteFile | CloseFile | ConfigureVolume | ConsolidateIndex
