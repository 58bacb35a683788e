"""What a disk mounts and clears away by itself, and how its encoded volumes end: on real files."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ec_sets import SHARDS, EncodedSet
from tests.erasure_kit import FailingIO
from tests.hand_shell import HandShell
from tests.storage_kit import BreakableFiles, Rig
from volumed.bus.calls import DeleteVolume
from volumed.bus.ec_calls import MountShards
from volumed.bus.events import ShardsChanged
from volumed.erasure.discovery import EcFiles
from volumed.erasure.layout import MIB
from volumed.erasure.names import INDEX, INFO, JOURNAL, MIRRORING
from volumed.formats.vif import EcShardConfig, VolumeInfo, encode_vif
from volumed.storage.ec_files import list_ec_files, mirror_files, remove_ec_files
from volumed.storage.fileio import FileIO, FileStatus
from volumed.storage.site import VolumePaths
from workers.ec_life import EcLife
from workers.ec_volumes import EcVolumes

VOLUME = 7
NOW_S = 2_000_000_000


class Worker:
    """A disk of a node, with what it mounts by itself."""

    def __init__(self, rig: Rig, *, alone: bool = True) -> None:
        self.rig = rig
        self.shell = HandShell()
        self.volumes = EcVolumes(rig.disk, self.shell, 1)
        self.life = EcLife(rig.disk, self.shell, self.volumes, alone=alone)
        self.ends: list[object] = []

    def start(self) -> dict[int, list[int]]:
        """Mounted shards by volume."""
        self.life.mount_all(lambda: self.ends.append("mounted"))
        assert self.ends == ["mounted"]
        return {volume_id: sorted(volume.shards) for volume_id, volume in self.volumes.volumes.items()}

    def mount(self, *shards: int, collection: str = "") -> None:
        self.volumes.mount(MountShards(VOLUME, collection, list(shards)), lambda _: None, self.ends.append)
        assert self.ends == []

    def names(self, volume_id: int = VOLUME) -> set[str]:
        """Extensions of a volume's files."""
        return {path.name.partition(".")[2] for path in self.rig.directory.glob(f"*{volume_id}.*")}

    def told(self) -> list[tuple[dict[int, int], dict[int, int]]]:
        """Shards that came and went, as the supervisor was told."""
        events = [event for event in self.shell.published if isinstance(event, ShardsChanged)]
        return [
            (event.mounted[0].shards if event.mounted else {}, event.gone[0].shards if event.gone else {})
            for event in events
        ]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    return EncodedSet(tmp_path_factory.mktemp("set") / "files")


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    yield rig
    rig.close()


# At a start


@pytest.mark.parametrize(
    ("sidecars", "empty_index", "alone", "mounts"),
    [
        ((".ecx", ".vif"), False, False, True),
        ((".ecx", ".ecsum"), False, False, True),
        ((".ecx",), False, False, False),
        ((".ecx",), False, True, True),
        ((".vif",), True, False, False),
        ((".vif",), True, True, True),
        ((".vif",), False, True, False),
    ],
    ids=[
        "index_and_info", "index_and_sums", "layout_may_be_elsewhere", "layout_is_nowhere", "index_may_be_elsewhere",
        "index_is_empty", "no_index",
    ],
)  # fmt: skip
def test_a_disk_mounts_what_needs_no_other_disk(
    rig: Rig, encoded: EncodedSet, sidecars: tuple[str, ...], empty_index: bool, alone: bool, mounts: bool
) -> None:
    encoded.place(rig.directory, VOLUME, (1, 3), sidecars)
    if empty_index:
        rig.path(f"{VOLUME}.ecx").touch()
    assert Worker(rig, alone=alone).start() == ({VOLUME: [1, 3]} if mounts else {})


