"""The files of a volume that is being copied here from another server (docs/spec/grpc.md 3.16).

Each file arrives as ``<file>.copying``; a note beside them says that the volume is incomplete. Only when everything is
on the disk the files get their names, all at once as far as anybody can see: as long as the note is there, the volume
is removed at the next start. Any thread, one at a time.
"""

from __future__ import annotations

from volumed.errors import VolumedError
from volumed.storage.directory import remove_incomplete
from volumed.storage.fileio import Buffer, File, FileIO
from volumed.storage.site import COPYING, VolumePaths

__all__ = ["COPIED_EXTENSIONS", "IncomingVolume", "SizeDiffers"]

COPIED_EXTENSIONS = (".dat", ".idx", ".vif")

_NOTE_MODE = 0o755
_SYNC_BYTES = 256 << 20
"""So much waits for the disk at most: more would hold up the writes of others."""


class SizeDiffers(VolumedError):
    """What arrived is not as long as the source has said."""

    @classmethod
    def of_data(cls, found: int, expected: int) -> SizeDiffers:
        return cls(f"the dat file size [{found}] is not same as origin file size [{expected}]")

    @classmethod
    def of_index(cls, path: str, found: int, expected: int) -> SizeDiffers:
        return cls(f"idx file {path} size [{found}] is not same as origin file size [{expected}]")


class _Arriving:
    """One file."""

    __slots__ = ("file", "length", "unsynced")

    def __init__(self, file: File) -> None:
        self.file = file
        self.length = 0
        self.unsynced = 0


class IncomingVolume:
    """One copy, from `begin` to `complete` or `discard`. The methods that work raise `OSError`."""

    def __init__(self, files: FileIO, paths: VolumePaths) -> None:
        self._files = files
        self.paths = paths
        self._arriving: dict[str, _Arriving] = {}

    def begin(self, source: str) -> None:
        """Remove whatever there is of the volume, and leave the note."""
        remove_incomplete(self._files, self.paths)
        note = f"copying from {source}".encode()
        self._files.replace_file(self.paths.data(".note"), note, _NOTE_MODE)

    def write(self, extension: str, block: Buffer, reserve_bytes: int = 0) -> None:
        """Append to a file; the first block, which may be empty, creates it."""
        arriving = self._arriving.get(extension)
        if arriving is None:
            arriving = self._arriving[extension] = _Arriving(self._create(extension))
            if reserve_bytes:
                self._files.reserve(arriving.file, reserve_bytes)
        if block:
            self._files.write_at(arriving.file, arriving.length, [block])
        arriving.length += len(block)
        arriving.unsynced += len(block)
        if arriving.unsynced >= _SYNC_BYTES:
            self._files.sync(arriving.file)
            arriving.unsynced = 0

    def end_file(self, extension: str, modified_at_ns: int) -> None:
        """A file is complete."""
        arriving = self._arriving.get(extension)
        if arriving is not None:
            self._files.set_modified(arriving.file, modified_at_ns)

    def complete(self, dat_bytes: int, idx_bytes: int) -> None:
        """All files are there. Raises `SizeDiffers` when one is not as long as the source has said; ``dat_bytes`` -1
        means that there is none."""
        for arriving in self._arriving.values():
            self._files.sync(arriving.file)
        self._check_sizes(dat_bytes, idx_bytes)
        for extension, arriving in self._arriving.items():
            self._files.rename(arriving.file.path, self._path(extension))
        self._sync_directories()
        self._files.remove(self.paths.data(".note"))
        self._sync_directories()
        self._arriving.clear()

    def discard(self) -> None:
        """Remove everything, the note last."""
        self._arriving.clear()
        remove_incomplete(self._files, self.paths)

    def _create(self, extension: str) -> File:
        file = self._files.open(self._path(extension) + COPYING, create=True)
        self._files.truncate(file, 0)
        return file

    def _path(self, extension: str) -> str:
        return self.paths.index(extension) if extension == ".idx" else self.paths.data(extension)

    def _length(self, extension: str) -> int:
        arriving = self._arriving.get(extension)
        return 0 if arriving is None else arriving.length

    def _check_sizes(self, dat_bytes: int, idx_bytes: int) -> None:
        dat, idx = self._length(".dat"), self._length(".idx")
        if dat_bytes >= 0 and dat != dat_bytes:
            raise SizeDiffers.of_data(dat, dat_bytes)
        if idx != idx_bytes:
            raise SizeDiffers.of_index(self._path(".idx"), idx, idx_bytes)

    def _sync_directories(self) -> None:
        for directory in self.paths.directories():
            self._files.sync_directory(directory)
