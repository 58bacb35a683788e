"""Files of mounted volumes, read by the call's own thread: a disk that hangs holds up nobody else."""

from __future__ import annotations

from collections.abc import Iterator

from volumed.bus.copy_calls import DescribeVolume, VolumeFilesView
from volumed.errors import StaleGeneration, VolumedError
from volumed.grpc import texts
from volumed.grpc.node import GrpcNode
from volumed.storage.fileio import File, FileIO, error_text

__all__ = ["BLOCK_BYTES", "VolumeFiles", "blocks"]

BLOCK_BYTES = 2 << 20
"""Most that a message carries of a file."""


class VolumeFiles:
    """The files of one volume as the worker has described them."""

    def __init__(self, io: FileIO, view: VolumeFilesView) -> None:
        self.io = io
        self.view = view

    @classmethod
    def describe(cls, node: GrpcNode, volume_id: int) -> VolumeFiles:
        """Raises `VolumedError`, ``not found volume id N`` for one."""
        view = node.volume_call(volume_id, DescribeVolume(volume_id), texts.no_such_volume_id(volume_id))
        return cls(FileIO(), view)

    def path(self, extension: str) -> str:
        """Where the file is, if it is."""
        return (self.view.index_base if extension == ".idx" else self.view.data_base) + extension

    def length(self, extension: str, file: File) -> int:
        """How much of a file counts: what is behind may be of a write that fails yet."""
        counts = {".dat": self.view.dat_end, ".idx": self.view.idx_bytes}
        size = self.io.size(file)
        return min(size, counts.get(extension, size))

    def open(self, extension: str) -> File:
        """Raises `FileNotFoundError`, other `OSError`, `StaleGeneration` (not the file that was described)."""
        file = self.io.open(self.path(extension), writable=False)
        inode = {".dat": self.view.dat_inode, ".idx": self.view.idx_inode}.get(extension)
        # A local copy of a `.dat` that is in a remote tier is any file: nobody reads it.
        if inode and inode != file.inode:
            raise StaleGeneration(f"{file.path} was replaced")
        return file


def blocks(io: FileIO, file: File, start: int, end: int) -> Iterator[bytes]:
    """The bytes from ``start`` to ``end``, or to the end of the file. Raises `VolumedError`."""
    while start < end:
        try:
            block = io.read_at(file, start, min(BLOCK_BYTES, end - start))
        except OSError as error:
            raise VolumedError(f"read {file.path}: {error_text(error)}") from error
        if not block:
            return
        yield block
        start += len(block)
