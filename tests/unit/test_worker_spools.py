"""`workers.spools` on a real disk, with the shell's threads and answers run by hand."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.hand_shell import HandShell
from tests.storage_kit import COOKIE, Rig, needle_body
from volumed.bus.calls import Empty
from volumed.bus.frames import FLAG_FSYNC, STATUS_OK, StoreOutcome, decode_error, parse_call_reply
from volumed.bus.router import Reply
from volumed.bus.spool_calls import (
    AppendSpool,
    CloseSpool,
    OpenSpool,
    ReadSpool,
    SpoolBlock,
    SpoolStored,
    StoreSpool,
)
from volumed.errors import NodeError, NoFreeSpace, RetryError, VolumedError, VolumeNotFound
from volumed.formats.checksum import crc32c
from volumed.storage.fileio import FileIO, SpaceInfo
from volumed.storage.store import StoreBatch
from workers import spools
from workers.host import Work
from workers.spools import Spools

FRONT, OTHER = b"front", b"other"
DATA = bytes(range(256)) * 1000


class SpaceFiles(FileIO):
    free_bytes = 1 << 40

    def space(self, path: str) -> SpaceInfo:
        del path
        return SpaceInfo(2 << 40, self.free_bytes)


class SpoolShell(HandShell):
    """With the memory of a front, and writes that can be held back."""

    def __init__(self) -> None:
        super().__init__()
        self.pool = b""
        self.held = 0
        self.actions: list[Callable[[], None]] = []
        self.batches: list[StoreBatch] = []

    def shared(self, _sender: bytes, offset: int, length: int) -> memoryview:
        return memoryview(self.pool)[offset : offset + length]

    def in_background(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        kind: object = Work.TASK,
    ) -> None:
        assert kind is not Work.TASK
        super().in_background(work, done, failed, kind)

    def hold(self) -> None:
        self.held += 1

    def release(self, batch: StoreBatch, done: Callable[[Any], None]) -> None:
        self.held -= 1
        self.batches.append(batch)
        if batch.results:
            done(batch.results)

    def after_flush(self, action: Callable[[], None]) -> None:
        self.actions.append(action)


class Bench:
    """Spools of a disk with volume 1, and how fronts call them."""

    def __init__(self, root: Path) -> None:
        self.files = SpaceFiles()
        self.rig = Rig(root, self.files)
        self.rig.allocate()
        self.shell = SpoolShell()
        self.now = 0.0
        self.numbers = itertools.count(1)
        self.spools = Spools(self.rig.disk, self.shell, lambda: self.now)  # type: ignore[arg-type]
        self.answers: list[Any] = []

    def call(self, request: Any, sender: bytes = FRONT) -> Any:
        """The result or the error; None while there is none."""
        answers: list[Any] = []

        def send(_identity: bytes, frame: bytes) -> None:
            _, status, payload = parse_call_reply(memoryview(frame))
            if status == STATUS_OK:
                answers.append(msgspec.msgpack.decode(payload, type=type(request).Result))
            else:
                answers.append(decode_error(payload))

        reply = Reply(send, sender, 1)
        try:
            self.spools.handlers[type(request)](request, reply)
        except VolumedError as error:
            return error
        self.answers = answers
        return answers[0] if answers else None

    def open(self, expected_bytes: int = 0) -> int:
        spool_id = next(self.numbers)
        assert self.call(OpenSpool(spool_id, expected_bytes)) == Empty()
        return spool_id

    def append(self, spool_id: int, data: bytes, sender: bytes = FRONT) -> Any:
        self.shell.pool = b"...." + data
        return self.call(AppendSpool(spool_id, 4, len(data)), sender)

    def filled(self, data: bytes = DATA) -> int:
        spool_id = self.open()
        half = len(data) // 2
        for piece in (data[:half], data[half:]):
            assert not isinstance(self.append(spool_id, piece), VolumedError)
        return spool_id

    def nameless(self) -> int:
        """Open files of the disk that no name leads to."""
        links = []
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                links.append(os.readlink(f"/proc/self/fd/{name}"))
        return sum(link.startswith(str(self.rig.directory)) and link.endswith("(deleted)") for link in links)

    def store(self, spool_id: int, data: bytes = DATA, *, flags: int = 0, volume_id: int = 1) -> Any:
        body = needle_body(data)
        suffix = body[4 + len(data) :]
        return self.call(StoreSpool(spool_id, volume_id, 0, COOKIE, 7, crc32c(data), body[:4], suffix, flags))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    made = Bench(tmp_path)
    yield made
    made.rig.close()


def test_a_needle_comes_from_its_pieces(bench: Bench) -> None:
    spool_id = bench.filled()
    assert bench.store(spool_id) == SpoolStored(StoreOutcome.STORED, len(needle_body(DATA)))
    assert bytes(bench.rig.read(1, 7).data) == DATA
    assert bench.call(ReadSpool(spool_id, 1000, 5)) == SpoolBlock(DATA[1000:1005])
    assert bench.store(spool_id).outcome == StoreOutcome.UNCHANGED
    assert bench.shell.held == 0


def test_a_closed_spool_is_gone(bench: Bench) -> None:
    spool_id = bench.filled()
    assert bench.nameless() == 1
    bench.call(CloseSpool(spool_id), OTHER)
    assert isinstance(bench.call(ReadSpool(spool_id, 0, 1)), SpoolBlock)
    bench.call(CloseSpool(spool_id))
    assert bench.nameless() == 0
    assert isinstance(bench.append(spool_id, b"x"), NodeError)
    bench.call(CloseSpool(spool_id))


def test_a_spool_that_is_closed_while_it_is_opened(bench: Bench) -> None:
    bench.shell.waiting = []
    assert bench.call(OpenSpool(1, 0)) is None
    assert isinstance(bench.append(1, b"x"), NodeError)
    bench.call(CloseSpool(1))
    bench.shell.waiting.pop()()
    assert bench.answers == [Empty()]
    assert bench.nameless() == 0
    assert isinstance(bench.append(1, b"x"), NodeError)


def test_a_spool_ends_with_its_front_and_when_it_is_forgotten(bench: Bench) -> None:
    first = bench.filled()
    bench.now = spools._IDLE_S
    second = bench.filled()
    bench.spools.tick()
    assert bench.store(first).outcome == StoreOutcome.STORED
    bench.now += spools._IDLE_S + 1
    bench.spools.tick()
    assert isinstance(bench.store(second), NodeError)
    third = bench.filled()
    bench.spools.forget(OTHER)
    assert isinstance(bench.call(ReadSpool(third, 0, 1)), SpoolBlock)
    bench.spools.forget(FRONT)
    assert isinstance(bench.call(ReadSpool(third, 0, 1)), NodeError)


def test_only_the_owner_uses_a_spool_and_only_in_turn(bench: Bench) -> None:
    spool_id = bench.filled()
    assert isinstance(bench.append(spool_id, b"x", OTHER), NodeError)
    assert isinstance(bench.call(ReadSpool(spool_id, 0, len(DATA) + 1)), NodeError)
    assert isinstance(bench.append(spool_id, b""), NodeError)
    bench.shell.waiting = []
    assert bench.append(spool_id, b"x") is None
    assert isinstance(bench.append(spool_id, b"y"), NodeError)
    assert isinstance(bench.store(spool_id), NodeError)


def test_other_data_than_announced_are_refused(bench: Bench) -> None:
    spool_id = bench.filled()
    assert isinstance(bench.store(spool_id, DATA[::-1]), NodeError)
    assert isinstance(bench.store(spool_id, volume_id=9), VolumeNotFound)
    assert bench.shell.held == 0


def test_there_are_only_so_many(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "_SPOOLS_MAX", 2)
    first = bench.open()
    bench.open()
    assert isinstance(bench.call(OpenSpool(99, 0)), RetryError)
    bench.call(CloseSpool(first))
    bench.open()


def test_nothing_is_spooled_when_space_is_low(bench: Bench) -> None:
    bench.files.free_bytes = 2 * len(DATA)
    bench.open(len(DATA))
    assert isinstance(bench.call(OpenSpool(99, len(DATA) + 1)), NoFreeSpace)
    assert isinstance(bench.append(99, b"x"), NodeError)
    spool_id = bench.open()
    bench.rig.disk.config = msgspec.structs.replace(
        bench.rig.disk.config,
        free_space_limit=msgspec.structs.replace(bench.rig.disk.config.free_space_limit, bytes=10_000_000),
    )
    assert isinstance(bench.append(spool_id, b"x"), NoFreeSpace)
    bench.files.free_bytes = 1 << 40
    assert isinstance(bench.append(spool_id, b"x"), NodeError), "what was lost cannot be sent again"


def test_a_busy_volume_is_waited_for(bench: Bench) -> None:
    first, second = bench.filled(), bench.filled(DATA[::-1])
    bench.shell.waiting = []
    assert bench.store(first, flags=FLAG_FSYNC) is None
    assert (bench.shell.held, len(bench.shell.waiting)) == (1, 1)
    first_answers = bench.answers
    assert bench.store(second, DATA[::-1]) is None
    second_answers = bench.answers
    assert (bench.shell.held, len(bench.shell.waiting)) == (1, 1)
    bench.shell.waiting.pop()()
    (flush,) = bench.shell.batches[-1].flushes
    assert first_answers[0].outcome == StoreOutcome.STORED
    # The copy is over, but now it is flushed: the other one waits on.
    bench.shell.actions.pop()()
    assert len(bench.shell.actions) == 1
    bench.rig.disk.finish_flush(flush, None)
    bench.shell.actions.pop()()
    bench.shell.waiting.pop()()
    assert second_answers[0].outcome == StoreOutcome.STORED
    assert bytes(bench.rig.read(1, 7).data) == DATA[::-1]


def test_a_volume_that_went_while_it_was_waited_for(bench: Bench) -> None:
    spool_id = bench.filled()
    bench.rig.disk.volumes[1].begin_placing()
    assert bench.store(spool_id) is None
    bench.rig.disk.volumes[1].end_placing()
    bench.rig.disk.unmount(1)
    bench.shell.actions.pop()()
    assert isinstance(bench.answers[0], VolumeNotFound)
