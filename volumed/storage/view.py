"""A front's read-only view of the node: which disk has a volume, where a needle is, and its bytes if they are cached.

Nothing here ever waits for a disk. Maps live in memory-backed files, records are read with ``RWF_NOWAIT``, and `.dat`
files are opened by a background thread. Whatever would wait, or does not fit together, is answered with
`Found.FORWARD`: the disk's worker then does the read (ARCHITECTURE.md, "The life of a read").
"""

from __future__ import annotations

import enum
import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

from volumed.config.node import NodeConfig
from volumed.errors import DiskUnavailable
from volumed.formats.idx import DELETED
from volumed.formats.needle import record_length
from volumed.nodetable import DISK_STATES_THAT_SERVE, DiskRow, DiskState, NodeTable
from volumed.open_files import OpenFiles, open_files_limit
from volumed.storage.ec_records import EcRecord
from volumed.storage.file_cache import FileCache
from volumed.storage.fileio import File, FileIO
from volumed.storage.map_reader import MapReader
from volumed.storage.map_records import ENTRY, VolumeFlag, VolumeRecord
from volumed.storage.mounted_shards import MountedShards, ShardFiles
from volumed.storage.needle_map import MapError

__all__ = ["CACHED_READ_BYTES_MAX", "Found", "NodeView", "ReadNow", "VolumeHandle"]

CACHED_READ_BYTES_MAX = 256 << 10
"""Longest record that is read at once; longer ones are read in pieces by other means."""

_HOUSEKEEPING_S = 5.0

_log = logging.getLogger(__name__)


class Found(enum.IntEnum):
    """What `NodeView.read_now` found out without waiting for a disk."""

    NO_VOLUME = 0
    MISSING = 1
    DELETED = 2
    EMPTY = 3
    """A live empty object: no record is read, no cookie is checked (docs/spec/storage.md 6.4)."""
    RECORD = 4
    FORWARD = 5
    """Ask the worker: not in the page cache, not open yet, too long, or inconsistent."""


class VolumeHandle(NamedTuple):
    """A mounted volume as a front saw it last; hold it for one request."""

    volume_id: int
    disk_id: int
    record: VolumeRecord
    raw: bytes
    """``record`` as it is in the map."""
    reader: MapReader
    files: _OpenFiles | None
    """None: the volume is unavailable, the worker has the error text."""

    def lookup(self, key: int) -> tuple[int, int] | None:
        """(offset, S) of the map entry, S negative when deleted; None when unknown, or when the volume or its disk
        went away meanwhile (then the next `NodeView.locate` tells)."""
        try:
            _, entry = self.reader.find(self.volume_id, self.record.map_id, key)
        except MapError:
            return None
        return None if entry is None else ENTRY.unpack(entry)


class ReadNow(NamedTuple):
    """``handle`` is None only for NO_VOLUME. ``record`` is the whole record, not verified in any way, for RECORD;
    else empty. ``size`` is S, positive also for a needle read as deleted."""

    found: Found
    handle: VolumeHandle | None
    offset: int = 0
    size: int = 0
    record: bytes | bytearray = b""


_NO_VOLUME = ReadNow(Found.NO_VOLUME, None)


