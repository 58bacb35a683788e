"""What a compaction copies, what it leaves out, and when it refuses or stops."""

from __future__ import annotations

import errno
import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from tests.compaction_kit import Vacuum
from tests.records import masked_dat
from tests.storage_kit import COOKIE, ERROR, GOLDEN, STORED, BreakableFiles, Rig, delete, outcomes, put
from volumed.bus.calls import DeleteVolume
from volumed.bus.compaction_calls import CheckCompaction, FollowCompaction
from volumed.bus.frames import STORE_PUT, StoreOperation
from volumed.errors import (
    Code,
    CompactionError,
    DiskError,
    NeedleNotFound,
    NodeError,
    NoFreeSpace,
    VolumeBusy,
    VolumedError,
    VolumeNotFound,
)
from volumed.formats.checksum import crc32c
from volumed.formats.idx import ROW_LENGTH, iter_rows
from volumed.formats.needle import FLAG_LAST_MODIFIED, FLAG_TTL, Needle, encode_body
from volumed.formats.ttl import parse_ttl
from volumed.metrics.families import Owner
from volumed.metrics.page import MetricsPage, read_page
from volumed.metrics.recorder import Recorder
from volumed.storage import compaction
from volumed.storage.fileio import SpaceInfo
from volumed.storage.store import ANY_GENERATION


@pytest.fixture
def files() -> BreakableFiles:
    return BreakableFiles()


@pytest.fixture
def rig(tmp_path: Path, files: BreakableFiles) -> Iterator[Rig]:
    rig = Rig(tmp_path, files)
    yield rig
    rig.close()


def _contents(rig: Rig, keys: range = range(40)) -> dict[int, bytes]:
    found = {}
    for key in keys:
        try:
            found[key] = bytes(rig.read(1, key).data)
        except VolumedError:
            continue
    return found


def _vacuum(rig: Rig) -> None:
    vacuum = Vacuum(rig)
    vacuum.compact()
    vacuum.commit()


def _put_with_ttl(key: int, ttl: str, last_modified: int) -> StoreOperation:
    needle = Needle(data=b"x", flags=FLAG_LAST_MODIFIED | FLAG_TTL, ttl=parse_ttl(ttl), last_modified=last_modified)
    body = b"".join(encode_body(needle, 3))
    return StoreOperation(STORE_PUT, 0, 1, ANY_GENERATION, COOKIE, key, crc32c(b"x"), len(body), body, 0)


@pytest.mark.parametrize("width", [4, 5])
@pytest.mark.parametrize("version", [1, 2, 3])
def test_what_is_alive_is_kept_and_nothing_else(rig: Rig, version: int, width: int) -> None:
    rig.node = msgspec.structs.replace(rig.node, offset_width=width)
    rig.allocate(version=version)
    rig.store(*[put(key, b"%d" % key * 50, version=version) for key in (5, 3, 9, 1, 7)])
    rig.store(put(3, b"other", version=version), delete(9), put(2, b"", version=version))
    alive = _contents(rig)
    vacuum = Vacuum(rig)
    assert vacuum.do(CheckCompaction(1)).ratio == pytest.approx(
        rig.counters()[3] / rig.counters()[1]
    )
    vacuum.compact()
    committed = vacuum.commit()
    assert _contents(rig) == alive
    assert committed.volume_size == rig.path("1.dat").stat().st_size
    index = rig.path("1.idx").read_bytes()
    assert len(index) == 5 * ROW_LENGTH[width]
    assert [key for key, _, _ in iter_rows(index, width)] == [1, 2, 3, 5, 7]
    with pytest.raises(NeedleNotFound):
        rig.read(1, 9, deleted=True)
    assert {path.suffix for path in rig.directory.glob("1.*")} == {".dat", ".idx", ".vif"}
    assert vacuum.do(CheckCompaction(1)).ratio == 0
    assert outcomes(rig.store(put(20, b"new", version=version))) == [STORED]
    before = rig.disk.status(1), rig.counters()
    assert before[0].compact_revision == 1
    rig.forget_map()
    assert (rig.disk.status(1), rig.counters()) == before
    assert _contents(rig) == alive | {20: b"new"}


def test_an_empty_volume(rig: Rig) -> None:
    rig.allocate()
    rig.store(put(1, b"a"), delete(1))
    _vacuum(rig)
    assert rig.path("1.idx").read_bytes() == b""
    assert rig.path("1.dat").read_bytes() == b"\x03\0\0\0\0\1\0\0"
    assert outcomes(rig.store(put(1, b"b"))) == [STORED]
    rig.reopen()
    assert _contents(rig) == {1: b"b"}


