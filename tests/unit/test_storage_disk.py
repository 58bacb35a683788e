"""Volumes of a disk: create, mount, unmount, delete, marks, reports, space, expiry."""

from __future__ import annotations

import dataclasses
import errno
import itertools
import json
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.storage_kit import ERROR, STORED, BreakableFiles, Rig, delete, outcomes, put
from volumed.bus.calls import AllocateVolume, DeleteVolume, MarkReadonly
from volumed.config.node import DiskConfig, FreeSpaceLimit
from volumed.errors import (
    DiskError,
    FormatError,
    NoFreeSpace,
    VolumeBusy,
    VolumeExists,
    VolumeNotEmpty,
    VolumeNotFound,
)
from volumed.formats.ttl import Ttl, parse_ttl
from volumed.formats.vif import EcShardConfig, VolumeInfo, encode_vif
from volumed.storage.expiry import Expiry, decide_expiry
from volumed.storage.fileio import SpaceInfo
from volumed.storage.space import automatic_volumes_max, is_space_low

_GIB = 1 << 30
_SERIAL = itertools.count()


@pytest.fixture
def files() -> BreakableFiles:
    return BreakableFiles()


@pytest.fixture
def rig(tmp_path: Path, files: BreakableFiles) -> Iterator[Rig]:
    rig = Rig(tmp_path, files)
    yield rig
    rig.close()


def _names(rig: Rig) -> set[str]:
    return {path.name for path in rig.directory.iterdir()} - {"vol_dir.uuid"}


# Create


def test_a_new_volume_has_its_three_files(rig: Rig) -> None:
    rig.allocate(7, collection="pics", ttl=parse_ttl("3d").to_u32())
    assert _names(rig) == {"pics_7.dat", "pics_7.idx", "pics_7.vif"}
    assert rig.path("pics_7.dat").read_bytes() == bytes([3, 0, 3, 3, 0, 0, 0, 0])
    info = json.loads(rig.path("pics_7.vif").read_text())
    assert (info["version"], info["bytesOffset"]) == (3, 5)
    assert abs(int(info["expireAtSec"]) - time.time() - 3 * 86400) < 10


@pytest.mark.parametrize(
    ("request_", "error", "text"),
    [
        (AllocateVolume(1, "", 0, 0, 3), VolumeExists, "Volume Id 1 already exists!"),
        (AllocateVolume(1, "", 0, 0, 0), VolumeExists, "Volume Id 1 already exists!"),
        (AllocateVolume(2, "", 0, 0, 0), FormatError, "volume super block version 0 is not supported"),
        (AllocateVolume(2, "../x", 0, 0, 3), FormatError, 'invalid collection "../x"'),
    ],
)
def test_refused_creation_leaves_no_files(
    rig: Rig, request_: AllocateVolume, error: type[Exception], text: str
) -> None:
    rig.allocate(1)
    before = _names(rig)
    with pytest.raises(error, match=text):
        rig.disk.allocate(request_)
    assert _names(rig) == before


def test_failed_creation_leaves_no_files(rig: Rig, files: BreakableFiles) -> None:
    assert not rig.disk.volumes
    files.break_next("write_at", ".dat")
    with pytest.raises(DiskError, match="create volume 1: input/output error"):
        rig.allocate(1)
    assert _names(rig) == set()
    rig.allocate(1)


def test_failed_creation_is_not_seen_by_readers(rig: Rig, files: BreakableFiles) -> None:
    assert not rig.disk.volumes
    files.break_next("write_at", ".vif.tmp.volumed", errno.ENOSPC)
    with pytest.raises(DiskError, match="create volume 1: no space left"):
        rig.allocate(1)
    assert rig.disk.site.map.record(1) is None
    assert _names(rig) == set()


def test_a_volume_made_anew_inherits_nothing_of_a_deletion_that_was_killed(rig: Rig) -> None:
    rig.allocate(1)
    rig.store(put(1, b"old"))
    rig.disk.mark_readonly(MarkReadonly(1, can_delete=False, persist=True))
    rig.path("1.unavailable").write_bytes(b"broken")
    rig.path("1.dat").unlink()
    assert not rig.reopen_after_kill().volumes
    rig.allocate(1)
    assert rig.disk.volumes[1].flags == 0
    assert rig.counters() == (0, 0, 0, 0)