class NodeView:
    """The maps of all serving disks and the open files of the volumes used lately. Any thread may call anything."""

    def __init__(
        self,
        config: NodeConfig,
        table: NodeTable,
        files: FileIO | None = None,
        open_files: OpenFiles | None = None,
    ) -> None:
        """Keeps no more open than ``open_files`` says, else as much as this process may."""
        self._table = table
        self._table_version = -1
        kept = open_files or OpenFiles.within(open_files_limit(), len(config.disks))
        self._disks = [
            _DiskMap(disk.disk_id, table.disks[disk.disk_id], files or FileIO(), kept) for disk in config.disks
        ]
        self._handles: dict[int, VolumeHandle] = {}
        self._refreshing = threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._keep_house, name="view-housekeeping", daemon=True).start()

    def locate(self, volume_id: int) -> VolumeHandle | None:
        """The volume on the lowest serving disk that has it mounted; None when there is none.

        Raises `DiskUnavailable` when a disk that does not serve now may have it: "not here" would be a lie that
        makes a client believe its object is gone.
        """
        self._check_disks()
        known = self._handles.get(volume_id)
        if known is not None:
            try:
                raw = known.reader.record(volume_id)
            except MapError:
                raw = None
            if raw == known.raw:
                return known
        return self._search(volume_id)

    def read_now(self, volume_id: int, key: int, read_deleted: bool = False) -> ReadNow:
        """Look a needle up and read its record, if it is at most `CACHED_READ_BYTES_MAX` long and cached.

        Raises `DiskUnavailable` as `locate` does.
        """
        # PERF: one map transaction and one preadv for the common case; everything else is out of line.
        if self._table_version != self._table.version:
            self._check_disks()
        handle = self._handles.get(volume_id)
        if handle is None:
            handle = self._search(volume_id)
            if handle is None:
                return _NO_VOLUME
        try:
            raw, entry = handle.reader.find(volume_id, handle.record.map_id, key)
            if raw != handle.raw:
                handle = self._search(volume_id)
                if handle is None:
                    return _NO_VOLUME
                raw, entry = handle.reader.find(volume_id, handle.record.map_id, key)
        except MapError:
            return ReadNow(Found.FORWARD, handle)
        if raw != handle.raw or handle.files is None:
            return ReadNow(Found.FORWARD, handle)
        if entry is None:
            return ReadNow(Found.MISSING, handle)
        offset, size = ENTRY.unpack(entry)
        if size <= 0:
            if not size:
                return ReadNow(Found.EMPTY, handle, offset)
            if not read_deleted or size == DELETED:
                return ReadNow(Found.DELETED, handle, offset)
            size = -size
        length = record_length(size, handle.record.version)
        record = handle.files.read(handle, offset, length) if length <= CACHED_READ_BYTES_MAX else None
        if record is None:
            return ReadNow(Found.FORWARD, handle, offset, size)
        return ReadNow(Found.RECORD, handle, offset, size, record)

    def shards(self, volume_id: int) -> list[MountedShards]:
        """An erasure coded volume as the serving disks have it mounted, in order of the disks."""
        self._check_disks()
        return [found for disk in self._disks if (found := disk.find_shards(volume_id)) is not None]

    def close(self) -> None:
        """Close maps and files."""
        self._closed.set()
        self._handles.clear()
        for disk in self._disks:
            disk.close()

    def _search(self, volume_id: int) -> VolumeHandle | None:
        """Ask every serving disk, in order."""
        for disk in self._disks:
            handle = disk.find_volume(volume_id)
            if handle is not None:
                self._handles[volume_id] = handle
                return handle
        self._handles.pop(volume_id, None)
        for disk in self._disks:
            disk.require_certainty()
        return None

    def drop_stale_files(self) -> None:
        """Close files of volumes that were unmounted or replaced; also done every few seconds by itself."""
        for disk in self._disks:
            disk.drop_stale_files()

    def _keep_house(self) -> None:
        while not self._closed.wait(_HOUSEKEEPING_S):
            self._check_disks()
            self.drop_stale_files()

    def _check_disks(self) -> None:
        """Open and close maps as the disks' states and workers changed."""
        version = self._table.version
        if self._table_version == version:
            return
        with self._refreshing:
            for disk in self._disks:
                disk.refresh()
            self._handles.clear()
            self._table_version = version


