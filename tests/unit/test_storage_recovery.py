"""What a killed process, a lost map or an interrupted vacuum leave behind, and what the next start makes of it."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.storage_kit import ERROR, GOLDEN, STORED, Rig, delete, outcomes, put
from volumed.errors import DiskError, NeedleDeleted, NeedleNotFound
from volumed.formats.idx import iter_rows, pack_rows
from volumed.formats.needle import record_length
from volumed.storage.compaction_recovery import Recovery, decide_recovery
from volumed.storage.disk import Disk
from volumed.storage.fileio import File, FileIO
from volumed.storage.index_scan import apply_row, scan_rows
from volumed.storage.map_load import MapPlan, plan_map
from volumed.storage.map_records import VolumeProgress
from volumed.storage.needle_map import MapError, MapTransaction, NeedleMap

_ROW = 17


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.allocate()
    rig.store(put(1, b"one"), put(2, b"two"))
    yield rig
    rig.close()


# A killed process. `.dat` and `.idx` are what a kill between two steps of a batch leaves; the map is older.


class _Interrupted:
    """A volume whose last batch (a put, a delete, an empty object, a put) can be cut off anywhere."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.dat_before = rig.path("1.dat").read_bytes()
        self.idx_before = rig.path("1.idx").read_bytes()
        maps = rig.maps.with_name("maps-before")
        rig.kill()
        shutil.copytree(rig.maps, maps)
        rig.store(put(3, b"three"), delete(1), put(4, b""), put(5, b"five"))
        self.dat = rig.path("1.dat").read_bytes()
        self.idx = rig.path("1.idx").read_bytes()
        rig.kill()
        shutil.rmtree(rig.maps)
        maps.rename(rig.maps)

    def leave(self, dat: bytes, idx: bytes) -> None:
        """In place, so that the files stay the ones the map knows."""
        for name, content in (("1.dat", dat), ("1.idx", idx)):
            with self.rig.path(name).open("r+b") as file:
                file.truncate()
                file.write(content)


@pytest.fixture
def interrupted(rig: Rig) -> _Interrupted:
    return _Interrupted(rig)


def _assert_writable_and_consistent(rig: Rig) -> None:
    assert not rig.disk.status(1).is_read_only
    assert bytes(rig.read(1, 2).data) == b"two"
    assert outcomes(rig.store(put(9, b"nine"))) == [STORED]
    rig.forget_map()
    assert not rig.disk.status(1).is_read_only
    assert bytes(rig.read(1, 9).data) == b"nine"


def test_killed_after_the_index_append_loses_nothing(interrupted: _Interrupted) -> None:
    interrupted.leave(interrupted.dat, interrupted.idx)
    rig = interrupted.rig
    assert bytes(rig.read(1, 5).data) == b"five"
    assert rig.read(1, 4).size == 0
    with pytest.raises(NeedleDeleted):
        rig.read(1, 1)
    _assert_writable_and_consistent(rig)


def test_killed_before_the_index_append(interrupted: _Interrupted) -> None:
    """The first record is beyond doubt and indexed; the tombstone behind it is not, and nobody was told of it."""
    interrupted.leave(interrupted.dat, interrupted.idx_before)
    rig = interrupted.rig
    assert bytes(rig.read(1, 3).data) == b"three"
    assert bytes(rig.read(1, 1).data) == b"one"
    assert rig.disk.status(1).volume_size == len(interrupted.dat_before) + record_length(4 + 5 + 1 + 7, 3)
    _assert_writable_and_consistent(rig)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.7, 0.9])
def test_killed_within_the_data_append(interrupted: _Interrupted, share: float) -> None:
    before, after = len(interrupted.dat_before), len(interrupted.dat)
    interrupted.leave(interrupted.dat[: before + int((after - before) * share)], interrupted.idx_before)
    _assert_writable_and_consistent(interrupted.rig)


@pytest.mark.parametrize("extra", [1, 16, 17, 20, 40, 60])
def test_killed_within_the_index_append(interrupted: _Interrupted, extra: int) -> None:
    interrupted.leave(interrupted.dat, interrupted.idx[: len(interrupted.idx_before) + extra])
    _assert_writable_and_consistent(interrupted.rig)


