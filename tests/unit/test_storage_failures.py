"""Appends and map transactions that fail half-way: what clients are told, and what is left of them."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage_kit import (
    DELETED,
    ERROR,
    STORED,
    BreakableFiles,
    Rig,
    delete,
    outcomes,
    put,
)
from volumed.bus.frames import FLAG_FSYNC, STORE_DELETE, StoreOperation
from volumed.errors import NeedleNotFound
from volumed.formats.idx import iter_rows
from volumed.storage import needle_map

_STEPS = [("write_at", ".dat"), ("write_at", ".idx")]


@pytest.fixture
def files() -> BreakableFiles:
    return BreakableFiles()


@pytest.fixture
def rig(tmp_path: Path, files: BreakableFiles) -> Iterator[Rig]:
    rig = Rig(tmp_path, files)
    rig.allocate()
    yield rig
    rig.close()


def _rows(rig: Rig) -> list[tuple[int, int, int]]:
    return list(iter_rows(rig.path("1.idx").read_bytes()))


@pytest.mark.parametrize(("call", "suffix"), _STEPS)
def test_a_failed_append_leaves_no_trace(rig: Rig, files: BreakableFiles, call: str, suffix: str) -> None:
    rig.store(put(1, b"before"), put(2, b"before"))
    state = rig.counters(), rig.disk.status(1), rig.path("1.dat").read_bytes(), _rows(rig)
    files.break_next(call, suffix, errno.ENOSPC)
    results = rig.store(put(1, b"other"), delete(2), put(3, b"new"), delete(99))
    assert outcomes(results) == [ERROR, ERROR, ERROR, DELETED]
    assert results[0].error is not None
    assert "append to volume 1 size 17 actualSize 48" in results[0].error.text
    assert "no space left on device" in results[0].error.text
    assert (rig.counters(), rig.disk.status(1), rig.path("1.dat").read_bytes(), _rows(rig)) == state
    assert bytes(rig.read(1, 1).data) == b"before"
    with pytest.raises(NeedleNotFound):
        rig.read(1, 3)
    assert outcomes(rig.store(put(3, b"new"))) == [STORED]
    assert rig.reopen().status(1).is_read_only is False


@pytest.mark.parametrize("operation", [put(1, b"a"), delete(1)])
def test_what_relied_on_a_failed_append_fails_too(rig: Rig, files: BreakableFiles, operation: StoreOperation) -> None:
    if operation.kind == STORE_DELETE:
        rig.store(put(1, b"a"))
    files.break_next("write_at", ".dat", errno.ENOSPC)
    assert outcomes(rig.store(operation, operation)) == [ERROR, ERROR]


def test_a_failed_append_of_one_volume_does_not_touch_another(rig: Rig, files: BreakableFiles) -> None:
    rig.allocate(2)
    files.break_next("write_at", "1.dat")
    assert outcomes(rig.store(put(1, b"a"), put(1, b"b", volume_id=2))) == [ERROR, STORED]
    assert bytes(rig.read(2, 1).data) == b"b"


def test_a_failed_map_commit_rolls_all_volumes_back(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.allocate(2)
    rig.store(put(1, b"before"))
    before = rig.counters(), _rows(rig)

    def fail(_: object) -> None:
        raise needle_map.MapError("map is full")

    with monkeypatch.context() as patch:
        patch.setattr(needle_map.MapTransaction, "commit", fail)
        results = rig.store(put(1, b"other"), put(2, b"new", volume_id=2))
    assert outcomes(results) == [ERROR, ERROR]
    assert (rig.counters(), _rows(rig)) == before
    assert rig.path("2.idx").read_bytes() == b""
    assert outcomes(rig.store(put(1, b"other"), put(2, b"new", volume_id=2))) == [STORED, STORED]
    rig.reopen()
    assert bytes(rig.read(1, 1).data) == b"other"


def test_a_full_map_refuses_and_loses_nothing(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.close()
    monkeypatch.setattr(needle_map, "MAP_SIZE_BYTES", 256 << 10)
    stored = 0
    while True:
        results = rig.store(*[put(key, b"x") for key in range(stored, stored + 100)])
        if results[0].error is not None:
            break
        stored += 100
    assert "index needle" in results[0].error.text
    assert set(outcomes(results)) == {ERROR}
    assert len(_rows(rig)) == stored == rig.disk.status(1).file_count
    rig.close()
    monkeypatch.undo()
    assert not rig.disk.status(1).is_read_only
    assert bytes(rig.read(1, stored - 1).data) == b"x"
    assert outcomes(rig.store(put(stored, b"y"))) == [STORED]


def test_a_map_that_fails_early_answers_every_operation(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    rig.allocate(2)

    def fail(*_: object) -> None:
        raise needle_map.MapError("map is full")

    monkeypatch.setattr(needle_map.MapTransaction, "put", fail)
    results = rig.store(
        put(3, b"c", volume_id=9), put(1, b"a"), put(1, b"a", flags=FLAG_FSYNC), put(2, b"b", volume_id=2)
    )
    assert all(result.error for result in results)
    assert "volume 9 not found" in str(results[0].error)
    assert not rig.disk.is_flushing(1)


def test_when_even_the_undo_fails_the_volume_takes_no_more_writes(rig: Rig, files: BreakableFiles) -> None:
    files.break_next("write_at", ".dat")
    files.break_next("truncate", ".dat")
    rig.store(put(1, b"a"))
    assert str(rig.store(put(1, b"a"))[0].error) == "volume 1 is read only"


def test_what_could_not_be_undone_is_cut_off_before_the_next_write(
    rig: Rig, files: BreakableFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.store(put(1, b"one"), put(2, b"two"))

    def fail(_: object) -> None:
        raise needle_map.MapError("map is full")

    files.break_next("truncate", ".idx")
    with monkeypatch.context() as patch:
        patch.setattr(needle_map.MapTransaction, "commit", fail)
        rig.store(put(1, bytes(500)), put(2, bytes(100)), delete(1))
    assert rig.disk.volumes[1].read_only
    rig.disk.mark_writable(1)
    rig.store(put(3, b"three"))
    assert not rig.reopen().volumes[1].read_only
    assert [bytes(rig.read(1, key).data) for key in (1, 2, 3)] == [b"one", b"two", b"three"]


def test_io_errors_withdraw_a_volume(rig: Rig, files: BreakableFiles) -> None:
    rig.store(put(1, b"a"))
    for _ in range(3):
        files.break_next("write_at", ".dat")
        rig.store(put(2, b"b"))
    rig.disk.expire(0, 0)
    (statistics,) = rig.disk.statistics()
    assert (statistics.reported, statistics.report.read_only) == (False, True)
    assert bytes(rig.read(1, 1).data) == b"a"
    rig.disk.mark_writable(1)
    assert rig.disk.statistics()[0].reported