class _DiskMap:
    """The map and the open files of one disk while the disk serves."""

    def __init__(self, disk_id: int, row: DiskRow, io: FileIO, open_files: OpenFiles) -> None:
        self._disk_id = disk_id
        self._row = row
        self._epoch: int | None = None
        self._reader: MapReader | None = None
        self.files = _OpenFiles(io, open_files.volumes_per_disk, f"open-{disk_id}")
        self._shard_files = ShardFiles(io, open_files.shards_per_disk)
        self._shards: dict[int, MountedShards] = {}

    def refresh(self) -> None:
        """Follow the disk's row: a new worker may have started a new map in the old one's place."""
        epoch = self._row.epoch if self._row.state in DISK_STATES_THAT_SERVE else None
        if epoch == self._epoch:
            return
        self._close_map()
        if epoch is not None:
            try:
                self._reader = MapReader(self._row.map_path)
            except MapError as error:
                _log.error("disk %d: cannot open its map: %s", self._disk_id, error)
        self._epoch = epoch

    def find_volume(self, volume_id: int) -> VolumeHandle | None:
        """The volume if it is mounted on this disk and the disk serves."""
        reader = self._reader
        raw = None if reader is None else self.raw_record(volume_id)
        if reader is None or raw is None:
            return None
        record = VolumeRecord.decode(raw)
        usable = VolumeFlag.UNAVAILABLE not in record.flags
        return VolumeHandle(volume_id, self._disk_id, record, raw, reader, self.files if usable else None)

    def find_shards(self, volume_id: int) -> MountedShards | None:
        """What is mounted here of an erasure coded volume; the same object as long as that does not change."""
        reader, raw = self._reader, self._raw_shards(volume_id)
        if reader is None or raw is None:
            return None
        known = self._shards.get(volume_id)
        if known is None or known.raw != raw or known.reader is not reader:
            record = EcRecord.decode(raw)
            known = MountedShards(volume_id, self._disk_id, record, raw, reader, self._shard_files)
            self._shards[volume_id] = known
        return known

    def drop_stale_files(self) -> None:
        """Close files of volumes that are gone or changed."""
        self.files.drop_stale(self.raw_record)
        self._shard_files.drop_stale(self._raw_shards)
        for volume_id in list(self._shards):
            if self._raw_shards(volume_id) is None:
                self._shards.pop(volume_id, None)

    def require_certainty(self) -> None:
        """Raise `DiskUnavailable` unless it is certain what this disk holds. One that could not be opened since the
        node started is none of the node's disks yet."""
        state = self._row.state
        if state not in DISK_STATES_THAT_SERVE and (state is not DiskState.FAILED or self._row.map_path):
            raise DiskUnavailable(f"disk {self._disk_id} is {state.name.lower()}")

    def raw_record(self, volume_id: int) -> bytes | None:
        """The volume's record as it is in the map now."""
        try:
            return None if self._reader is None else self._reader.record(volume_id)
        except MapError:
            return None

    def _raw_shards(self, volume_id: int) -> bytes | None:
        try:
            return None if self._reader is None else self._reader.shards(volume_id)
        except MapError:
            return None

    def close(self) -> None:
        self._close_map()
        self.files.close()
        self._shard_files.close()

    def _close_map(self) -> None:
        if self._reader is not None:
            self._reader.close()
            self._reader = None


class _OpenFiles:
    """`.dat` files of one disk by volume id. Opened by a thread of the disk's own, so that a hung disk holds up no
    other; used only if it is the very file that the volume's record means.
    """

    def __init__(self, io: FileIO, limit: int, name: str) -> None:
        self._io = io
        self._files: FileCache[int, File] = FileCache(limit)
        self._opening: set[bytes] = set()
        self._lock = threading.Lock()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix=name)

    def read(self, handle: VolumeHandle, offset: int, length: int) -> bytes | bytearray | None:
        """Cached bytes of the volume's file; None also while it is not open, but then it will be soon."""
        found = self._files.find(handle.volume_id, handle.raw)
        if found is None:
            self._start_opening(handle)
            return None
        return self._io.read_cached(found, offset, length)

    def drop_stale(self, current: Callable[[int], bytes | None]) -> None:
        """Close the files of volumes that are gone or changed."""
        self._files.drop_stale(current)

    def close(self) -> None:
        self._pool.shutdown(wait=False)
        self._files.clear()

    def _start_opening(self, handle: VolumeHandle) -> None:
        if handle.record.is_remote:
            return
        with self._lock:
            if handle.raw in self._opening:
                return
            self._opening.add(handle.raw)
        self._pool.submit(self._open, handle.volume_id, handle.raw, handle.record)

    def _open(self, volume_id: int, raw: bytes, record: VolumeRecord) -> None:
        file = None
        try:
            file = self._io.open(record.dat_path, writable=False)
        except OSError as error:
            _log.info("%s: %s", record.dat_path, error)
        with self._lock:
            self._opening.discard(raw)
            if file is not None and file.inode == record.dat_inode:
                self._files.keep(volume_id, raw, file)