def test_preallocation_does_not_change_the_length(rig: Rig) -> None:
    rig.disk.allocate(AllocateVolume(1, "", 0, 0, 3, preallocate_bytes=1 << 20))
    stat = rig.path("1.dat").stat()
    assert stat.st_size == 8
    assert stat.st_blocks * 512 >= 1 << 20


# Mount, unmount, delete


def test_unmounted_volume_is_gone_until_mounted(rig: Rig) -> None:
    rig.allocate(1)
    rig.store(put(1, b"a"))
    before = rig.counters()
    gone = rig.disk.unmount(1)
    assert gone is not None
    assert gone.report.file_count == 1
    assert rig.disk.unmount(1) is None
    assert rig.disk.site.map.record(1) is None
    with pytest.raises(VolumeNotFound, match="volume 1 not found"):
        rig.read(1, 1)
    (refused,) = rig.store(put(1, b"a"))
    assert refused.error is not None
    assert refused.error.text == "volume 1 not found on localhost:8080"
    assert rig.disk.mount(1) is not None
    assert rig.disk.mount(1) is None
    assert rig.counters() == before
    assert bytes(rig.read(1, 1).data) == b"a"


def test_mount_prefers_the_named_collection(rig: Rig) -> None:
    for collection in ("a", "b"):
        rig.allocate(1, collection=collection)
        rig.disk.unmount(1)
    mounted = rig.disk.mount(1, "b")
    assert mounted is not None
    assert mounted.report.collection == "b"
    with pytest.raises(VolumeNotFound, match="volume 2 not found on disk"):
        rig.disk.mount(2)


def test_delete_removes_files_and_entries(rig: Rig) -> None:
    rig.allocate(1)
    rig.store(put(1, b"a"))
    with pytest.raises(VolumeNotFound, match="delete volume 2 not found on disk: volume not found"):
        rig.disk.delete(DeleteVolume(2))
    map_id = rig.disk.volumes[1].map_id
    rig.disk.delete(DeleteVolume(1))
    assert _names(rig) == set()
    (remains,) = rig.disk.take_remains()
    assert (remains.map_id, [Path(file.path).suffix for file in remains.files]) == (map_id, [".dat", ".idx"])
    assert rig.disk.take_remains() == []
    rig.allocate(1)
    assert rig.disk.status(1).file_count == 0
    rig.reopen()
    with rig.disk.site.map.begin() as txn:
        assert map_id not in txn.map_ids()


def test_delete_guards(rig: Rig) -> None:
    rig.allocate(1)
    with pytest.raises(VolumeNotEmpty, match="DeleteVolume 1: volume not empty"):
        rig.disk.delete(DeleteVolume(1, only_garbage=True))
    rig.store(put(1, b"a"), put(2, b"b"), delete(1))
    for request in (DeleteVolume(1, only_garbage=True), DeleteVolume(1, only_empty=True)):
        with pytest.raises(VolumeNotEmpty):
            rig.disk.delete(request)
    rig.store(delete(2))
    with pytest.raises(VolumeNotEmpty):
        rig.disk.delete(DeleteVolume(1, only_empty=True))
    rig.disk.delete(DeleteVolume(1, only_empty=True, only_garbage=True))
    rig.allocate(1)
    rig.disk.delete(DeleteVolume(1, only_empty=True))


def test_a_volume_that_is_being_flushed_is_not_closed(rig: Rig) -> None:
    rig.allocate(1)
    rig.disk.store([put(1, b"a")._replace(flags=1)])
    with pytest.raises(VolumeBusy):
        rig.disk.unmount(1)


def test_delete_collection_takes_exactly_its_volumes(rig: Rig) -> None:
    rig.allocate(1)
    rig.allocate(2, collection="a")
    rig.allocate(3, collection="a_b")
    assert [s.report.id for s in rig.disk.delete_collection("a")] == [2]
    assert [s.report.id for s in rig.disk.delete_collection("")] == [1]
    assert rig.disk.delete_collection("nobody") == []
    assert set(rig.disk.volumes) == {3}


