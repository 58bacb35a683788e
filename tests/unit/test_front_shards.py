"""Threads of a front for erasure coded volumes: no object and no volume takes all of them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from volumed.errors import CorruptNeedle, NeedleDeleted, RetryError, VolumedError
from volumed.http.objects import front_shards, volume_threads
from volumed.http.objects.front_shards import FrontShards
from volumed.http.objects.volume_threads import VolumeThreads
from volumed.shards.gathering import NotRecovered
from volumed.shards.long_data import NotChecked
from volumed.shards.reader import StoredEcNeedle

CLIENTS = 100
LIMIT_S = 30.0
AT_HAND = 0
"""A needle that is read at once in any case."""
LONG, DEGRADED = 100, 1000
"""Needles from this key on are long; from this one on they are short again, and recovered."""
BAD, SOUND = 1, 2
"""Volumes; what is read of the bad one takes until it is `released`."""


def volume(volume_id: int) -> Any:
    return SimpleNamespace(volume_id=volume_id, encode_ts_ns=7)


class Reader:
    """In place of `NodeShards`."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked: list[tuple[int, int, str]] = []
        self.error: VolumedError | None = None
        self.journals = True
        """Whether a journal is written at once, or when it is `released`."""
        self.checked: set[tuple[int, int]] = set()
        self.deleted: set[int] = set()

    def read(
        self,
        of: Any,
        key: int,
        _cookie: int | None,
        *,
        afresh: bool = False,
        checks: bool = True,
        recovers: bool = True,
    ) -> StoredEcNeedle:
        if key in self.deleted:
            raise NeedleDeleted
        if key >= DEGRADED and not recovers:
            raise NotRecovered
        is_long = LONG <= key < DEGRADED
        is_known = not afresh and (of.volume_id, key) in self.checked
        if is_long and not is_known:
            if not checks:
                raise NotChecked
            self._wait(of, key, "check")
            self.checked.add((of.volume_id, key))
        elif not is_long:
            self._wait(of, key, "read")
        needle: Any = None
        return StoredEcNeedle(of, (key, 0, 0), needle, 0, 0, is_long=is_long, is_fresh=not is_known)

    def read_data(self, stored: StoredEcNeedle, _at: int, length: int, *, recovers: bool = True) -> bytes:
        del recovers
        self._wait(stored.volume, stored.row[0], "data")
        return bytes(length)

    def delete(self, of: Any, key: int, cookie: int) -> int:
        self.read(of, key, cookie)
        if not self.journals:
            self.asked.append((of.volume_id, key, "delete"))
            self.released.wait()
            return 1
        self.deleted.add(key)
        return 1

    def count(self, kind: str) -> int:
        return sum(1 for _, _, asked in list(self.asked) if asked == kind)

    def _wait(self, of: Any, key: int, kind: str) -> None:
        self.asked.append((of.volume_id, key, kind))
        if of.volume_id == BAD and key != AT_HAND:
            self.released.wait()
            if self.error is not None:
                raise self.error


class Rig:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.waiting = 0
        """For a check: who wants the needle shields that from its own end."""
        shield = asyncio.shield

        def counted(checking: asyncio.Future[Any]) -> asyncio.Future[Any]:
            self.waiting += 1
            return shield(checking)

        monkeypatch.setattr(asyncio, "shield", counted)
        self.reader = Reader()
        nodes: Any = self.reader
        self.shards = FrontShards(nodes)

    def clients(self, keys: Callable[[int], int], count: int = CLIENTS, *, afresh: bool = False) -> list[Any]:
        """Who read of the bad volume."""
        return [asyncio.create_task(self.shards.read(volume(BAD), keys(i), 1, afresh=afresh)) for i in range(count)]

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not holds():  # noqa: ASYNC110 - threads change it
                await asyncio.sleep(0.001)

    async def others_are_served(self) -> None:
        async with asyncio.timeout(LIMIT_S):
            for key in (1, LONG, DEGRADED):
                stored = await self.shards.read(volume(SOUND), key, 1)
                assert await self.shards.read_data(stored, 0, 5) == bytes(5)


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    made = Rig(monkeypatch)
    yield made
    made.reader.released.set()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(test())


@pytest.mark.parametrize("afresh", [False, True], ids=["any", "afresh"])
def test_many_readers_of_a_long_needle_have_it_checked_once(rig: Rig, afresh: bool) -> None:
    async def test() -> None:
        clients = rig.clients(lambda _: LONG, afresh=afresh)
        await rig.until(lambda: rig.waiting == CLIENTS)
        await rig.others_are_served()
        rig.reader.released.set()
        found = await asyncio.gather(*clients)
        assert all(stored.is_fresh for stored in found), "none of them has it checked again before it is sent"
        assert [asked[:2] for asked in rig.reader.asked if asked[2] == "check"].count((BAD, LONG)) == 1
        assert (await rig.shards.read(volume(BAD), LONG, 1)).is_fresh is False
        assert (await rig.shards.read(volume(BAD), LONG, 1, afresh=True)).is_fresh

    run(test)


def test_what_is_wrong_is_found_out_once(rig: Rig) -> None:
    async def test() -> None:
        rig.reader.error = CorruptNeedle.eof()
        clients = rig.clients(lambda _: LONG)
        await rig.until(lambda: rig.waiting == CLIENTS)
        rig.reader.released.set()
        found = await asyncio.gather(*clients, return_exceptions=True)
        assert {type(error) for error in found} == {CorruptNeedle}
        assert rig.reader.count("check") == 1

    run(test)