def test_without_the_map_an_unfinished_append_is_left_alone(interrupted: _Interrupted) -> None:
    torn = interrupted.dat[:-20]
    interrupted.leave(torn, interrupted.idx_before)
    interrupted.rig.forget_map()
    assert interrupted.rig.disk.status(1).is_read_only
    assert interrupted.rig.path("1.dat").read_bytes() == torn


def test_after_a_clean_stop_nothing_is_cut(rig: Rig) -> None:
    rig.close()
    with rig.path("1.dat").open("ab") as dat:
        dat.write(b"x" * 16)
    size = rig.path("1.dat").stat().st_size
    assert rig.disk.status(1).is_read_only
    assert rig.path("1.dat").stat().st_size == size


def test_killed_in_the_first_append_of_a_volume(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.allocate()
    rig.kill()
    with rig.path("1.dat").open("ab") as dat:
        dat.write(b"torn record")
    assert not rig.disk.status(1).is_read_only
    assert rig.disk.status(1).volume_size == 8
    assert outcomes(rig.store(put(1, b"a"))) == [STORED]
    rig.close()


def test_foreign_bytes_beside_an_empty_index_make_it_read_only(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.allocate()
    rig.close()
    with rig.path("1.dat").open("ab") as dat:
        dat.write(b"torn record")
    assert rig.disk.status(1).is_read_only
    rig.close()


# The map as a cache


def test_an_index_that_grew_elsewhere_is_replayed(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.close()
    maps = rig.maps.with_name("older")
    shutil.copytree(rig.maps, maps)
    rig.store(put(3, b"three"), put(1, b"newer"), delete(2))
    expected = rig.counters()
    rig.close()
    shutil.rmtree(rig.maps)
    maps.rename(rig.maps)

    def fail(*_: object) -> None:
        raise AssertionError("the whole index was read")

    monkeypatch.setattr("volumed.storage.map_load.scan_rows", fail)
    assert rig.counters() == expected
    assert bytes(rig.read(1, 1).data) == b"newer"
    with pytest.raises(NeedleDeleted):
        rig.read(1, 2)


def test_a_valid_map_saves_reading_the_files(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.store(*[put(key, b"x" * 200) for key in range(10, 2000)])
    rig.close()
    read = 0
    original = FileIO.read_at

    def count(self: FileIO, file: object, offset: int, length: int) -> bytes:
        nonlocal read
        data = original(self, file, offset, length)  # type: ignore[arg-type]
        read += len(data)
        return data

    monkeypatch.setattr(FileIO, "read_at", count)
    assert rig.disk.status(1).file_count == 1992
    # The superblock is read together with the most it could be long.
    assert read < 100_000


@pytest.mark.parametrize(
    "damage",
    [
        lambda stamp: stamp | {"boot_id": "another"},
        lambda stamp: stamp | {"map_format": 0},
        lambda _: "no stamp at all",
    ],
)
def test_a_map_without_proof_starts_empty(rig: Rig, damage: Callable[[dict[str, object]], object]) -> None:
    path = Path(rig.disk.map_path) / "stamp.json"
    rig.kill()
    path.write_text(json.dumps(damage(json.loads(path.read_text()))))
    needle_map = NeedleMap(str(path.parent), FileIO())
    assert needle_map.known_volumes() == []
    assert not needle_map.after_kill
    needle_map.close()
    assert bytes(rig.read(1, 1).data) == b"one"


def test_a_clean_map_survives_a_restart_of_the_machine(rig: Rig) -> None:
    path = Path(rig.disk.map_path) / "stamp.json"
    rig.close()
    path.write_text(json.dumps(json.loads(path.read_text()) | {"boot_id": "another"}))
    needle_map = NeedleMap(str(path.parent), FileIO())
    assert needle_map.known_volumes() == [1]
    assert not needle_map.after_kill
    needle_map.close()


def test_a_broken_environment_is_replaced(rig: Rig) -> None:
    path = Path(rig.disk.map_path) / "data.mdb"
    rig.kill()
    path.write_bytes(b"garbage" * 1000)
    assert bytes(rig.read(1, 1).data) == b"one"


def test_generations_never_repeat(rig: Rig) -> None:
    seen = {rig.disk.volumes[1].generation}
    for again in (rig.reopen, rig.reopen_after_kill, rig.forget_map):
        again()
        generation = rig.disk.volumes[1].generation
        assert generation
        assert generation not in seen
        seen.add(generation)


def test_entries_of_volumes_that_are_gone_are_dropped(rig: Rig) -> None:
    rig.close()
    for path in rig.directory.glob("1.*"):
        path.unlink()
    assert rig.disk.site.map.known_volumes() == []
    with rig.disk.site.map.begin() as txn:
        assert txn.map_ids() == set()


def test_plan_of_the_map() -> None:
    known = VolumeProgress(1, 2, 3, idx_bytes=34, last_row=b"r" * _ROW)

    def plan(length: int, row: bytes = b"r" * _ROW, inode: int = 3, revision: int = 2) -> MapPlan:
        files = VolumeProgress(1, revision, inode, idx_bytes=length)
        return plan_map(known, files, row, _ROW)

    assert plan(34) is MapPlan.REUSE
    assert plan(51) is MapPlan.REPLAY
    assert plan(17) is MapPlan.REBUILD
    assert plan(34, row=b"s" * _ROW) is MapPlan.REBUILD
    assert plan(34, inode=4) is MapPlan.REBUILD
    assert plan(34, revision=3) is MapPlan.REBUILD
    assert plan(34 + _ROW * 1_000_000) is MapPlan.REBUILD
    assert plan_map(None, known, b"", _ROW) is MapPlan.REBUILD


_ROWS = st.lists(
    st.tuples(
        st.integers(0, 4),
        st.integers(0, 1000).map(lambda unit: unit * 8),
        st.sampled_from([-5, -1, 0, 1, 40, 2**31 - 1]),
    )
)


@given(rows=_ROWS, version=st.sampled_from([1, 2, 3]))
def test_scanning_arrays_equals_applying_rows(rows: list[tuple[int, int, int]], version: int) -> None:
    import numpy as np

    scanned, applied = VolumeProgress(), VolumeProgress()
    entries: dict[int, tuple[int, int]] = {}
    for key, offset, size in rows:
        entry = apply_row(key, offset, size, entries.get(key), version, applied)
        if entry is not None:
            entries[key] = entry
    keys, offsets, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    found = scan_rows(
        np.array(keys, np.uint64), np.array(offsets, np.int64), np.array(sizes, np.int32), version, scanned
    )
    values = zip(found.offsets.tolist(), found.sizes.tolist(), strict=True)
    assert dict(zip(found.keys.tolist(), values, strict=True)) == entries
    assert found.keys.tolist() == sorted(entries)
    assert scanned == applied


def test_rebuild_keeps_other_volumes(tmp_path: Path) -> None:
    import numpy as np

    needle_map = NeedleMap(str(tmp_path / "map"), FileIO())
    for volume_id in (2, 1, 3, 2):
        keys = np.array([0, 5, 2**64 - 1], np.uint64)
        with needle_map.begin() as txn:
            txn.drop_entries(volume_id)
            txn.put_entries(volume_id, keys, np.array([8, 16, 2**42], np.int64), np.array([1, -1, volume_id], np.int32))
    for volume_id in (1, 2, 3):
        assert needle_map.lookup(volume_id, 5) == (16, -1)
        assert needle_map.lookup(volume_id, 2**64 - 1) == (2**42, volume_id)
    with needle_map.begin() as txn:
        assert txn.drop_entries(2, limit=2)
        assert not txn.drop_entries(2, limit=2)
        assert txn.map_ids() == {1, 3}
    assert needle_map.lookup(2, 0) is None
    assert needle_map.lookup(1, 0) == (8, 1)
    assert needle_map.lookup(3, 2**64 - 1) == (2**42, 3)
    needle_map.close()


# Repairs


def test_lost_rows_at_the_head_are_restored(rig: Rig) -> None:
    rig.store(put(3, b"three"))
    rig.close()
    path = rig.path("1.idx")
    damaged = pack_rows([(77, 0, -1), (78, 0, -1)]) + path.read_bytes()[2 * _ROW :]
    path.write_bytes(damaged)
    assert bytes(rig.read(1, 1).data) == b"one"
    assert bytes(rig.read(1, 3).data) == b"three"
    assert path.read_bytes()[2 * _ROW :] == damaged
    assert next(iter_rows(path.read_bytes()))[0] == 1


def test_intact_records_behind_the_index_are_indexed(rig: Rig) -> None:
    rig.store(put(3, b"three"), put(1, b"newer"))
    rig.close()
    path = rig.path("1.idx")
    whole = path.read_bytes()
    path.write_bytes(whole[: 2 * _ROW])
    rig.forget_map()
    assert bytes(rig.read(1, 1).data) == b"newer"
    assert path.read_bytes() == whole
    assert not rig.disk.status(1).is_read_only


@pytest.mark.parametrize(
    ("marker", "data", "index", "expected"),
    [
        (False, False, False, Recovery.NOTHING),
        (False, True, False, Recovery.ROLL_BACK),
        (False, True, True, Recovery.ROLL_BACK),
        (True, False, False, Recovery.ROLL_FORWARD),
        (True, True, True, Recovery.ROLL_FORWARD),
    ],
)
def test_decision_about_an_interrupted_vacuum(marker: bool, data: bool, index: bool, expected: Recovery) -> None:
    assert decide_recovery(marker=marker, data=data, index=index) is expected


def test_vacuum_that_was_killed_between_its_renames_is_finished(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    for extension in (".idx", ".vif"):
        shutil.copyfile(GOLDEN / "vacuum" / "before" / f"3{extension}", rig.path(f"3{extension}"))
    shutil.copyfile(GOLDEN / "vacuum" / "compacted" / "3.cpd", rig.path("3.dat"))
    shutil.copyfile(GOLDEN / "vacuum" / "compacted" / "3.cpx", rig.path("3.cpx"))
    rig.path("3.cpc").touch()
    (rig.path("3.ldb")).mkdir()
    assert rig.disk.status(3).file_count == 7
    assert {path.suffix for path in rig.directory.glob("3.*")} == {".dat", ".idx", ".vif"}
    rig.close()


def test_unreadable_directory_is_an_error_with_a_reason(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.directory.rmdir()
    with pytest.raises(DiskError, match=r"Check Data Folder\(-dir\) Writable .*data : .*no such file"):
        _ = rig.disk
    rig.directory.touch()
    with pytest.raises(DiskError, match="not a directory"):
        _ = rig.disk
    rig.directory.unlink()
    rig.directory.mkdir(0o555)
    with pytest.raises(DiskError, match="Not writable!"):
        _ = rig.disk


def test_a_directory_has_one_owner(rig: Rig) -> None:
    assert rig.disk.volumes
    second = Rig(rig.directory.parent)
    with pytest.raises(DiskError, match="locked by another process"):
        _ = second.disk
    rig.close()
    assert set(second.disk.volumes) == {1}
    second.close()


def test_a_copied_directory_does_not_share_the_map_of_the_original(rig: Rig) -> None:
    assert rig.disk.volumes
    copy = str(rig.directory.parent / "copy")
    shutil.copytree(rig.directory, copy)
    config = msgspec.structs.replace(rig.config, directory=copy, idx_directory=copy)
    with pytest.raises(DiskError, match="same vol_dir.uuid"):
        Disk.open(config, rig.node)


def test_killed_between_the_two_steps_of_an_undo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Killed(BaseException):
        pass

    def fail(_: object) -> None:
        raise MapError("map is full")

    def truncate_and_die(files: FileIO, file: File, length: int) -> None:
        truncate(files, file, length)
        raise Killed

    rig = Rig(tmp_path)
    rig.allocate()
    rig.store(put(1, b"one"))
    truncate = FileIO.truncate
    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(MapTransaction, "commit", fail)
        patch.setattr(FileIO, "truncate", truncate_and_die)
        rig.store(put(2, b"two"), delete(1))
    assert not rig.reopen_after_kill().volumes[1].read_only
    assert bytes(rig.read(1, 1).data) == b"one"
    rig.close()


def test_a_torn_index_without_proof_is_not_loaded(rig: Rig) -> None:
    rig.close()
    with rig.path("1.idx").open("ab") as idx:
        idx.write(b"abc")
    assert not rig.disk.volumes
    (result,) = rig.store(put(1, b"a"))
    assert result.outcome == ERROR
    with pytest.raises(Exception, match="volume 1 not found"):
        rig.read(1, 1)


def test_missing_needle(rig: Rig) -> None:
    with pytest.raises(NeedleNotFound):
        rig.read(1, 99)