def test_rescan_mounts_what_appeared(rig: Rig) -> None:
    rig.allocate(1)
    rig.allocate(2)
    rig.disk.unmount(2)
    assert [s.report.id for s in rig.disk.rescan()] == [2]
    assert rig.disk.rescan() == []


def test_a_rescan_leaves_a_mounted_volume_alone_that_is_empty_and_was_encoded_once(rig: Rig) -> None:
    """As a start finds it, its files are what an encode has left (erasure-coding.md 4.2)."""
    rig.allocate()
    volume = rig.disk.volumes[1]
    volume.save_info(dataclasses.replace(volume.info, ec_shard_config=EcShardConfig(10, 4, 1, 1 << 20)))
    rig.disk.rescan()
    assert outcomes(rig.store(put(1, b"data"))) == [STORED]
    rig.reopen_after_kill().mount(1)
    assert rig.read(1, 1).data == b"data"


@pytest.mark.parametrize("has_mate", [True, False])
def test_an_index_of_another_disk_does_not_go_with_what_an_encode_left(tmp_path: Path, has_mate: bool) -> None:
    """With one directory for the indexes of all disks (erasure-coding.md 4.2)."""
    index, mate = tmp_path / "index", tmp_path / "mate"
    for directory in (index, mate):
        directory.mkdir()
    rig = Rig(tmp_path, index=index)
    rig.node = msgspec.structs.replace(rig.node, disks=(rig.config, DiskConfig(1, str(mate), str(index))))
    rig.path("7.dat").write_bytes(bytes(8))
    rig.path("7.vif").write_bytes(encode_vif(VolumeInfo(ec_shard_config=EcShardConfig(10, 4, 1, 1 << 20))))
    (index / "7.idx").write_bytes(bytes(17))
    if has_mate:
        (mate / "7.dat").write_bytes(bytes(100))
    assert rig.disk.volumes == {}
    assert not rig.path("7.dat").exists()
    assert (index / "7.idx").exists() == has_mate
    rig.close()


def test_a_rescan_leaves_a_volume_alone_that_is_on_its_way(rig: Rig) -> None:
    """A decode puts it in its place as a vacuum does."""
    rig.disk.arriving.add(7)
    for name in ("7.cpd", "7.cpx"):
        rig.path(name).write_bytes(b"not complete yet")
    rig.disk.rescan()
    assert rig.path("7.cpd").exists()
    assert rig.path("7.cpx").exists()