def test_what_cannot_be_mounted_stays_and_nothing_waits_for_it(rig: Rig, encoded: EncodedSet) -> None:
    encoded.place(rig.directory, 8)
    encoded.place(rig.directory, VOLUME)
    rig.path(f"{VOLUME}.vif").write_bytes(b"{")
    worker = Worker(rig)
    before = worker.names()
    assert worker.start() == {8: list(SHARDS)}
    assert worker.names() == before


@pytest.mark.parametrize("has_index", [True, False])
def test_what_cannot_be_read_of_one_volume_keeps_no_other_from_being_mounted(
    tmp_path: Path, encoded: EncodedSet, has_index: bool
) -> None:
    files = BreakableFiles()
    rig = Rig(tmp_path, files)
    encoded.place(rig.directory, 8)
    interrupted(rig, encoded, 4 * MIB, has_index)
    for _ in range(2 if has_index else 1):
        files.break_next("read_at", f"{VOLUME}.vif", errno.EIO)
    worker = Worker(rig)
    assert worker.start() == {8: list(SHARDS)}
    assert {"ec00", "ec01"} <= worker.names(), "nobody knows whether they are of use"
    rig.close()


def test_checksums_that_cannot_be_read_keep_no_shard_from_being_mounted(tmp_path: Path, encoded: EncodedSet) -> None:
    """As those that are damaged do not."""
    files = BreakableFiles()
    rig = Rig(tmp_path, files)
    encoded.place(rig.directory, VOLUME)
    worker = Worker(rig)
    for _ in range(3):
        files.break_next("read_at", ".ecsum", errno.EIO)
    assert worker.start() == {VOLUME: list(SHARDS)}
    rig.close()


def test_shards_of_which_nobody_can_tell_the_layout_stay(rig: Rig, encoded: EncodedSet) -> None:
    interrupted(rig, encoded, 14 * MIB, index=True)
    rig.path(f"{VOLUME}.vif").write_bytes(b"{")
    assert {"ec00", "ec01", "ecx"} <= Worker(rig).names()


def interrupted(rig: Rig, encoded: EncodedSet, dat_size: int, index: bool) -> None:
    """Shards of 1 MiB beside a `.dat`."""
    encoded.place_source(rig.directory, VOLUME)
    os.truncate(rig.path(f"{VOLUME}.dat"), dat_size)
    encoded.place(rig.directory, VOLUME, (0, 1), (".ecx", ".vif") if index else (".vif",))
    rig.path(f"{VOLUME}.vif").write_bytes(encode_vif(VolumeInfo(version=3, ec_shard_config=EcShardConfig(3, 2))))


@pytest.mark.parametrize(
    ("dat_size", "index", "stay"),
    [
        (4 * MIB, True, False),
        (2 * MIB, True, True),
        (4 * MIB, False, False),
        (2 * MIB, False, False),
        (8, False, True),
    ],
    ids=["short", "whole", "no_index", "no_index_and_whole", "no_data"],
)
def test_shards_of_an_encode_that_was_interrupted_go(
    rig: Rig, encoded: EncodedSet, dat_size: int, index: bool, stay: bool
) -> None:
    interrupted(rig, encoded, dat_size, index)
    names = Worker(rig).names()
    assert ({"ec00", "ec01"} <= names) is stay
    assert ({"ecx", "ec00", "ec01"} & names == set()) is not stay
    assert "vif" in names


def test_only_old_empty_shards_and_unfinished_files_are_cleared_away(rig: Rig, encoded: EncodedSet) -> None:
    encoded.place(rig.directory, VOLUME, (4,))
    for name in ("ec00", "ec01", "ec02.rebuilding", "ecx.mirror.tmp", "ec03.encoding", "ec00.v2"):
        rig.path(f"{VOLUME}.{name}").touch()
    long_ago = time.time() - 3700
    os.utime(rig.path(f"{VOLUME}.ec00"), (long_ago, long_ago))
    # Without a `.dat` nobody knows what an unfinished encode is of.
    assert Worker(rig).names() == {"ec01", "ec04", "ecx", "vif", "ecsum", "ec03.encoding", "ec00.v2"}


