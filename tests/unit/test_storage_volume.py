"""Puts, deletes and reads of one volume: rules, batches, counters, failures of single steps."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.storage_kit import (
    COOKIE,
    DELETED,
    ERROR,
    STORED,
    UNCHANGED,
    BreakableFiles,
    Rig,
    delete,
    outcomes,
    put,
)
from volumed.bus.frames import (
    FLAG_FSYNC,
    FLAG_META_ONLY,
    FLAG_SKIP_COOKIE_CHECK,
    READ_NEEDLE,
    READ_RANGE,
    ReadOperation,
    StoreOperation,
)
from volumed.errors import (
    CorruptNeedle,
    DiskError,
    NeedleDeleted,
    NeedleNotFound,
    StaleGeneration,
    VolumeUnavailable,
)
from volumed.formats.idx import iter_rows
from volumed.formats.needle import decode_body_meta, decode_paged_head
from volumed.storage.read_payload import unpack_payload


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


def _error(rig: Rig, operation: StoreOperation) -> str:
    (result,) = rig.store(operation)
    assert result.error is not None
    return result.error.text


# Puts


def test_put_is_read_back(rig: Rig) -> None:
    assert outcomes(rig.store(put(5, b"hello", name=b"a.txt"))) == [STORED]
    needle = rig.read(1, 5)
    assert (bytes(needle.data), needle.cookie, needle.key, needle.name) == (b"hello", COOKIE, 5, b"a.txt")


def test_empty_object_is_live_and_needs_no_record_to_be_read(rig: Rig) -> None:
    rig.store(put(5, b""))
    assert rig.read(1, 5).size == 0
    assert _rows(rig) == [(5, 8, 0)]


@pytest.mark.parametrize("version", [1, 2])
def test_old_formats_are_written_as_announced(rig: Rig, version: int) -> None:
    rig.allocate(2, version=version)
    rig.store(put(1, b"first", volume_id=2, version=version), put(2, b"second", volume_id=2, version=version))
    rig.reopen()
    assert bytes(rig.read(2, 2).data) == b"second"
    assert not rig.disk.status(2).is_read_only


def test_same_data_is_not_written_again(rig: Rig) -> None:
    rig.store(put(5, b"hello"))
    end = rig.disk.status(1).volume_size
    assert outcomes(rig.store(put(5, b"hello", name=b"other name"))) == [UNCHANGED]
    assert rig.disk.status(1).volume_size == end


@pytest.mark.parametrize("data", [b"hellO", b"hello!", b""])
def test_other_data_is_written(rig: Rig, data: bytes) -> None:
    rig.store(put(5, b"hello"))
    assert outcomes(rig.store(put(5, data))) == [STORED]
    assert bytes(rig.read(1, 5).data) == data


def test_same_data_is_written_again_when_what_is_stored_is_broken(rig: Rig) -> None:
    rig.store(put(5, b"hello"))
    with rig.path("1.dat").open("r+b") as dat:
        dat.seek(8 + 20)
        dat.write(b"J")
    assert outcomes(rig.store(put(5, b"hello"))) == [STORED]


def test_same_data_renews_the_lifetime_in_a_ttl_volume(rig: Rig) -> None:
    rig.allocate(2, ttl=5 << 8 | 2)
    rig.store(put(5, b"hello", volume_id=2))
    assert outcomes(rig.store(put(5, b"hello", volume_id=2))) == [STORED]


def test_cookie_protects_live_and_deleted_keys(rig: Rig) -> None:
    rig.store(put(5, b"hello"))
    assert _error(rig, put(5, b"other", cookie=0xAB)) == "mismatching cookie ab"
    rig.store(delete(5))
    assert _error(rig, put(5, b"other", cookie=0xAB)) == "mismatching cookie ab"
    assert outcomes(rig.store(put(5, b"other"))) == [STORED]


def test_replay_without_cookie_takes_the_stored_one(rig: Rig) -> None:
    rig.store(put(5, b"hello"))
    assert _error(rig, put(5, b"other", cookie=0)) == "mismatching cookie 0"
    assert outcomes(rig.store(put(5, b"other", cookie=0, flags=FLAG_SKIP_COOKIE_CHECK))) == [STORED]
    assert rig.read(1, 5).cookie == COOKIE


def test_unreadable_existing_record_refuses_the_put(rig: Rig, files: BreakableFiles) -> None:
    rig.store(put(5, b"hello"))
    files.break_next("read_at", ".dat")
    assert _error(rig, put(5, b"other")) == "reading existing needle: input/output error"


def test_wrong_bytes_are_never_written(rig: Rig) -> None:
    broken = put(5, b"hello")._replace(checksum=1)
    assert _error(rig, broken) == "the data of a put do not match their checksum"
    assert _rows(rig) == []


def test_a_size_that_no_header_holds_is_refused(rig: Rig) -> None:
    body = memoryview(mmap.mmap(-1, 1 << 31))
    assert "no needle is longer" in _error(rig, put(1, b"")._replace(size=len(body), body=body))


def test_append_times_ascend_strictly(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volumed.storage.volume.time.time_ns", lambda: 10**18)
    rig.store(put(1, b"a"), put(2, b"b"))
    rig.store(put(3, b"c"))
    assert [rig.read(1, key).append_at_ns for key in (1, 2, 3)] == [10**18, 10**18 + 1, 10**18 + 2]


def test_end_of_the_addressable_range_refuses_puts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volumed.storage.append.MAX_VOLUME_SIZE", {5: 48})
    assert outcomes(rig.store(put(1, b"a" * 10))) == [STORED]
    assert _error(rig, put(2, b"b")) == "Volume Size 64 Exceeded 48"


# Deletes


def test_delete_frees_the_needle_size(rig: Rig) -> None:
    (stored,) = rig.store(put(5, b"hello"))
    (gone,) = rig.store(delete(5))
    assert (gone.outcome, gone.size) == (DELETED, stored.size)
    with pytest.raises(NeedleDeleted):
        rig.read(1, 5)
    assert bytes(rig.read(1, 5, deleted=True).data) == b"hello"


def test_delete_of_what_is_not_live_writes_nothing(rig: Rig) -> None:
    rig.store(put(5, b"hello"), delete(5))
    rows = _rows(rig)
    assert [(r.outcome, r.size) for r in rig.store(delete(5), delete(6))] == [(DELETED, 0)] * 2
    assert _rows(rig) == rows


def test_deleted_empty_object_stays_deleted(rig: Rig) -> None:
    rig.store(put(5, b""), delete(5))
    rig.reopen()
    for deleted in (False, True):
        with pytest.raises(NeedleDeleted):
            rig.read(1, 5, deleted=deleted)


# Batches


def test_operations_of_a_batch_see_each_other(rig: Rig) -> None:
    results = rig.store(
        put(1, b"one"),
        put(1, b"one"),
        put(1, b"two"),
        put(1, b"x", cookie=1),
        delete(1),
        delete(1),
        put(1, b"x", cookie=1),
        put(1, b"three"),
        put(2, b"zero", cookie=0),
        put(2, b"more", cookie=9, flags=FLAG_SKIP_COOKIE_CHECK),
    )
    assert outcomes(results) == [
        STORED,
        UNCHANGED,
        STORED,
        ERROR,
        DELETED,
        DELETED,
        ERROR,
        STORED,
        STORED,
        ERROR,
    ]
    assert bytes(rig.read(1, 1).data) == b"three"
    assert [row[0] for row in _rows(rig)] == [1, 1, 1, 1, 2]


def test_a_batch_over_volumes_is_one_append_each(rig: Rig, files: BreakableFiles) -> None:
    rig.allocate(2)
    files.calls.clear()
    rig.store(put(1, b"a"), put(1, b"b", volume_id=2), put(2, b"c"), put(3, b"d", volume_id=9))
    assert [call for call in files.calls if call[0] == "write_at"] == [
        ("write_at", "1.dat"),
        ("write_at", "1.idx"),
        ("write_at", "2.dat"),
        ("write_at", "2.idx"),
    ]


def test_more_pieces_than_one_call_takes(rig: Rig) -> None:
    count = os.sysconf("SC_IOV_MAX") + 7
    assert set(outcomes(rig.store(*[put(key, b"%d" % key) for key in range(count)]))) == {STORED}
    assert bytes(rig.read(1, count - 1).data) == b"%d" % (count - 1)


def test_another_generation_is_refused(rig: Rig) -> None:
    current = rig.disk.volumes[1].generation
    results = rig.store(put(1, b"a", generation=current), put(2, b"b", generation=current + 1))
    assert outcomes(results) == [STORED, ERROR]
    assert isinstance(results[1].error, StaleGeneration)


# Flushes


def test_fsync_makes_the_whole_volume_wait(rig: Rig, files: BreakableFiles) -> None:
    rig.allocate(2)
    files.calls.clear()
    batch = rig.disk.store([put(1, b"a"), put(1, b"b", volume_id=2), put(2, b"c", flags=FLAG_FSYNC), put(3, b"d")])
    (flush,) = batch.flushes
    assert (flush.volume_id, flush.positions) == (1, [0, 2, 3])
    assert rig.disk.is_flushing(1)
    assert not rig.disk.is_flushing(2)
    refused = rig.disk.store([put(9, b"e")])
    assert (outcomes(refused.results), refused.flushes) == ([ERROR], [])
    flush.run()
    assert [call for call in files.calls if call[0] == "sync"] == [("sync", "1.dat"), ("sync", "1.idx")]
    assert rig.disk.finish_flush(flush, None) is None
    assert outcomes(rig.store(put(9, b"e"))) == [STORED]


def test_fsync_of_unchanged_data_flushes_what_came_before(rig: Rig) -> None:
    rig.store(put(1, b"a"))
    refused = rig.disk.store([put(1, b"b", cookie=1, flags=FLAG_FSYNC)])
    assert refused.flushes == []
    batch = rig.disk.store([put(1, b"a", flags=FLAG_FSYNC)])
    assert outcomes(batch.results) == [UNCHANGED]
    (flush,) = batch.flushes
    flush.run()
    rig.disk.finish_flush(flush, None)


def test_a_failed_flush_restores_everything(rig: Rig, files: BreakableFiles) -> None:
    rig.store(put(1, b"one"), put(2, b"two"))
    generation = rig.disk.volumes[1].generation
    before = rig.counters(), rig.path("1.dat").read_bytes(), _rows(rig)
    batch = rig.disk.store([put(1, b"new"), delete(2), put(3, b"three", flags=FLAG_FSYNC)])
    (flush,) = batch.flushes
    files.break_next("sync", ".dat")
    with pytest.raises(DiskError, match="input/output error") as failure:
        flush.run()
    assert rig.disk.finish_flush(flush, failure.value) is failure.value
    assert (rig.counters(), rig.path("1.dat").read_bytes(), _rows(rig)) == before
    assert bytes(rig.read(1, 1).data) == b"one"
    assert bytes(rig.read(1, 2).data) == b"two"
    with pytest.raises(NeedleNotFound):
        rig.read(1, 3)
    assert rig.disk.volumes[1].generation != generation
    assert outcomes(rig.store(put(3, b"three"))) == [STORED]
    rig.reopen()
    assert bytes(rig.read(1, 3).data) == b"three"


def test_an_undo_that_fails_makes_the_volume_unavailable(rig: Rig, files: BreakableFiles) -> None:
    rig.store(put(1, b"one"))
    batch = rig.disk.store([put(2, b"two", flags=FLAG_FSYNC)])
    (flush,) = batch.flushes
    files.break_next("sync", ".dat")
    with pytest.raises(DiskError, match="input/output error") as failure:
        flush.run()
    files.break_next("truncate", ".dat")
    rig.disk.finish_flush(flush, failure.value)
    for _ in range(2):
        with pytest.raises(VolumeUnavailable, match=r"volume 1 is unavailable: .*: volume unavailable"):
            rig.read(1, 1)
        with pytest.raises(VolumeUnavailable, match="volume 1 cannot be marked writable: volume 1 is unav"):
            rig.disk.mark_writable(1)
        assert "unavailable" in _error(rig, put(1, b"x"))
        assert not rig.disk.statistics()[0].reported
        rig.reopen()


# Reads


def test_metadata_of_a_large_needle_is_read_without_its_data(rig: Rig) -> None:
    data = bytes(range(256)) * 5000
    rig.store(put(1, data, name=b"big"))
    payload = unpack_payload(rig.disk.read(ReadOperation(1, READ_NEEDLE, FLAG_META_ONLY, 1, 0, 1, 0, 0)))
    assert len(payload.record) < 100
    head = decode_paged_head(payload.record[:20], payload.version, payload.size)
    needle = decode_body_meta(head, payload.record[20:], payload.version)
    assert (head.data_size, needle.name) == (len(data), b"big")
    page = ReadOperation(1, READ_RANGE, 0, 1, payload.generation, 0, payload.offset + 20 + 1000, 3000)
    assert rig.disk.read(page) == data[1000:4000]


def test_ranges_of_another_generation_or_behind_the_end_are_refused(rig: Rig) -> None:
    rig.store(put(1, b"a"))
    generation = rig.disk.volumes[1].generation
    with pytest.raises(StaleGeneration):
        rig.disk.read(ReadOperation(1, READ_RANGE, 0, 1, generation + 1, 0, 8, 8))
    with pytest.raises(CorruptNeedle, match="EOF"):
        rig.disk.read(ReadOperation(1, READ_RANGE, 0, 1, generation, 0, 8, 1 << 20))


def test_a_reader_keeps_the_file_while_the_volume_is_closed(rig: Rig) -> None:
    rig.store(put(1, b"a"))
    volume = rig.disk.volumes[1]
    dat = volume.dat
    rig.disk.unmount(1)
    assert os.pread(dat.fd, 1, 0) == b"\x03"


# Model

_KEYS = st.integers(0, 5)
_OPERATIONS = st.one_of(
    st.tuples(st.just("put"), _KEYS, st.sampled_from([b"", b"a", b"bb" * 40, b"c" * 300])),
    st.tuples(st.just("delete"), _KEYS, st.just(b"")),
)
_STEP = st.one_of(
    st.lists(_OPERATIONS, min_size=1, max_size=6),
    st.sampled_from(["reopen", "kill", "forget map"]),
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=st.lists(_STEP, max_size=8))
def test_behaves_like_a_dictionary(tmp_path_factory: pytest.TempPathFactory, steps: list[object]) -> None:
    rig = Rig(tmp_path_factory.mktemp("model"))
    rig.allocate()
    model: dict[int, bytes] = {}
    try:
        for step in steps:
            if isinstance(step, list):
                rig.store(*[put(key, data) if kind == "put" else delete(key) for kind, key, data in step])
                for kind, key, data in step:
                    if kind == "put":
                        model[key] = data
                    else:
                        model.pop(key, None)
                continue
            before = rig.counters(), rig.disk.status(1), rig.disk.max_file_key()
            {"reopen": rig.reopen, "kill": rig.reopen_after_kill, "forget map": rig.forget_map}[str(step)]()
            assert (rig.counters(), rig.disk.status(1), rig.disk.max_file_key()) == before
        for key in range(6):
            if key in model:
                assert bytes(rig.read(1, key).data) == model[key]
            else:
                with pytest.raises((NeedleNotFound, NeedleDeleted)):
                    rig.read(1, key)
    finally:
        rig.close()