def test_the_bytes_are_those_of_the_reference(rig: Rig) -> None:
    """Volume 3 of the golden files, from before to `.cpd` and `.cpx`. DEVIATE: the reference has dropped the needle
    with the largest key, which has a TTL that is not over."""
    for suffix in ("dat", "idx", "vif"):
        shutil.copy(GOLDEN / "vacuum" / "before" / f"3.{suffix}", rig.directory)
    Vacuum(rig).compact(3)
    rows, dat = rig.path("3.cpx").read_bytes(), masked_dat(rig.path("3.cpd").read_bytes())
    expected = GOLDEN / "vacuum" / "compacted"
    expected_rows, expected_dat = (expected / "3.cpx").read_bytes(), masked_dat((expected / "3.cpd").read_bytes())
    assert rows[: len(expected_rows)] == expected_rows
    assert dat[: len(expected_dat)] == expected_dat
    [(key, offset, _)] = iter_rows(rows[len(expected_rows) :])
    assert (key, offset) == (144, len(expected_dat))


def test_append_times_survive(rig: Rig) -> None:
    rig.allocate()
    rig.store(*[put(key, b"%d" % key) for key in (2, 1)])
    times = [rig.read(1, key).append_at_ns for key in (1, 2)]
    _vacuum(rig)
    assert [rig.read(1, key).append_at_ns for key in (1, 2)] == times
    assert rig.disk.volumes[1].progress.last_append_at_ns == max(times)
    rig.reopen()
    assert rig.disk.volumes[1].progress.last_append_at_ns == max(times)


def test_long_records_are_copied_in_pieces(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction, "_BLOCK_BYTES", 100)
    for version in (1, 2, 3):
        rig.allocate(version, version=version)
        long, damaged = bytes(range(250)) * 5, b"d" * 1000
        needles = enumerate((long, damaged, b"short"))
        rig.store(*[put(key, data, volume_id=version, version=version) for key, data in needles])
        _damage(rig.path(f"{version}.dat"), b"d" * 500)
        vacuum = Vacuum(rig)
        vacuum.compact(version)
        vacuum.commit(version)
        assert bytes(rig.read(version, 0).data) == long
        assert bytes(rig.read(version, 2).data) == b"short"
        with pytest.raises(NeedleNotFound):
            rig.read(version, 1)


def _damage(path: Path, what: bytes) -> None:
    content = path.read_bytes()
    at = content.index(what) + len(what) // 2
    path.write_bytes(content[:at] + b"?" + content[at + 1 :])


