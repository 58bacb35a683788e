"""An erasure coded volume as one disk has it mounted, seen by those who read it (docs/spec/erasure-coding.md 4.4).

Shards and `.ecx` are opened read-only. A file is used as long as the volume's record in the map is the one for which it
was opened: the disk's worker changes the record before readers may rely on another file (`EcRecord.generation`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from volumed.erasure.index import search_index
from volumed.erasure.names import INDEX, shard_extension
from volumed.errors import DiskUnavailable, VolumeNotFound
from volumed.formats.idx import Row
from volumed.storage.ec_records import EcRecord
from volumed.storage.file_cache import FileCache
from volumed.storage.fileio import Buffer, File, FileIO
from volumed.storage.map_reader import MapReader
from volumed.storage.needle_map import MapError

__all__ = ["MountedShards", "NotCached", "ShardFiles"]

_INDEX = -1
"""In place of a shard's id: the `.ecx`."""


class NotCached(Exception):
    """What was to be read on the spot is not open, or not in the page cache."""


class _OpenShard(NamedTuple):
    """An open file and its length in bytes, which does not change."""

    file: File
    length: int
    fences: dict[int, int]
    """Of the `.ecx` (`search_index`): its needle ids do not change either."""


class MountedShards(NamedTuple):
    """Hold it for one request."""

    volume_id: int
    disk_id: int
    record: EcRecord
    raw: bytes
    """``record`` as it is in the map."""
    reader: MapReader
    files: ShardFiles

    @property
    def is_mounted(self) -> bool:
        """Whether the disk still has the volume so."""
        try:
            return self.reader.shards(self.volume_id) == self.raw
        except MapError:
            return False

    def is_deleted(self, key: int) -> bool:
        """Whether the journal of this disk deletes a needle. Raises `VolumeNotFound` and `DiskUnavailable` when nobody
        can tell any more: entries go with the volume that is unmounted, and with the disk."""
        map_id = self.record.map_id
        try:
            if self.reader.is_deleted(map_id, key):
                return True
            raw = self.reader.shards(self.volume_id)
        except MapError:
            raise DiskUnavailable(f"disk {self.disk_id} has just stopped to serve") from None
        # The record is looked at last: as long as it names the entries, they are complete.
        if raw != self.raw and (raw is None or EcRecord.decode(raw).map_id != map_id):
            raise VolumeNotFound.of(self.volume_id)
        return False

    def find_row(self, key: int, width: int) -> Row | None:
        """The row of a needle in the `.ecx`, whatever its size; waits for the disk. Raises `OSError`."""
        opened = self.files.open(self, _INDEX)

        def read(at: int, length: int) -> Buffer:
            return self.files.io.read_at(opened.file, at, length)

        return search_index(read, opened.length, key, width, opened.fences)

    def find_row_now(self, key: int, width: int) -> Row | None:
        """The same without waiting. Raises `NotCached`."""
        opened = self.files.find(self, _INDEX)

        def read(at: int, length: int) -> Buffer:
            return self._cached(opened, at, length)

        return search_index(read, opened.length, key, width, opened.fences)

    def read(self, shard_id: int, offset: int, length: int) -> bytes:
        """Bytes of a shard, fewer at its end; waits for the disk. Raises `OSError`."""
        return self.files.io.read_at(self.files.open(self, shard_id).file, offset, length)

    def read_now(self, shard_id: int, offset: int, length: int) -> Buffer:
        """The same without waiting, and all or nothing. Raises `NotCached`."""
        return self._cached(self.files.find(self, shard_id), offset, length)

    def _cached(self, opened: _OpenShard, offset: int, length: int) -> Buffer:
        found = self.files.io.read_cached(opened.file, offset, length)
        if found is None:
            raise NotCached
        return found


class ShardFiles:
    """Open files of the erasure coded volumes of one disk."""

    def __init__(self, io: FileIO, limit: int) -> None:
        self.io = io
        self._cache: FileCache[tuple[int, int], _OpenShard] = FileCache(limit)

    def find(self, mounted: MountedShards, shard_id: int) -> _OpenShard:
        """One that is open. Raises `NotCached`."""
        found = self._cache.find((mounted.volume_id, shard_id), mounted.raw)
        if found is None:
            raise NotCached
        return found

    def open(self, mounted: MountedShards, shard_id: int) -> _OpenShard:
        """One that is open, else open it, which may wait for the disk. Raises `OSError`."""
        key = (mounted.volume_id, shard_id)
        found = self._cache.find(key, mounted.raw)
        if found is None:
            record = mounted.record
            path = record.index_base + INDEX if shard_id == _INDEX else record.data_base + shard_extension(shard_id)
            file = self.io.open(path, writable=False)
            found = _OpenShard(file, self.io.size(file), {})
            self._cache.keep(key, mounted.raw, found)
        return found

    def drop_stale(self, current: Callable[[int], bytes | None]) -> None:
        """Close the files of volumes whose record is another one now, or none."""
        self._cache.drop_stale(lambda key: current(key[0]))

    def close(self) -> None:
        """Close everything."""
        self._cache.clear()
