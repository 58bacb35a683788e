"""Moving a volume's index files into the directory of `-dir.idx` (docs/spec/grpc.md 3.10)."""

from __future__ import annotations

from volumed.storage.fileio import FileIO
from volumed.storage.site import VolumePaths

__all__ = ["IndexMove"]

_BLOCK_BYTES = 4 << 20
_IN_PROGRESS = ".idx.tmp"


class IndexMove:
    """One move: `copy_ahead` while the volume is in use, `finish` when it is closed. The methods raise `OSError`.

    As long as there is an `.idx` beside the `.dat`, that one is used; it is removed when the other one is durable.
    """

    def __init__(self, files: FileIO, source: VolumePaths, target: VolumePaths) -> None:
        self._files = files
        self._source = source
        self._target = target
        self._copied = 0

    def copy_ahead(self) -> None:
        """Copy what there is of the `.idx`: rows never change, only more come (any thread)."""
        self._copied = self._append(self._target.index(_IN_PROGRESS), 0)

    def finish(self) -> None:
        """Copy the rest, and change over."""
        files, target = self._files, self._target
        progress = target.index(_IN_PROGRESS)
        self._append(progress, self._copied)
        files.rename(progress, target.index(".idx"))
        files.sync_directory(target.index_directory)
        files.remove(self._source.index(".idx"))
        # A sorted index can be made of the other one any time, and nobody here makes any.
        files.remove(self._source.index(".sdx"))
        files.sync_directory(self._source.index_directory)

    def give_up(self) -> None:
        """Remove what was copied."""
        self._files.remove(self._target.index(_IN_PROGRESS))

    def _append(self, path: str, start: int) -> int:
        """Copy from ``start`` on; how long the copy is then."""
        files = self._files
        source = files.open(self._source.index(".idx"), writable=False)
        copy = files.open(path, create=True)
        files.truncate(copy, start)
        at = start
        while block := files.read_at(source, at, _BLOCK_BYTES):
            files.write_at(copy, at, [block])
            at += len(block)
        files.sync(copy)
        return at