def test_the_index_stays_as_long_as_a_disk_that_shares_it_has_shards(tmp_path: Path, encoded: EncodedSet) -> None:
    encoded.place(tmp_path, VOLUME, ())
    (tmp_path / "a").mkdir()
    rig = Rig(tmp_path / "a", index=tmp_path)
    encoded.place(rig.directory, VOLUME, (0,), ())
    encoded.place(tmp_path / "b", VOLUME, (1,), ())
    site = rig.disk.site
    for mates, stays in (((str(tmp_path / "b"),), True), ((), False)):
        here = type(site)(site.config, site.files, site.map, site.offset_width, mates)
        remove_ec_files(here, list_ec_files(here)["", VOLUME], "a test")
        assert (tmp_path / f"{VOLUME}.ecx").exists() is stays
    assert not rig.path(f"{VOLUME}.ec00").exists()
    rig.close()


# Copies from other disks


@pytest.mark.parametrize("kill_at", range(15))
def test_a_mirror_that_is_killed_leaves_no_half_of_a_file(tmp_path: Path, encoded: EncodedSet, kill_at: int) -> None:
    source, target = tmp_path / "a", tmp_path / "b"
    encoded.place(source, VOLUME)
    (source / f"{VOLUME}.ecj").write_bytes(bytes(8))
    files = FailingIO(1 << 30, stays_broken=True)
    rig = Rig(target.parent, files)
    site = rig.disk.site
    paths = site.paths("", VOLUME)
    theirs = VolumePaths(str(source), str(source), str(VOLUME))
    files.changes, files.fails_at = 0, kill_at
    with pytest.raises(OSError, match="Input/output error"):
        mirror_files(site, paths, theirs, (INDEX, JOURNAL, INFO))
    for extension in (INDEX, JOURNAL, INFO):
        copied = rig.path(f"{VOLUME}{extension}")
        assert not copied.exists() or copied.read_bytes() == (source / copied.name).read_bytes()
    files.fails_at = 1 << 30
    files.stays_broken = False
    mirror_files(site, paths, theirs, (INDEX, JOURNAL, INFO))
    assert {path.name for path in rig.directory.glob(f"{VOLUME}.*")} == {f"{VOLUME}.{e}" for e in ("ecx", "ecj", "vif")}
    rig.close()


def test_what_the_source_folds_meanwhile_is_mirrored(tmp_path: Path, encoded: EncodedSet) -> None:
    """In the journal, or in the index: a deletion is never in neither."""
    source = tmp_path / "a"
    encoded.place(source, VOLUME)
    index, journal = source / f"{VOLUME}.ecx", source / f"{VOLUME}.ecj"
    journal.write_bytes(bytes(8))
    folded = index.read_bytes()[:-1] + b"!"

    class Folding(FileIO):
        def rename(self, source: str, target: str) -> None:
            super().rename(source, target)
            if source.endswith(MIRRORING):
                index.write_bytes(folded)
                journal.write_bytes(b"")

    rig = Rig(tmp_path, Folding())
    site = rig.disk.site
    theirs = VolumePaths(str(source), str(source), str(VOLUME))
    mirror_files(site, site.paths("", VOLUME), theirs, (INDEX, JOURNAL))
    knows = rig.path(f"{VOLUME}.ecj").read_bytes() or rig.path(f"{VOLUME}.ecx").read_bytes() == folded
    assert knows
    rig.close()


def test_what_is_there_is_not_overwritten_but_for_an_empty_index(rig: Rig, encoded: EncodedSet, tmp_path: Path) -> None:
    encoded.place(tmp_path / "a", VOLUME)
    rig.path(f"{VOLUME}.ecx").touch()
    rig.path(f"{VOLUME}.vif").write_bytes(b"ours")
    theirs = VolumePaths(str(tmp_path / "a"), str(tmp_path / "a"), str(VOLUME))
    mirror_files(rig.disk.site, rig.disk.site.paths("", VOLUME), theirs, (INDEX, JOURNAL, INFO))
    assert rig.path(f"{VOLUME}.ecx").read_bytes() == encoded.content(".ecx")
    assert rig.path(f"{VOLUME}.vif").read_bytes() == b"ours"
    assert not rig.path(f"{VOLUME}.ecj").exists()


