"""Needles whose record is copied from a spool: bytes and decisions of a put at once, and failures leave no trace."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.storage_kit import COOKIE, ERROR, STORED, UNCHANGED, BreakableFiles, Rig, delete, needle_body, put
from volumed.bus.calls import MarkReadonly
from volumed.bus.frames import FLAG_FSYNC, StoreResult
from volumed.errors import (
    CookieMismatch,
    DiskError,
    NeedleNotFound,
    NodeError,
    ReadOnlyVolume,
    StaleGeneration,
    VolumedError,
    VolumeNotFound,
)
from volumed.formats.checksum import crc32c
from volumed.formats.idx import iter_rows
from volumed.formats.needle import append_time_offset
from volumed.storage.disk import Disk
from volumed.storage.fileio import NAMELESS_PREFIX, File
from volumed.storage.placed_put import SpooledNeedle
from volumed.storage.store import ANY_GENERATION

DATA = bytes(range(256)) * 5000


class CopyFiles(BreakableFiles):
    """`copy` can be made to fail half-way."""

    fails_with = 0

    def copy(self, source: File, target: File, target_offset: int, length: int) -> None:
        if self.fails_with:
            super().copy(source, target, target_offset, length // 2)
            raise OSError(self.fails_with, os.strerror(self.fails_with), target.path)
        super().copy(source, target, target_offset, length)


@pytest.fixture
def files() -> CopyFiles:
    return CopyFiles()


@pytest.fixture
def rig(tmp_path: Path, files: CopyFiles) -> Iterator[Rig]:
    rig = Rig(tmp_path, files)
    rig.allocate()
    yield rig
    rig.close()


def spooled(
    rig: Rig,
    key: int,
    data: bytes,
    *,
    cookie: int = COOKIE,
    version: int = 3,
    flags: int = 0,
    volume_id: int = 1,
    generation: int = ANY_GENERATION,
) -> SpooledNeedle:
    spool = rig.files.open_nameless(str(rig.directory))
    rig.files.write_at(spool, 0, [data])
    body = needle_body(data, version)
    prefix = body[:4] if data and version > 1 else b""
    suffix = body[len(prefix) + len(data) :]
    return SpooledNeedle(
        volume_id, generation, cookie, key, crc32c(data), prefix, suffix, spool, len(data), flags
    )


def place(rig: Rig, needle: SpooledNeedle) -> StoreResult:
    """What the worker does, on one thread."""
    copy = rig.disk.begin_placing(needle)
    assert rig.disk.is_flushing(needle.volume_id)
    try:
        done = copy.run()
    except VolumedError as error:
        assert rig.disk.place(copy, None).results == []
        return StoreResult(ERROR, 0, error)
    batch = rig.disk.place(copy, done)
    for flush in batch.flushes:
        flush.run()
        rig.disk.finish_flush(flush, None)
    assert not rig.disk.is_flushing(needle.volume_id)
    return batch.results[0]


def state(rig: Rig) -> tuple[object, ...]:
    rows = list(iter_rows(rig.path("1.idx").read_bytes()))
    return rig.counters(), rig.disk.status(1), rig.path("1.dat").read_bytes(), rows


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("data", [DATA, b"x", b""], ids=["long", "short", "empty"])
def test_the_files_are_those_of_a_put_at_once(tmp_path: Path, version: int, data: bytes) -> None:
    contents = []
    for name in ("at once", "placed"):
        (tmp_path / name).mkdir()
        rig = Rig(tmp_path / name)
        rig.allocate(version=version)
        rig.store(put(1, b"before", version=version))
        if name == "placed":
            result = place(rig, spooled(rig, 7, data, version=version))
        else:
            (result,) = rig.store(put(7, data, version=version))
        assert result == StoreResult(STORED, len(needle_body(data, version)))
        rig.store(put(8, b"behind", version=version))
        dat = bytearray(rig.path("1.dat").read_bytes())
        if version == 3:
            for _, offset, size in iter_rows(rig.path("1.idx").read_bytes()):
                time = offset + append_time_offset(size)
                dat[time : time + 8] = bytes(8)
        contents.append((bytes(dat), rig.path("1.idx").read_bytes(), rig.counters()))
        for again in (Rig.reopen, Rig.reopen_after_kill):
            assert not again(rig).volumes[1].read_only
            assert bytes(rig.read(1, 7).data) == data
            assert bytes(rig.read(1, 8).data) == b"behind"
        rig.close()
    assert contents[0] == contents[1]


def test_unchanged_and_cookie(rig: Rig) -> None:
    assert place(rig, spooled(rig, 7, DATA)).outcome == STORED
    before = state(rig)
    assert place(rig, spooled(rig, 7, DATA)).outcome == UNCHANGED
    refused = place(rig, spooled(rig, 7, DATA, cookie=1))
    assert isinstance(refused.error, CookieMismatch)
    assert state(rig) == before
    assert rig.store(put(7, DATA))[0].outcome == UNCHANGED
    assert place(rig, spooled(rig, 7, DATA[::-1])).outcome == STORED
    assert bytes(rig.read(1, 7).data) == DATA[::-1]
    rig.store(delete(7))
    assert place(rig, spooled(rig, 7, DATA[::-1])).outcome == STORED
    assert isinstance(place(rig, spooled(rig, 7, DATA, cookie=1)).error, CookieMismatch)


def test_the_data_are_compared_when_the_checksum_is_the_same(rig: Rig) -> None:
    rig.store(put(7, DATA))
    other = spooled(rig, 7, DATA[::-1])._replace(checksum=crc32c(DATA))
    assert place(rig, other).outcome == STORED


def test_a_volume_with_ttl_stores_the_same_again(rig: Rig) -> None:
    rig.allocate(2, ttl=0x0304)
    for _ in range(2):
        assert place(rig, spooled(rig, 7, DATA, volume_id=2)).outcome == STORED
    assert rig.disk.volumes[2].progress.ttl_clock_s > 1_700_000_000


def test_refusals(rig: Rig) -> None:
    with pytest.raises(VolumeNotFound):
        rig.disk.begin_placing(spooled(rig, 7, DATA, volume_id=9))
    with pytest.raises(StaleGeneration):
        rig.disk.begin_placing(spooled(rig, 7, DATA, generation=99))
    wrong = spooled(rig, 7, DATA)._replace(prefix=b"\0\0\0\1")
    assert isinstance(place(rig, wrong).error, NodeError)
    rig.disk.mark_readonly(MarkReadonly(1))
    assert isinstance(place(rig, spooled(rig, 7, DATA)).error, ReadOnlyVolume)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_copy_that_fails_leaves_no_trace(rig: Rig, files: CopyFiles, code: int) -> None:
    rig.store(put(1, b"before"))
    before = state(rig)
    files.fails_with = code
    error = place(rig, spooled(rig, 7, DATA)).error
    assert isinstance(error, DiskError)
    assert error.text.startswith(f"append to volume 1 size {len(needle_body(DATA))} actualSize ")
    assert error.text.endswith(os.strerror(code).lower())
    assert state(rig) == before
    files.fails_with = 0
    assert place(rig, spooled(rig, 7, DATA)).outcome == STORED


def test_a_failure_that_cannot_be_undone_stops_the_volume(rig: Rig, files: CopyFiles) -> None:
    files.fails_with = errno.EIO
    files.break_next("truncate", ".dat")
    assert place(rig, spooled(rig, 7, DATA)).outcome == ERROR
    files.fails_with = 0
    assert rig.disk.volumes[1].read_only
    rig.disk.mark_writable(1)
    assert place(rig, spooled(rig, 7, DATA)).outcome == STORED
    assert bytes(rig.reopen_after_kill().volumes and rig.read(1, 7).data) == DATA


def test_a_row_that_fails_takes_the_record_along(rig: Rig, files: CopyFiles) -> None:
    rig.store(put(1, b"before"))
    before = state(rig)
    files.break_next("write_at", ".idx", errno.ENOSPC)
    assert isinstance(place(rig, spooled(rig, 7, DATA)).error, DiskError)
    assert state(rig) == before


def test_a_volume_that_became_read_only_meanwhile(rig: Rig) -> None:
    before = rig.path("1.dat").read_bytes()
    copy = rig.disk.begin_placing(spooled(rig, 7, DATA))
    done = copy.run()
    rig.disk.mark_readonly(MarkReadonly(1))
    (result,) = rig.disk.place(copy, done).results
    assert isinstance(result.error, ReadOnlyVolume)
    assert rig.path("1.dat").read_bytes() == before


def test_a_flush_can_be_undone(rig: Rig) -> None:
    rig.store(put(1, b"before"))
    before = state(rig)[2:]
    copy = rig.disk.begin_placing(spooled(rig, 7, DATA, flags=FLAG_FSYNC))
    (flush,) = rig.disk.place(copy, copy.run()).flushes
    rig.disk.finish_flush(flush, DiskError("sync"))
    assert state(rig)[2:] == before
    with pytest.raises(NeedleNotFound):
        rig.read(1, 7)


@pytest.mark.parametrize("end", [Rig.reopen_after_kill, Rig.reopen], ids=["kill", "stop"])
def test_an_end_while_copying_costs_only_the_copy(rig: Rig, files: CopyFiles, end: Callable[[Rig], Disk]) -> None:
    rig.store(put(1, b"before"))
    length = rig.path("1.dat").stat().st_size
    copy = rig.disk.begin_placing(spooled(rig, 7, DATA))
    files.fails_with = errno.EIO
    files.break_next("truncate", ".dat")
    with pytest.raises(DiskError):
        copy.run()
    assert rig.path("1.dat").stat().st_size > length
    volume = end(rig).volumes[1]
    assert (volume.dat_end, volume.read_only) == (length, False)
    assert rig.path("1.dat").stat().st_size == length
    assert bytes(rig.read(1, 1).data) == b"before"


def test_a_complete_copy_survives_a_kill(rig: Rig) -> None:
    """Like any record without a row: it is indexed, though nobody was told."""
    rig.disk.begin_placing(spooled(rig, 7, DATA)).run()
    rig.reopen_after_kill()
    assert bytes(rig.read(1, 7).data) == DATA


def test_a_complete_copy_with_a_wrong_byte_does_not(rig: Rig) -> None:
    copy = rig.disk.begin_placing(spooled(rig, 7, DATA))
    copy.run()
    rig.files.write_at(copy.volume.dat, 1_100_000, [b"!"])
    rig.reopen_after_kill()
    with pytest.raises(NeedleNotFound):
        rig.read(1, 7)


def test_spools_have_no_names(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set(os.listdir(rig.directory))
    spool = rig.files.open_nameless(str(rig.directory))
    assert set(os.listdir(rig.directory)) == names
    monkeypatch.delattr(os, "O_TMPFILE")
    monkeypatch.setattr(os, "O_TMPFILE", os.O_DIRECTORY | os.O_CREAT, raising=False)
    other = rig.files.open_nameless(str(rig.directory))
    assert other.inode != spool.inode
    assert set(os.listdir(rig.directory)) == names
    left = rig.path(NAMELESS_PREFIX + "left")
    left.touch()
    rig.reopen()
    assert not left.exists()


def test_a_copy_without_help_of_the_kernel(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsupported(*_: object) -> int:
        raise OSError(errno.EXDEV, "no")

    monkeypatch.setattr(os, "copy_file_range", unsupported)
    assert place(rig, spooled(rig, 7, DATA)).outcome == STORED
    assert bytes(rig.read(1, 7).data) == DATA