def test_unreadable_needles_are_left_out(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.allocate()
    rig.store(*[put(key, b"data of %d" % key) for key in range(1, 6)])
    _damage(rig.path("1.dat"), b"data of 2")
    dat = bytearray(rig.path("1.dat").read_bytes())
    dat[rig.disk.site.map.lookup(rig.disk.volumes[1].map_id, 4)[0] + 15] += 1  # type: ignore[index]
    rig.path("1.dat").write_bytes(dat[:-8])
    _vacuum(rig)
    assert sorted(_contents(rig)) == [1, 3]
    assert "3 unreadable needles are left out" in caplog.text
    rig.reopen()
    assert not rig.disk.status(1).is_read_only


def test_a_disk_that_fails_loses_no_needle(rig: Rig, files: BreakableFiles) -> None:
    rig.allocate()
    rig.store(put(1, b"a"))
    for call, suffix in (("read_at", ".dat"), ("write_at", ".cpd"), ("write_at", ".cpx"), ("sync", ".cpd")):
        files.break_next(call, suffix, errno.EIO)
        with pytest.raises(DiskError, match=r"^cannot hydrate needle from file: input/output error$"):
            Vacuum(rig).compact()
        assert not list(rig.directory.glob("1.cp*"))
        assert not rig.disk.volumes[1].compacting
    assert _contents(rig) == {1: b"a"}


@pytest.mark.parametrize(("volume_ttl", "kept"), [("", [2, 3]), ("3m", [2, 3, 4])])
def test_expired_needles_go(rig: Rig, monkeypatch: pytest.MonkeyPatch, volume_ttl: str, kept: list[int]) -> None:
    """Key 1 is old in every way, 4 only by its append time, 2 has a longer TTL, 3 none of its own."""
    now = time.time_ns()
    rig.allocate(ttl=parse_ttl(volume_ttl).to_u32())
    with monkeypatch.context() as patch:
        patch.setattr(time, "time_ns", lambda: now - 200 * 10**9)
        old, new = now // 10**9 - 200, now // 10**9
        rig.store(_put_with_ttl(1, "3m", old), _put_with_ttl(2, "1h", old), put(3, b"x"), _put_with_ttl(4, "3m", new))
    clock_s = rig.disk.volumes[1].progress.ttl_clock_s
    _vacuum(rig)
    rows = iter_rows(rig.path("1.idx").read_bytes())
    assert [key for key, _, _ in rows] == kept
    assert rig.disk.volumes[1].progress.ttl_clock_s == clock_s


def test_space_must_be_there_for_a_second_copy(rig: Rig, files: BreakableFiles) -> None:
    rig.allocate()
    rig.store(put(1, b"a"))
    files.space = lambda _: SpaceInfo(1 << 40, 70)  # type: ignore[method-assign]
    with pytest.raises(NoFreeSpace) as caught:
        Vacuum(rig).compact()
    assert caught.value.code is Code.RESOURCE_EXHAUSTED
    assert caught.value.text == (
        "compact volume 1: insufficient free space for compaction: need 73 bytes (volume: 56, index: 17), "
        "but only 70 bytes available: insufficient free space"
    )
    files.space = lambda _: SpaceInfo(1 << 40, 73)  # type: ignore[method-assign]
    Vacuum(rig).compact()
    with pytest.raises(NoFreeSpace, match="need 74 bytes"):
        Vacuum(rig).compact(preallocate=74)


def test_an_index_that_was_cut_behind_our_back_is_noticed(rig: Rig) -> None:
    rig.allocate()
    rig.store(put(1, b"a"), put(2, b"b"))
    rig.path("1.idx").write_bytes(rig.path("1.idx").read_bytes()[:17])
    with pytest.raises(CompactionError, match=r"^volume 1 unexpected new data size: 17 does not match expected live"):
        Vacuum(rig).compact()


def test_a_stopped_compaction_leaves_nothing(rig: Rig) -> None:
    rig.allocate()
    rig.store(put(1, b"a"))
    vacuum = Vacuum(rig)
    task = vacuum.start()
    vacuum.stop(task)
    assert not list(rig.directory.glob("1.cp*"))
    with pytest.raises(NodeError):
        vacuum.do(FollowCompaction(task))
    vacuum.compact()
    task = vacuum.start()
    vacuum.shell.run()
    vacuum.stop(task)
    with pytest.raises(CompactionError, match="missing .cpd/.cpx"):
        vacuum.commit()


def test_a_vacuum_that_is_under_way_is_told(rig: Rig) -> None:
    rig.allocate()
    vacuum = Vacuum(rig)
    vacuum.start()
    (task,) = vacuum.compactions.tasks()
    assert (task.what, task.volume_id, task.total_bytes) == ("vacuum", 1, rig.disk.volumes[1].dat_end)
    vacuum.shell.run()
    assert vacuum.compactions.tasks() == []


def test_who_does_not_ask_any_more_has_given_up(rig: Rig) -> None:
    rig.allocate()
    vacuum = Vacuum(rig)
    task = vacuum.start()
    vacuum.now = 29
    vacuum.compactions.tick()
    assert not vacuum.call(FollowCompaction(task)).failure
    vacuum.now = 60
    vacuum.compactions.tick()
    vacuum.shell.run()
    assert not list(rig.directory.glob("1.cp*"))


def test_one_compaction_at_a_time(rig: Rig) -> None:
    rig.allocate()
    vacuum = Vacuum(rig)
    assert vacuum.start()
    assert vacuum.start() == 0
    revision = rig.disk.status(1).compact_revision
    answer = vacuum.begin_commit()
    assert (answer.value.is_read_only, answer.value.volume_size) == (False, 8)
    vacuum.cleanup()
    assert vacuum.commit().volume_size == 8
    assert rig.disk.status(1).compact_revision == revision + 1


def test_a_volume_at_work_does_not_go_away(rig: Rig) -> None:
    rig.allocate()
    vacuum = Vacuum(rig)
    vacuum.start()
    with pytest.raises(VolumeBusy, match=r"^volume 1 is compacting$"):
        rig.disk.delete(DeleteVolume(1))
    assert rig.disk.delete_collection("") == []
    assert rig.disk.expire(1, int(time.time()) + 10**9) == []
    done: list[object] = []
    vacuum.compactions.interrupt(1, lambda: done.append(rig.disk.unmount(1)))
    assert not done
    vacuum.shell.run()
    assert done
    assert not list(rig.directory.glob("1.cp*"))


def test_a_finished_compaction_is_gone_with_its_volume(rig: Rig) -> None:
    rig.allocate()
    vacuum = Vacuum(rig)
    vacuum.compact()
    vacuum.compactions.forget_volume(1)
    rig.disk.unmount(1)
    rig.disk.mount(1)
    assert not list(rig.directory.glob("1.cp*"))
    with pytest.raises(CompactionError, match=r"^volume 1 compact swap aborted: missing .cpd/.cpx$"):
        vacuum.commit()


def test_what_is_missing_is_told(rig: Rig) -> None:
    rig.allocate()
    vacuum = Vacuum(rig)
    for act, text in (
        (lambda: vacuum.do(CheckCompaction(9)), "volume id 9 is not found during check compact: volume not found"),
        (lambda: vacuum.start(9), "compact volume 9: volume id 9 is not found during compact: volume not found"),
        (lambda: vacuum.commit(9), "commit compact volume 9: volume id 9 is not found during commit compact: "),
        (lambda: vacuum.cleanup(9), "cleanup volume 9: volume id 9 is not found during cleaning up: volume not found"),
    ):
        with pytest.raises(VolumeNotFound) as caught:
            act()
        assert caught.value.text.startswith(text)
        assert caught.value.code is Code.NOT_FOUND


def test_cleanup_and_markers(rig: Rig) -> None:
    rig.allocate()
    vacuum = Vacuum(rig)
    vacuum.cleanup()
    vacuum.compact()
    vacuum.cleanup()
    assert not list(rig.directory.glob("1.cp*"))
    rig.path("1.cpc").touch()
    with pytest.raises(CompactionError, match=r"^cleanup volume 1: volume 1: refusing cleanup while commit marker"):
        vacuum.cleanup()
    vacuum.compact()
    assert not rig.path("1.cpc").exists(), "a crash would have made the half-written copy the volume"
    rig.path("1.cpc").touch()
    with pytest.raises(CompactionError, match="commit marker present"):
        Vacuum(rig).compact()


def test_a_worker_that_stops_begins_nothing(rig: Rig) -> None:
    rig.allocate()
    vacuum = Vacuum(rig)
    task = vacuum.start()
    vacuum.compactions.stop_all()
    vacuum.shell.run()
    with pytest.raises(CompactionError, match="interrupted"):
        vacuum.do(FollowCompaction(task))
    for act in (vacuum.start, vacuum.commit):
        with pytest.raises(CompactionError, match=r"^volume id 1 skips compact because volume is stopping$"):
            act()


def test_a_read_only_volume_stays_so(rig: Rig) -> None:
    rig.allocate()
    rig.store(put(1, b"a"))
    rig.close()
    info = json.loads(rig.path("1.vif").read_text())
    rig.path("1.vif").write_text(json.dumps(info | {"readOnly": True}))
    vacuum = Vacuum(rig)
    vacuum.compact()
    assert vacuum.commit().is_read_only
    assert outcomes(rig.store(put(2, b"b"))) == [ERROR]
    assert _contents(rig) == {1: b"a"}


def test_vacuums_are_counted(rig: Rig, tmp_path: Path) -> None:
    page = str(tmp_path / "page")
    rig.allocate()
    vacuum = Vacuum(rig, recorder=Recorder(MetricsPage(page), Owner.WORKER))
    with pytest.raises(NoFreeSpace):
        vacuum.compact(preallocate=1 << 60)
    vacuum.compact()
    vacuum.commit()
    vacuum.compact()
    rig.path("1.cpd").unlink()
    with pytest.raises(CompactionError):
        vacuum.commit()
    counts = {
        (item.name.removeprefix("SeaweedFS_volumeServer_"), *item.labels): sum(item.cells[:-1] or item.cells)
        for item in read_page(page)[0]
    }
    assert counts["vacuuming_compact_count", "true"] == 2
    assert counts["vacuuming_compact_count", "false"] == 1
    assert counts["vacuuming_commit_count", "true"] == 1
    assert counts["vacuuming_commit_count", "false"] == 1
    assert counts["vacuuming_seconds", "compact"] == 3
    assert counts["vacuuming_seconds", "commit"] == 2
