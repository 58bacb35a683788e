"""The needle map of one disk: an LMDB environment, as its one writer sees it (ARCHITECTURE.md, "The needle map").

The map is a cache of the `.idx` files that can be thrown away. It is opened only if `stamp.json` beside it proves
that its pages are whole: it was closed cleanly, or this machine has not been restarted since it was written (a
killed process loses nothing that it handed to the kernel). Otherwise it starts empty.

Writing happens in transactions on one thread. `lookup` may be called from any thread and sees committed state.
"""

from __future__ import annotations

import os
import secrets
import struct
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import lmdb
import msgspec

from volumed.storage.ec_records import EcRecord
from volumed.storage.fileio import File, FileIO
from volumed.storage.map_records import ENTRY, ENTRY_KEY, MAP_FORMAT, VOLUME_KEY, VolumeProgress, VolumeRecord

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["DATABASES", "MAP_SIZE_BYTES", "READERS_MAX", "MapError", "MapTransaction", "NeedleMap"]

MapError = lmdb.Error
"""Anything the map itself reports. It never harms data: the `.idx` files are the truth."""

MAP_SIZE_BYTES = 64 << 30
"""Address space only; the file grows as it is used."""

READERS_MAX = 510
DATABASES = (b"needles", b"volumes", b"progress", b"shards")

_STAMP = "stamp.json"
_BOOT_ID = "/proc/sys/kernel/random/boot_id"
_GENERATION_KEY = b"generation"
_GENERATION = struct.Struct("<I")
_CHUNK = 1 << 16
_MAP_ID_MAX = (1 << 32) - 1
_SPARE_READ_TRANSACTIONS = 8


class _Stamp(msgspec.Struct, frozen=True):
    """Why an environment may be trusted."""

    map_format: int
    boot_id: str
    clean: bool


class NeedleMap:
    """An open environment. ``after_kill`` tells that it holds what a process of this boot had committed when it was
    killed, so that a difference to the files comes from writes that nobody was told of."""

    def __init__(self, directory: str, files: FileIO) -> None:
        """Open or create. Raises `MapError`, `OSError`."""
        self.path = directory
        self._files = files
        self._boot_id = (files.read_file(_BOOT_ID) or b"").decode().strip()
        os.makedirs(directory, mode=0o700, exist_ok=True)
        self._lock = self._claim()
        stamp = self._read_stamp()
        trusted = stamp is not None and (stamp.clean or stamp.boot_id == self._boot_id)
        self.after_kill = stamp is not None and trusted and not stamp.clean
        if not trusted:
            self._wipe()
        try:
            self._open()
        except MapError:
            self.after_kill = False
            self._wipe()
            self._open()
        self._write_stamp(clean=False)

    def begin(self) -> MapTransaction:
        """Start the one write transaction."""
        return MapTransaction(self._env.begin(write=True), self._needles, self._volumes, self._progress, self._shards)

    def lookup(self, map_id: int, key: int) -> tuple[int, int] | None:
        """(offset, S) of a needle as committed; None when unknown. Any thread."""
        txn = self._env.begin(self._needles)
        raw = txn.get(ENTRY_KEY.pack(map_id, key))
        txn.abort()
        return None if raw is None else ENTRY.unpack(raw)

    def progress(self, volume_id: int, row_length: int) -> VolumeProgress | None:
        """What the map says about a volume's `.idx`; None when it knows nothing."""
        with self._env.begin(self._progress) as txn:
            raw = txn.get(VOLUME_KEY.pack(volume_id))
        return None if raw is None else VolumeProgress.decode(raw, row_length)

    def record(self, volume_id: int) -> VolumeRecord | None:
        """The volume as readers see it; None when it is not mounted."""
        with self._env.begin(self._volumes) as txn:
            raw = txn.get(VOLUME_KEY.pack(volume_id))
        return None if raw is None else VolumeRecord.decode(raw)

    def known_volumes(self) -> list[int]:
        """Ids of all volumes that have a progress record."""
        with self._env.begin(self._progress) as txn:
            keys = [key for key in txn.cursor().iternext(values=False) if len(key) == VOLUME_KEY.size]
        return [VOLUME_KEY.unpack(key)[0] for key in keys]

    def drop_unused(self) -> None:
        """Remove entries that belong to no volume: a vacuum was interrupted, or its old entries were not all gone."""
        with self._env.begin(self._progress) as txn:
            used = {VolumeProgress.map_id_of(raw) for key, raw in txn.cursor() if len(key) == VOLUME_KEY.size}
        with self.begin() as changes:
            for map_id in changes.map_ids() - used:
                changes.drop_entries(map_id)

    def reader_check(self) -> int:
        """Free the slots of readers that died; how many there were."""
        return int(self._env.reader_check())

    def close(self, *, clean: bool = True) -> None:
        """Make the map durable and mark it clean, unless the files it stands for are not known to be durable."""
        self._env.sync(True)
        self._env.close()
        if clean:
            self._write_stamp(clean=True)
        self._files.unlock_directory(self._lock)

    def _claim(self) -> File:
        """A data directory that was copied has the uuid, and so the map, of the original."""
        try:
            return self._files.lock_directory(self.path)
        except BlockingIOError as error:
            raise MapError(f"{self.path} belongs to a disk with the same vol_dir.uuid, which is in use") from error

    def _open(self) -> None:
        self._env = lmdb.open(
            self.path,
            map_size=MAP_SIZE_BYTES,
            max_dbs=len(DATABASES),
            max_readers=READERS_MAX,
            max_spare_txns=_SPARE_READ_TRANSACTIONS,
            sync=False,
            metasync=False,
            readahead=False,
        )
        try:
            self._needles, self._volumes, self._progress, self._shards = map(self._env.open_db, DATABASES)
            self._env.reader_check()
        except MapError:
            self._env.close()
            raise

    def _wipe(self) -> None:
        for name in os.listdir(self.path):
            os.unlink(os.path.join(self.path, name))

    def _read_stamp(self) -> _Stamp | None:
        try:
            raw = self._files.read_file(os.path.join(self.path, _STAMP))
            stamp = msgspec.json.decode(raw or b"", type=_Stamp)
        except (OSError, msgspec.DecodeError):
            return None
        return stamp if stamp.map_format == MAP_FORMAT else None

    def _write_stamp(self, *, clean: bool) -> None:
        stamp = _Stamp(MAP_FORMAT, self._boot_id, clean)
        self._files.replace_file(os.path.join(self.path, _STAMP), msgspec.json.encode(stamp))


