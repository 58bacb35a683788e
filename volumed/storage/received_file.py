"""A single file of a volume that comes from outside (docs/spec/grpc.md 3.18)."""

from __future__ import annotations

import os

from volumed.erasure.names import RECEIVING
from volumed.errors import ClientError
from volumed.storage.fileio import Buffer, File, FileIO
from volumed.storage.site import DATA_EXTENSIONS, INDEX_EXTENSIONS

__all__ = ["ReceivedFile", "check_ec_replaceable", "check_replaceable"]

_OURS = frozenset(DATA_EXTENSIONS + INDEX_EXTENSIONS) - {".vif"}
_CODED = ".ec"


def check_replaceable(volume_id: int, extension: str) -> None:
    """Refuse a file that would change what a mounted volume is, now or at the next start. Raises `ClientError`."""
    if extension.startswith(_CODED):
        raise ClientError(f"volume {volume_id} is mounted, its {extension} cannot be replaced")
    check_ec_replaceable(volume_id, extension)


def check_ec_replaceable(volume_id: int, extension: str) -> None:
    """The same of a file of the erasure coded volume with the id of a mounted one: they share the `.vif`."""
    # DEVIATE: the reference writes over the `.dat` and `.idx` that it has open, and takes marks from anybody.
    if extension in _OURS:
        raise ClientError(f"volume {volume_id} is mounted, its {extension} cannot be replaced")


class ReceivedFile:
    """One file, which gets its name when it is complete. Any thread, one at a time; the methods raise `OSError`."""

    def __init__(self, files: FileIO, path: str) -> None:
        self.path = path
        self._files = files
        self._file: File | None = None
        self._length = 0

    @property
    def file(self) -> File:
        """What there is of it."""
        assert self._file is not None
        return self._file

    def create(self) -> None:
        """Begin it."""
        self._file = self._files.open(self.path + RECEIVING, create=True)
        self._files.truncate(self._file, 0)

    def write(self, block: Buffer) -> None:
        """Append."""
        self._length += self._files.write_at(self.file, self._length, [block])

    def complete(self) -> None:
        """Put it in its place, durably."""
        self._files.sync(self.file)
        self._files.rename(self.file.path, self.path)
        self._files.sync_directory(os.path.dirname(self.path))
        self._file = None

    def discard(self) -> None:
        """Remove what there is of it."""
        self._file = None
        self._files.remove(self.path + RECEIVING)
