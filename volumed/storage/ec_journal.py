"""The open `.ecj` of an erasure coded volume (docs/spec/erasure-coding.md 3.3, rules R1, R2).

With a directory for all indexes (`-dir.idx`) the disks of a node share the journal, and every one of their workers has
it open. So whoever changes it takes its lock, looks first at what others have added, and never unlinks it.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Collection

from volumed.erasure.index import fold
from volumed.erasure.journal import ID_LENGTH, decode_journal, decode_whole_journal, encode_journal, news
from volumed.erasure.names import INDEX, JOURNAL
from volumed.formats.checksum import crc32c
from volumed.storage.ec_files import index_path
from volumed.storage.fileio import File, FileIO
from volumed.storage.site import VolumePaths

__all__ = ["EcJournal", "fold_at", "merge_at", "read_journals", "summarize_journals"]

_log = logging.getLogger(__name__)


class EcJournal:
    """Used by one thread at a time. Everything raises `OSError`."""

    def __init__(self, files: FileIO, file: File) -> None:
        self._files = files
        self._file = file
        self._read_to = 0
        """End of the ids that `read` and `add` have returned."""

    @classmethod
    def open(cls, files: FileIO, path: str) -> EcJournal:
        """Create it if need be, durably; cut off an id that a crash has left incomplete: nobody was told of it."""
        is_new = not files.exists(path)
        file = files.open(path, create=True)
        if is_new:
            files.sync_directory(os.path.dirname(path))
        with files.locked(file):
            size = files.size(file)
            if size % ID_LENGTH:
                files.truncate(file, size - size % ID_LENGTH)
                files.sync(file)
        return cls(files, file)

    @property
    def file(self) -> File:
        """To flush it before others read it."""
        return self._file

    def read(self) -> list[int]:
        """All ids, as in the file."""
        self._read_to = 0
        with self._files.locked(self._file):
            return self._unread()

    def add(self, keys: Collection[int]) -> list[int]:
        """Append ids, durably, without those that somebody else has added meanwhile. Returns all ids that are new since
        the last look, those of others included. When it fails nothing of it stays."""
        with self._files.locked(self._file):
            others = self._unread()
            end = self._read_to
            added = news(others, keys)
            if added:
                try:
                    self._read_to += self._files.write_at(self._file, end, [encode_journal(added)])
                    self._files.sync(self._file)
                except OSError:
                    # Nobody is told of those of others now: they are read once more.
                    self._read_to = end - len(others) * ID_LENGTH
                    self._take_back(end)
                    raise
        return others + added

    def fold_into(self, ecx: File, width: int) -> None:
        """Write all deletions into the index, durably, then empty the journal. A crash between the two does no harm.

        DEVIATE: the reference unlinks the journal of a mounted volume, and loses what is deleted afterwards (R2).
        Raises `BadEcIndex` when an id is cut short.
        """
        with self._files.locked(self._file):
            keys = decode_whole_journal(self._files.read_at(self._file, 0, self._files.size(self._file)))
            if keys:
                fold(self._files, ecx, keys, width)
                self._files.truncate(self._file, 0)
                self._files.sync(self._file)
            self._read_to = 0

    def _unread(self) -> list[int]:
        size = self._files.size(self._file)
        if size < self._read_to:
            self._read_to = 0  # another disk has folded it
        keys = decode_journal(self._files.read_at(self._file, self._read_to, size - self._read_to))
        self._read_to += len(keys) * ID_LENGTH
        return keys

    def _take_back(self, end: int) -> None:
        try:
            self._files.truncate(self._file, end)
        except OSError as error:
            _log.error("%s: a deletion that failed may stay: %s", self._file.path, error)


def read_journals(files: FileIO, paths: VolumePaths) -> set[int]:
    """The deletions in the journals of a volume, wherever they are. Raises `OSError`."""
    return {key for path in paths.places(JOURNAL) for key in decode_journal(files.read_file(path) or b"")}


def summarize_journals(files: FileIO, paths: VolumePaths) -> tuple[int, int]:
    """How many needles the journals of a volume delete, and a checksum of which, in whatever order. Raises
    `OSError`."""
    keys = sorted(read_journals(files, paths))
    return len(keys), crc32c(encode_journal(keys))


def merge_at(files: FileIO, paths: VolumePaths, keys: Collection[int]) -> None:
    """Append to the journal of a volume that is not mounted what it lacks, durably (R1). Raises `OSError`."""
    if keys:
        journal = EcJournal.open(files, _beside(index_path(files, paths) or paths.index(INDEX)))
        journal.add(news(journal.read(), keys))


def fold_at(files: FileIO, paths: VolumePaths, width: int) -> None:
    """`EcJournal.fold_into` for a volume that is not mounted. Raises `OSError`, `BadEcIndex`."""
    index = index_path(files, paths)
    if index is not None and files.exists(_beside(index)):
        EcJournal(files, files.open(_beside(index))).fold_into(files.open(index), width)


def _beside(index: str) -> str:
    return index.removesuffix(INDEX) + JOURNAL