# The end


def expiring(encoded: EncodedSet, rig: Rig) -> None:
    encoded.place(rig.directory, VOLUME)
    info = VolumeInfo(version=3, expire_at_sec=NOW_S, ec_shard_config=EcShardConfig(3, 2, 5, MIB))
    rig.path(f"{VOLUME}.vif").write_bytes(encode_vif(info))


def test_an_expired_volume_goes_with_its_mounted_shards(rig: Rig, encoded: EncodedSet) -> None:
    expiring(encoded, rig)
    worker = Worker(rig)
    worker.mount(0, 1)
    worker.life.expire(NOW_S)
    assert VOLUME in worker.volumes.volumes
    worker.life.expire(NOW_S + 1)
    assert worker.volumes.volumes == {}
    assert worker.names() == {"ec02", "ec03", "ec04"}
    assert worker.told() == [({0: MIB, 1: MIB}, {}), ({}, {0: 0, 1: 0})]


def test_a_volume_is_destroyed_once(rig: Rig, encoded: EncodedSet) -> None:
    expiring(encoded, rig)
    worker = Worker(rig)
    worker.mount(0, 1)
    worker.shell.waiting = []
    worker.life.expire(NOW_S + 1)
    worker.life.expire(NOW_S + 2)
    assert len(worker.shell.waiting) == 1
    worker.shell.go_on()
    assert worker.volumes.volumes == {}


def test_a_collection_takes_its_mounted_volumes_along(rig: Rig, encoded: EncodedSet) -> None:
    encoded.place(rig.directory, f"pics_{VOLUME}")
    encoded.place(rig.directory, "8")
    worker = Worker(rig)
    worker.start()
    worker.life.delete_collection("pics", lambda: worker.ends.append("deleted"), worker.ends.append)
    assert worker.ends == ["mounted", "deleted"]
    assert list(worker.volumes.volumes) == [8]
    assert worker.names() == set()
    assert worker.names(8) >= {"ecx", "ec00", "ec04", "vif"}


def test_shards_of_a_collection_that_are_not_mounted_stay(rig: Rig, encoded: EncodedSet) -> None:
    encoded.place(rig.directory, f"pics_{VOLUME}")
    worker = Worker(rig)
    worker.life.delete_collection("pics", lambda: worker.ends.append("deleted"), worker.ends.append)
    assert worker.ends == ["deleted"]
    assert {"ec00", "ecx"} <= worker.names()


@pytest.mark.parametrize("beside", ["ec04", "ecx"])
def test_a_volume_that_is_deleted_leaves_the_info_to_shards(rig: Rig, encoded: EncodedSet, beside: str) -> None:
    rig.allocate(VOLUME)
    encoded.place(rig.directory, VOLUME, (), (".vif",))
    rig.path(f"{VOLUME}.{beside}").write_bytes(encoded.content(f".{beside}"))
    rig.disk.delete(DeleteVolume(VOLUME))
    assert Worker(rig).names() == {"vif", beside}


def test_files_of_a_volume_that_cannot_be_looked_at_are_not_judged(rig: Rig) -> None:
    class Blind(FileIO):
        def look(self, path: str) -> FileStatus:
            raise PermissionError(13, "Permission denied", path)

    rig.path(f"{VOLUME}.ec00").touch()
    site = rig.disk.site
    found = list_ec_files(type(site)(site.config, Blind(), site.map, site.offset_width))
    assert found == {("", VOLUME): EcFiles("", VOLUME, shards={0: None})}