def test_names_that_are_no_volumes_are_left_alone(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("049.idx", "049.dat", "abc.vif", "_51.idx", "12.dat", "1.vif.tmp.123"):
        rig.path(name).write_bytes(b"")
    before = _names(rig)
    with caplog.at_level(logging.WARNING):
        assert not rig.disk.volumes
    assert _names(rig) == before
    assert "049 is not the name of a volume" in caplog.text


def test_erasure_coded_volumes_are_not_loaded(rig: Rig) -> None:
    rig.allocate(1)
    rig.allocate(2)
    rig.close()
    rig.path("1.ecx").touch()
    rig.path("2.vif").write_text(json.dumps({"ecShardConfig": {"dataShards": 10, "parityShards": 4}}))
    assert not rig.disk.volumes
    assert rig.path("1.dat").exists()
    assert not rig.path("2.dat").exists()


def test_tiered_volumes_wait_for_their_data(rig: Rig) -> None:
    rig.allocate(1)
    rig.close()
    rig.path("1.vif").write_text(json.dumps({"files": [{"backendType": "s3", "key": "k"}]}))
    assert not rig.disk.volumes
    assert rig.disk.distant[1].entry.key == "k"
    assert rig.path("1.dat").exists()


def test_an_unknown_offset_width_is_refused(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.allocate(1)
    rig.close()
    rig.path("1.vif").write_text('{"bytesOffset": 6}')
    assert not rig.disk.volumes
    assert "BytesOffset mismatch in volume info file" in caplog.text
    assert "try use binary version without large_disk" in caplog.text


@pytest.mark.parametrize("keep_map", [True, False])
def test_a_volume_keeps_its_own_offset_width(rig: Rig, keep_map: bool) -> None:
    five = rig.node
    rig.node = msgspec.structs.replace(five, offset_width=4)
    rig.allocate(1)
    rig.store(put(5, b"four"))
    rig.close()
    rig.node = five
    if not keep_map:
        shutil.rmtree(rig.maps)
        rig.maps.mkdir()
    rig.store(put(6, b"bytes"), delete(5))
    assert rig.path("1.idx").stat().st_size == 3 * 16
    assert json.loads(rig.path("1.vif").read_text())["bytesOffset"] == 4
    rig.reopen()
    assert bytes(rig.read(1, 6).data) == b"bytes"
    rig.allocate(2)
    assert json.loads(rig.path("2.vif").read_text())["bytesOffset"] == 5


# Marks


def _can(rig: Rig) -> tuple[bool, bool]:
    """(a put works, a delete works)"""
    results = rig.store(put(99, b"%d" % next(_SERIAL)), delete(1))
    return results[0].outcome != ERROR, results[1].outcome != ERROR


def test_marks_and_what_they_refuse(rig: Rig) -> None:
    rig.allocate(1)
    rig.store(put(1, b"a"))
    rig.disk.mark_readonly(MarkReadonly(1))
    assert _can(rig) == (False, False)
    assert rig.disk.status(1).is_read_only
    rig.disk.mark_readonly(MarkReadonly(1, can_delete=True))
    assert _can(rig) == (False, True)
    rig.reopen()
    assert _can(rig) == (True, True)


def test_persistent_marks_survive_and_are_taken_back(rig: Rig) -> None:
    rig.allocate(1)
    rig.store(put(1, b"a"), put(2, b"b"))
    rig.disk.mark_readonly(MarkReadonly(1, persist=True))
    rig.reopen()
    assert _can(rig) == (False, False)
    rig.disk.mark_readonly(MarkReadonly(1, can_delete=True, persist=True))
    rig.reopen()
    assert _can(rig) == (False, True)
    rig.disk.mark_writable(1)
    assert _can(rig) == (True, True)
    rig.reopen()
    assert _can(rig) == (True, True)


def test_a_volume_loaded_read_only_can_be_made_writable(rig: Rig) -> None:
    """Its index was opened for reading only."""
    rig.allocate(1)
    rig.disk.mark_readonly(MarkReadonly(1, persist=True))
    rig.reopen()
    rig.disk.mark_writable(1)
    assert outcomes(rig.store(put(1, b"a"))) == [STORED]


def test_marks_are_published_to_readers(rig: Rig) -> None:
    rig.allocate(1)
    before = rig.disk.site.map.record(1)
    rig.disk.mark_readonly(MarkReadonly(1))
    after = rig.disk.site.map.record(1)
    assert before is not None
    assert after is not None
    assert (before.read_only, after.read_only) == (False, True)
    assert before.generation == after.generation


# Reports


def test_statistics_and_changes(rig: Rig) -> None:
    rig.allocate(1, collection="c", ttl=parse_ttl("1d").to_u32())
    rig.allocate(2)
    (one, _) = rig.disk.statistics()
    assert (one.report.collection, one.report.ttl, one.report.size) == ("c", 1 << 8 | 3, 8)
    assert rig.disk.changes() == ([], [])
    rig.store(put(5, b"hello", volume_id=2))
    changed, gone = rig.disk.changes()
    assert [(s.report.id, s.report.file_count, s.content_bytes) for s in changed] == [(2, 1, 17)]
    rig.disk.unmount(1)
    assert rig.disk.changes() == ([], [1])
    assert (gone, rig.disk.max_file_key()) == ([], 5)


def test_a_vanished_file_is_not_reported(rig: Rig) -> None:
    rig.allocate(1)
    rig.store(put(1, b"a"))
    rig.disk.expire(0, 1000)
    rig.path("1.dat").rename(rig.path("elsewhere"))
    rig.disk.expire(0, 1010)
    assert rig.disk.statistics()[0].reported
    rig.disk.expire(0, 1040)
    assert not rig.disk.statistics()[0].reported
    rig.path("elsewhere").rename(rig.path("1.dat"))
    rig.disk.expire(0, 1041)
    assert rig.disk.statistics()[0].reported


def test_low_space_refuses_puts_and_new_volumes(rig: Rig) -> None:
    rig.allocate(1)
    rig.store(put(1, b"a"))
    disk = rig.disk
    disk.config = msgspec.structs.replace(rig.config, free_space_limit=FreeSpaceLimit(bytes=_GIB))
    disk.set_space(SpaceInfo(100 * _GIB, _GIB // 2))
    assert disk.space_low
    assert _can(rig) == (False, True)
    with pytest.raises(NoFreeSpace, match="No more free space left"):
        rig.allocate(2)
    disk.set_space(SpaceInfo(100 * _GIB, 2 * _GIB))
    assert _can(rig) == (True, True)


def test_when_space_is_low() -> None:
    half_percent = SpaceInfo(1000, 5)
    assert is_space_low(half_percent, FreeSpaceLimit(percent=1.0))
    assert not is_space_low(SpaceInfo(1000, 10), FreeSpaceLimit(percent=1.0))
    assert is_space_low(half_percent, FreeSpaceLimit(bytes=6))
    assert not is_space_low(half_percent, FreeSpaceLimit(bytes=5))
    assert not is_space_low(SpaceInfo(1000, 0), FreeSpaceLimit())


def test_automatic_maximum() -> None:
    assert automatic_volumes_max(3, 0, 10 * _GIB, _GIB, preallocate=False) == 13
    assert automatic_volumes_max(3, 4 * _GIB, 10 * _GIB, _GIB, preallocate=False) == 9
    assert automatic_volumes_max(3, 4 * _GIB, 10 * _GIB, _GIB, preallocate=True) == 13
    assert automatic_volumes_max(0, 0, 10, _GIB, preallocate=False) == 1


# Expiry


def test_lifetime_of_a_volume() -> None:
    minute = Ttl(1, 1)

    def at(seconds: int, ttl: Ttl = minute, size: int = 100, limit: int = 1) -> Expiry:
        return decide_expiry(ttl, 1000, size, limit, 1000 + seconds)

    assert at(119) is Expiry.ALIVE
    assert at(120) is Expiry.DESTROY
    hour = Ttl(1, 2)
    assert at(3659, hour) is Expiry.ALIVE
    assert at(3660, hour) is Expiry.EXPIRED
    assert at(3660 + 300, hour) is Expiry.EXPIRED
    assert at(3660 + 301, hour) is Expiry.DESTROY
    assert at(10**9, minute, size=8) is Expiry.ALIVE
    assert at(10**9, minute, limit=0) is Expiry.ALIVE
    assert at(10**9, Ttl()) is Expiry.ALIVE


def test_an_expired_volume_is_hidden_then_destroyed(rig: Rig) -> None:
    rig.allocate(1, ttl=parse_ttl("1h").to_u32())
    rig.allocate(2)
    rig.store(put(1, b"a"), put(1, b"b", volume_id=2))
    now = int(time.time())
    assert rig.disk.expire(_GIB, now + 3600) == []
    assert rig.disk.statistics()[0].reported
    assert rig.disk.expire(_GIB, now + 3700) == []
    assert [s.reported for s in rig.disk.statistics()] == [False, True]
    (destroyed,) = rig.disk.expire(_GIB, now + 5000)
    assert destroyed.report.id == 1
    assert _names(rig) == {"2.dat", "2.idx", "2.vif"}


def test_an_old_upload_time_does_not_expire_a_fresh_volume(rig: Rig) -> None:
    rig.allocate(1, ttl=parse_ttl("1h").to_u32())
    rig.store(put(1, b"a"))
    for _ in range(2):
        assert rig.disk.expire(_GIB, int(time.time())) == []
        assert rig.disk.statistics()[0].reported
        rig.forget_map()