class MapTransaction:
    """All changes of one batch. Nothing is visible to others before `commit`; use as a context manager to commit
    at the end of the block and abort on an exception."""

    __slots__ = ("_needles", "_progress", "_shards", "_txn", "_volumes")

    def __init__(
        self,
        txn: lmdb.Transaction,
        needles: lmdb._Database,
        volumes: lmdb._Database,
        progress: lmdb._Database,
        shards: lmdb._Database,
    ) -> None:
        self._txn = txn
        self._needles = needles
        self._volumes = volumes
        self._progress = progress
        self._shards = shards

    def __enter__(self) -> MapTransaction:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.commit()
        else:
            self.abort()

    def commit(self) -> None:
        """Make the changes visible. Raises `MapError`; then nothing changed."""
        self._txn.commit()

    def abort(self) -> None:
        """Forget the changes."""
        self._txn.abort()

    def get(self, map_id: int, key: int) -> tuple[int, int] | None:
        """(offset, S) of a needle, changes of this transaction included; None when unknown."""
        raw = self._txn.get(ENTRY_KEY.pack(map_id, key), None, self._needles)
        return None if raw is None else ENTRY.unpack(raw)

    def put(self, map_id: int, key: int, offset: int, size: int) -> None:
        """Set a needle's entry."""
        self._txn.put(ENTRY_KEY.pack(map_id, key), ENTRY.pack(offset, size), db=self._needles)

    def remove(self, map_id: int, key: int) -> None:
        """Forget a needle."""
        self._txn.delete(ENTRY_KEY.pack(map_id, key), db=self._needles)

    def put_progress(self, volume_id: int, progress: VolumeProgress) -> None:
        """Set what the entries of a volume stand for."""
        self._txn.put(VOLUME_KEY.pack(volume_id), progress.encode(), db=self._progress)

    def put_record(self, volume_id: int, record: VolumeRecord) -> None:
        """Mount a volume for readers, or change what they see of it."""
        self._txn.put(VOLUME_KEY.pack(volume_id), record.encode(), db=self._volumes)

    def remove_record(self, volume_id: int) -> None:
        """Unmount a volume for readers; its entries stay."""
        self._txn.delete(VOLUME_KEY.pack(volume_id), db=self._volumes)

    def remove_all_records(self) -> None:
        """Unmount everything (start of a worker)."""
        self._txn.drop(self._volumes, delete=False)
        self._txn.drop(self._shards, delete=False)

    def put_shards(self, volume_id: int, record: EcRecord) -> None:
        """Mount shards of an erasure coded volume for readers, or change what they see of it."""
        self._txn.put(VOLUME_KEY.pack(volume_id), record.encode(), db=self._shards)

    def remove_shards(self, volume_id: int) -> None:
        """Unmount an erasure coded volume for readers; entries of deleted needles stay."""
        self._txn.delete(VOLUME_KEY.pack(volume_id), db=self._shards)

    def next_generation(self) -> int:
        """A number that neither a generation nor a map id of this disk had before; never 0. A new map starts at a
        random one, so that a reader's memory of a map that was thrown away fits nothing."""
        raw = self._txn.get(_GENERATION_KEY, None, self._progress)
        last = _GENERATION.unpack(raw)[0] if raw else secrets.randbits(31)
        generation = (last + 1) & 0xFFFFFFFF or 1
        self._txn.put(_GENERATION_KEY, _GENERATION.pack(generation), db=self._progress)
        return generation

    def drop_volume(self, volume_id: int) -> None:
        """Remove everything about a volume."""
        map_id = self.forget_volume(volume_id)
        if map_id is not None:
            self.drop_entries(map_id)

    def forget_volume(self, volume_id: int) -> int | None:
        """Remove everything about a volume but its entries, whose map id is returned."""
        key = VOLUME_KEY.pack(volume_id)
        self._txn.delete(key, db=self._volumes)
        raw = self._txn.pop(key, db=self._progress)
        return None if raw is None else VolumeProgress.map_id_of(bytes(raw))

    def put_entries(
        self,
        map_id: int,
        keys: NDArray[np.uint64],
        offsets: NDArray[np.int64],
        sizes: NDArray[np.int32],
    ) -> None:
        """Set many entries; ``keys`` are unique and ascending."""
        if not len(keys):
            return
        cursor = self._txn.cursor(self._needles)
        # PERF: what goes behind the last entry needs no search.
        append = not cursor.last() or bytes(cursor.key()) < ENTRY_KEY.pack(map_id, int(keys[0]))
        for first in range(0, len(keys), _CHUNK):
            chunk = slice(first, first + _CHUNK)
            cursor.putmulti(_items(map_id, keys[chunk], offsets[chunk], sizes[chunk]), append=append)

    def drop_entries(self, map_id: int, limit: int = sys.maxsize) -> bool:
        """Remove entries of a map id, at most ``limit``; whether any are left."""
        prefix = VOLUME_KEY.pack(map_id)
        cursor = self._txn.cursor(self._needles)
        found = cursor.set_range(prefix)
        while found and bytes(cursor.key()).startswith(prefix):
            if not limit:
                return True
            found = cursor.delete()
            limit -= 1
        return False

    def map_ids(self) -> set[int]:
        """All map ids that have entries."""
        found: set[int] = set()
        cursor = self._txn.cursor(self._needles)
        at: bytes | None = b"\0"
        while at is not None and cursor.set_range(at):
            map_id, _ = ENTRY_KEY.unpack(cursor.key())
            found.add(map_id)
            at = VOLUME_KEY.pack(map_id + 1) if map_id < _MAP_ID_MAX else None
        return found


def _items(
    map_id: int, keys: NDArray[np.uint64], offsets: NDArray[np.int64], sizes: NDArray[np.int32]
) -> Iterator[tuple[bytes, bytes]]:
    """Entries in their binary form, packed by numpy: a loop with `struct` would dominate a rebuild."""
    import numpy as np

    rows = np.empty(len(keys), dtype=[("map", ">u4"), ("key", ">u8"), ("offset", ">u8"), ("size", ">i4")])
    rows["map"], rows["key"], rows["offset"], rows["size"] = map_id, keys, offsets, sizes
    packed = rows.tobytes()
    step, split = rows.dtype.itemsize, ENTRY_KEY.size
    return ((packed[at : at + split], packed[at + split : at + step]) for at in range(0, len(packed), step))