def test_a_needle_that_is_deleted_while_it_is_checked(rig: Rig) -> None:
    """Who comes after that must not see it."""

    async def test() -> None:
        clients = rig.clients(lambda _: LONG, 2, afresh=True)
        await rig.until(lambda: rig.waiting == 2 and rig.reader.count("check") == 1)
        rig.reader.deleted.add(LONG)
        rig.reader.released.set()
        first, second = await asyncio.gather(*clients, return_exceptions=True)
        assert isinstance(first, StoredEcNeedle)
        assert isinstance(second, NeedleDeleted)

    run(test)


def test_who_waits_for_a_check_does_not_depend_on_who_has_begun_it(rig: Rig) -> None:
    async def test() -> None:
        first, *others = rig.clients(lambda _: LONG, 3, afresh=True)
        await rig.until(lambda: rig.waiting == 3)
        first.cancel()
        await asyncio.wait([first])
        assert not any(client.done() for client in others)
        rig.reader.released.set()
        assert all(stored.is_fresh for stored in await asyncio.gather(*others))
        assert rig.reader.count("check") == 1

    run(test)


@pytest.mark.parametrize("first", [1, LONG, DEGRADED], ids=["short", "long", "degraded"])
def test_other_volumes_are_served_while_one_is_slow(rig: Rig, first: int) -> None:
    """Whatever its objects are, and also when those who wanted them have gone: the threads still wait."""

    async def test() -> None:
        for _ in range(3):
            clients = rig.clients(lambda i: first + i % 90)
            await rig.until(lambda: bool(rig.reader.asked))
            await rig.others_are_served()
            for client in clients:
                client.cancel()
            await asyncio.wait(clients)
        last = rig.clients(lambda i: first + i, 5)
        rig.reader.released.set()
        assert len(await asyncio.gather(*last)) == 5
        await rig.others_are_served()

    run(test)


def test_recoveries_do_not_hold_up_other_reads_of_the_volume(rig: Rig) -> None:
    async def test() -> None:
        clients = rig.clients(lambda i: DEGRADED + i)
        await rig.until(lambda: rig.reader.count("read") > 0)
        async with asyncio.timeout(LIMIT_S):
            await rig.shards.read(volume(BAD), AT_HAND, 1)
        assert not any(client.done() for client in clients)
        rig.reader.released.set()
        assert len(await asyncio.gather(*clients)) == CLIENTS

    run(test)


def test_who_wants_a_recovery_does_not_wait_for_ever(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_shards, "_RECOVERY_S", 0.01)

    async def test() -> None:
        for found in await asyncio.gather(*rig.clients(lambda i: DEGRADED + i), return_exceptions=True):
            assert isinstance(found, RetryError)
            assert found.text == f"ec volume {BAD}: recovering takes too long"

    run(test)


def test_a_long_needle_is_checked_before_it_is_deleted(rig: Rig) -> None:
    async def test() -> None:
        deletions = [asyncio.create_task(rig.shards.delete(volume(BAD), LONG + i, 1)) for i in range(CLIENTS)]
        await rig.until(lambda: rig.reader.count("check") > 0)
        await rig.others_are_served()
        rig.reader.released.set()
        assert await asyncio.gather(*deletions) == [1] * CLIENTS
        bad = [asked for asked in rig.reader.asked if asked[0] == BAD]
        assert len(bad) == CLIENTS, "each is checked once"

    run(test)


def test_deletions_do_not_hold_up_reads_of_the_volume(rig: Rig) -> None:
    """They wait for every disk that has a journal, and reads do not."""

    async def test() -> None:
        rig.reader.journals = False
        deletions = [asyncio.create_task(rig.shards.delete(volume(BAD), AT_HAND, 1)) for _ in range(CLIENTS)]
        await rig.until(lambda: rig.reader.count("delete") > 0)
        async with asyncio.timeout(LIMIT_S):
            await rig.shards.read(volume(BAD), AT_HAND, 1)
        await rig.others_are_served()
        assert not any(deletion.done() for deletion in deletions)
        rig.reader.released.set()
        assert await asyncio.gather(*deletions) == [1] * CLIENTS

    run(test)


def test_who_has_gone_does_not_wait_any_more(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clients that are tired of waiting come again, and again."""
    monkeypatch.setattr(volume_threads, "_WAITING_PER_VOLUME_MAX", 3)

    async def test() -> None:
        threads, released = VolumeThreads("test", 2, 1), threading.Event()
        running = threads.start(BAD, lambda: released.wait(LIMIT_S))
        for _ in range(5):
            for waiting in [threads.start(BAD, int) for _ in range(3)]:
                waiting.cancel()
        last = threads.start(BAD, int)
        released.set()
        assert (await running, await last) == (True, 0)

    run(test)


def test_what_waits_is_bounded(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(volume_threads, "_WAITING_PER_VOLUME_MAX", 3)

    async def test() -> None:
        clients = rig.clients(lambda i: 1 + i)
        await rig.until(lambda: any(client.done() for client in clients))
        await rig.others_are_served()
        rig.reader.released.set()
        found = await asyncio.gather(*clients, return_exceptions=True)
        errors = [error for error in found if isinstance(error, RetryError)]
        assert {error.text for error in errors} == {f"too many reads of ec volume {BAD}"}
        assert 0 < len(errors) < CLIENTS

    run(test)
