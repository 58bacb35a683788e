"""Erasure coded volumes mounted on disks of a node that is only a few objects: `SmallNode`."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection
from concurrent.futures import Future

from tests.erasure_kit import RATIO, WIDTH, SmallVolume
from volumed.config.node import DiskConfig, NodeConfig
from volumed.erasure.encode import Encoded
from volumed.erasure.layout import Interval
from volumed.errors import NeedleDeleted
from volumed.formats.needle import Needle
from volumed.shards.gathering import Patience
from volumed.shards.reader import EcReader
from volumed.shards.unreadable import UnreadableShards
from volumed.shards.view import NodeEcVolume
from volumed.storage.ec_records import EcRecord
from volumed.storage.fileio import File, FileIO
from volumed.storage.mounted_shards import MountedShards, ShardFiles

__all__ = ["ColdFiles", "FakeElsewhere", "HungFiles", "Journal", "SmallNode", "journal_of", "mounted"]


class Journal:
    """In place of a disk's map: the record of a volume, and what the journal deletes."""

    def __init__(self, raw: bytes) -> None:
        self.deleted: set[int] = set()
        self._raw: bytes | None = raw

    def shards(self, _volume_id: int) -> bytes | None:
        return self._raw

    def unmount(self) -> None:
        self._raw = None
        self.deleted.clear()

    def is_deleted(self, _map_id: int, key: int) -> bool:
        return key in self.deleted


class ColdFiles(FileIO):
    """Nothing is in the page cache."""

    def read_cached(self, file: File, offset: int, length: int) -> bytearray | None:
        del file, offset, length
        return None


class HungFiles(ColdFiles):
    """Opening anything takes until `thawed`, or until so many files are to be opened."""

    def __init__(self, thaws_at: int = 0) -> None:
        self.thawed = threading.Event()
        self.asked = 0
        self._thaws_at = thaws_at

    def open(self, path: str, *, writable: bool = True, create: bool = False) -> File:
        self.asked += 1
        if self.asked == self._thaws_at:
            self.thawed.set()
        self.thawed.wait()
        return super().open(path, writable=writable, create=create)


class FakeElsewhere:
    """Other servers that have copies of some shards; the needles ``deleted`` are so there."""

    def __init__(self, volume: SmallVolume, shards: Collection[int] = ()) -> None:
        self.files = {shard: file for shard, file in volume.shards().items() if shard in shards}
        self.deleted: set[int] = set()
        self.asked: list[tuple[int, bool]] = []
        self.why_unknown = ""
        self.master_was_asked = False
        self.arriving: dict[int, File] = {}
        """Shards that the master tells of only when it is asked again."""

    def start(
        self, volume: NodeEcVolume, key: int, wanted: Interval, patience: Patience, *, recovers: bool = False
    ) -> Future[bytes | None] | None:
        del volume, patience
        self.asked.append((wanted.shard, recovers))
        file = self.files.get(wanted.shard)
        if file is None:
            return None
        future: Future[bytes | None] = Future()
        if key in self.deleted:
            future.set_exception(NeedleDeleted())
        else:
            future.set_result(FileIO().read_at(file, wanted.offset, wanted.length))
        return future

    def is_lost(self, volume_id: int, shard: int) -> bool:
        del volume_id
        return self.master_was_asked and shard not in self.files

    def renew(self, volume_id: int) -> None:
        del volume_id
        self.files |= self.arriving

    def lookup_failure(self, volume_id: int) -> str:
        del volume_id
        return self.why_unknown


def mounted(
    volume: SmallVolume,
    encoded: Encoded,
    shards: Collection[int],
    *,
    disk_id: int = 0,
    files: FileIO | None = None,
    encode_ts_ns: int | None = None,
) -> MountedShards:
    """The shards of ``volume``'s directory, as far as they are given, mounted on a disk."""
    geometry = encoded.geometry
    lengths = {shard: volume.shard_path(shard).stat().st_size for shard in shards}
    record = EcRecord(
        1, 1, "", 3, *RATIO, geometry.block_size,
        geometry.encode_ts_ns if encode_ts_ns is None else encode_ts_ns,
        geometry.dat_size, volume.paths.data(""), volume.paths.index(""), lengths,
    )  # fmt: skip
    raw = record.encode()
    return MountedShards(9, disk_id, record, raw, Journal(raw), ShardFiles(files or FileIO(), 64))  # type: ignore[arg-type]



def journal_of(disk: MountedShards) -> Journal:
    """That of a disk made by `mounted`."""
    assert isinstance(disk.reader, Journal)
    return disk.reader


class SmallNode:
    """The reader of a node with these disks."""

    def __init__(self, elsewhere: FakeElsewhere, *disks: MountedShards) -> None:
        self.disks = list(disks)
        self.elsewhere = elsewhere
        self.repaired: list[tuple[int, int]] = []
        places = tuple(DiskConfig(disk.disk_id, "", "") for disk in disks)
        config = NodeConfig(runtime_dir="", map_dir="", state_dir="", disks=places, offset_width=WIDTH)
        report: Callable[[NodeEcVolume, Needle, int], None] = lambda _, needle, shard: self.repaired.append(  # noqa: E731
            (needle.key, shard)
        )
        self.now_s = 0.0
        self.disk_errors: list[None] = []
        self.told: list[tuple[int, int]] = []
        """Disk and shard of each that its worker was told of."""
        unreadable = UnreadableShards(
            lambda: self.disk_errors.append(None),
            lambda disk, shard: self.told.append((disk.disk_id, shard)),
            lambda: self.now_s,
        )
        self.reader = EcReader(config, self, elsewhere, report, unreadable)

    def shards(self, volume_id: int) -> list[MountedShards]:
        return self.disks if volume_id == 9 else []

    @property
    def volume(self) -> NodeEcVolume:
        found = self.reader.find(9)
        assert found is not None
        return found
