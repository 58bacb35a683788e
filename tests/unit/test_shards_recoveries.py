"""What recoveries may take: memory, threads and time."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.erasure_kit import RATIO, ShardReads, SmallVolume
from tests.processes import wait_until
from tests.shards_kit import FakeElsewhere, SmallNode, mounted
from volumed.erasure.encode import Encoded
from volumed.erasure.layout import MIB, Interval
from volumed.erasure.read import Answer, answered, read_needle
from volumed.errors import RetryError
from volumed.formats.idx import Row
from volumed.shards import reader
from volumed.shards.gathering import NotRecovered, Patience
from volumed.shards.threads import BoundedThreads
from volumed.shards.view import NodeEcVolume
from volumed.storage.fileio import File, FileIO

COLUMN_BYTES = 256 << 10
LIMIT_S = 30.0
IN_SHARD_0, IN_SHARD_1 = 3, 1
"""Needles."""
LAST_COLUMN_AT = 1_000_000
"""Of the former one there are three columns."""
COOKIE = 0xC0FFEE
Made = tuple[SmallVolume, Encoded]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    volume = SmallVolume(tmp_path_factory.mktemp("ec") / "d", needles=4, needle_bytes=2 * MIB)
    return volume, volume.encode()


def row_of(volume: SmallVolume, key: int) -> Row:
    return next(row for row in volume.rows if row[0] == key)


class CountedBytes(bytearray):
    """Counts how many of all like it are in memory."""

    alive = 0

    def __init__(self, content: bytes) -> None:
        super().__init__(content)
        CountedBytes.alive += len(self)

    def __del__(self) -> None:
        CountedBytes.alive -= len(self)


class WarmFiles(FileIO):
    """Everything is in the page cache; counts the reads that would wait for the disk all the same."""

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0

    def read_at(self, file: File, offset: int, length: int) -> bytes:
        self.waited += 1
        return super().read_at(file, offset, length)

    def read_cached(self, file: File, offset: int, length: int) -> bytearray | None:
        return bytearray(super().read_at(file, offset, length))


def test_a_long_piece_is_recovered_bit_by_bit(made: Made) -> None:
    volume, encoded = made
    reads, peak = ShardReads(volume, lost=[0, 1]), 0

    def read(wanted: Interval) -> Answer:
        nonlocal peak
        found = reads(wanted)
        if found is None:
            return None
        counted = CountedBytes(found)
        peak = max(peak, CountedBytes.alive)
        return counted

    found = answered(read_needle(volume.source(encoded), row_of(volume, IN_SHARD_1)), read)
    assert found.needle.data == volume.contents[IN_SHARD_1]
    assert sum(wanted.length for wanted in reads.asked if wanted.shard > 1) > 6 * RATIO.data * COLUMN_BYTES
    assert peak <= 2 * RATIO.data * COLUMN_BYTES


def test_what_could_not_be_read_is_asked_last(made: Made) -> None:
    """It may take seconds to fail, for each piece again; yet elsewhere in the shard it may do."""
    volume, encoded = made
    reads = ShardReads(volume, lost=[0])

    def read(wanted: Interval) -> Answer:
        found = reads(wanted)
        fails = {1: wanted.offset < LAST_COLUMN_AT, 2: wanted.offset >= LAST_COLUMN_AT}
        return None if fails.get(wanted.shard) else found

    found = answered(read_needle(volume.source(encoded), row_of(volume, IN_SHARD_0)), read)
    assert found.needle.data == volume.contents[IN_SHARD_0]
    assert [wanted.shard for wanted in reads.asked] == [0, 1, 2, 3, 4, 2, 3, 4, 2, 3, 4, 1]


class SlowElsewhere(FakeElsewhere):
    """Other servers that answer, when they are to help to recover something, once they are `released`."""

    def __init__(self, volume: SmallVolume) -> None:
        super().__init__(volume, [2, 3, 4])
        self.released = threading.Event()
        self.waiting = threading.Event()
        self._threads = ThreadPoolExecutor(16)

    def start(
        self, volume: NodeEcVolume, key: int, wanted: Interval, patience: Patience, *, recovers: bool = False
    ) -> Future[bytes | None] | None:
        found = super().start(volume, key, wanted, patience, recovers=recovers)
        if found is None or not recovers:
            return found
        self.waiting.set()
        return self._threads.submit(self._late, found)

    def _late(self, found: Future[bytes | None]) -> bytes | None:
        self.released.wait()
        return found.result()


@pytest.fixture
def node(made: Made, monkeypatch: pytest.MonkeyPatch) -> Iterator[SmallNode]:
    """Shard 0 is lost; shard 1 is here."""
    monkeypatch.setattr(reader, "HASTY", Patience(LIMIT_S, LIMIT_S))
    monkeypatch.setattr(reader, "_RECOVERIES_MAX", 1)
    volume, encoded = made
    slow = SlowElsewhere(volume)
    yield SmallNode(slow, mounted(volume, encoded, [1]))
    slow.released.set()


def test_nothing_waits_long_for_its_turn(node: SmallNode, made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "_TURN_S", 0.01)
    (volume, _), slow = made, node.elsewhere
    assert isinstance(slow, SlowElsewhere)
    with ThreadPoolExecutor(3) as threads:
        try:
            first = threads.submit(node.reader.read, node.volume, IN_SHARD_0)
            assert slow.waiting.wait(LIMIT_S)
            second = threads.submit(node.reader.read, node.volume, IN_SHARD_0)
            with pytest.raises(RetryError, match="ec volume 9: too much is being recovered"):
                second.result(LIMIT_S)
            slow.files |= FakeElsewhere(volume, [0]).files
            doubted = threads.submit(node.reader.read, node.volume, IN_SHARD_1, COOKIE + 1)
            with pytest.raises(RetryError):  # it is for others to say which cookie is right
                doubted.result(LIMIT_S)
            found = node.reader.read(node.volume, IN_SHARD_1, COOKIE)
            assert found.needle.data == volume.contents[IN_SHARD_1]
        finally:
            slow.released.set()
        assert first.result(LIMIT_S).needle.data == volume.contents[IN_SHARD_0]


@pytest.mark.parametrize("is_known", [False, True], ids=["asked", "known"])
def test_who_must_not_wait_recovers_nothing(node: SmallNode, made: Made, is_known: bool) -> None:
    """What is known to be lost is not even begun."""
    node.elsewhere.master_was_asked = is_known
    contents = made[0].contents
    with pytest.raises(NotRecovered):
        node.reader.read(node.volume, IN_SHARD_0, recovers=False)
    assert node.elsewhere.asked == ([] if is_known else [(0, False)])
    with pytest.raises(NotRecovered):
        node.reader.read(node.volume, IN_SHARD_1, COOKIE + 1, recovers=False)
    assert node.reader.read(node.volume, IN_SHARD_1, COOKIE, recovers=False).needle.data == contents[IN_SHARD_1]


def test_what_a_failed_job_has_read_is_not_kept() -> None:
    """Without the help of the garbage collector, who comes late."""
    read: list[weakref.ref[set[int]]] = []

    def fail() -> None:
        pieces = {1, 2, 3}
        read.append(weakref.ref(pieces))
        raise NotRecovered

    gc.disable()
    try:
        started = BoundedThreads("test", 1, 1).submit(fail)
        assert started is not None
        error = started.exception(LIMIT_S)
        assert isinstance(error, NotRecovered)
        del error, started
        wait_until(lambda: read[0]() is None, timeout_s=LIMIT_S, what="the end of the job")
    finally:
        gc.enable()


def test_short_pieces_at_hand_are_recovered_from_without_a_thread(tmp_path: Path) -> None:
    volume = SmallVolume(tmp_path, needles=20, needle_bytes=1000)
    files = WarmFiles()
    node = SmallNode(FakeElsewhere(volume), mounted(volume, volume.encode(), range(1, RATIO.total), files=files))
    assert node.reader.read(node.volume, 5).needle.data == volume.contents[5]
    opened = files.waited
    assert opened >= RATIO.data, "files are opened on threads"
    for key, content in volume.contents.items():
        assert node.reader.read(node.volume, key).needle.data == content
    assert files.waited == opened
