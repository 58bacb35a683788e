"""Needles of erasure coded volumes for the handlers: threads wait for disks and servers, the loop does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from volumed.erasure.errors import NoSuchEcNeedle
from volumed.errors import NeedleDeleted, RetryError
from volumed.formats.needle import Needle
from volumed.http.objects.volume_threads import VolumeThreads
from volumed.shards.gathering import NotRecovered
from volumed.shards.long_data import NotChecked

if TYPE_CHECKING:
    from volumed.bus.calls import Request
    from volumed.http.objects.node import Link, SupervisorCalls
    from volumed.shards.node import NodeShards
    from volumed.shards.reader import StoredEcNeedle
    from volumed.shards.view import NodeEcVolume

__all__ = ["FrontShards", "LoopCalls"]

_READS_MAX, _READS_PER_VOLUME_MAX = 32, 16
_RECOVERIES_MAX, _RECOVERIES_PER_VOLUME_MAX = 8, 4
_RECOVERY_S = 60.0
"""Longest time for one, with the wait for a thread."""
_CHECKS_MAX, _CHECKS_PER_VOLUME_MAX = 8, 4
_DELETIONS_MAX, _DELETIONS_PER_VOLUME_MAX = 32, 16
_CALL_LAG_S = 1.0
"""A call ends by itself a little earlier."""

_T = TypeVar("_T")


class LoopCalls:
    """Calls from threads to the supervisor and the workers, made on the loop (`volumed.shards.node.NodeCalls`)."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, supervisor: SupervisorCalls, link: Callable[[int], Link]
    ) -> None:
        self._loop = loop
        self._supervisor = supervisor
        self._link = link

    def supervisor(self, request: Request, timeout_s: float) -> Any:
        """Result of a call; raises what the supervisor raised."""
        return self._wait(lambda: self._supervisor.call(request, timeout_s), timeout_s)

    def worker(self, disk_id: int, request: Request, timeout_s: float) -> Any:
        """Result of a call to the worker of one disk; raises what it raised."""
        return self._wait(lambda: self._link(disk_id).call(request, timeout_s), timeout_s)

    def _wait(self, start: Callable[[], asyncio.Future[Any]], timeout_s: float) -> Any:
        async def call() -> Any:
            return await start()

        try:
            return asyncio.run_coroutine_threadsafe(call(), self._loop).result(timeout_s + _CALL_LAG_S)
        except TimeoutError:
            raise RetryError("the front is stopping") from None


class FrontShards:
    """`NodeShards` for a loop. Implements `volumed.http.objects.node.Shards`.

    What is recovered waits for many shards, and has threads of its own. A long needle is read as a whole to be checked,
    which may take minutes when shards of it are damaged: that is done on other threads still, and once for all who want
    to read it. A deletion waits for the slowest disk that has a journal, which no read does.
    """

    def __init__(self, shards: NodeShards) -> None:
        self._shards = shards
        self._reads = VolumeThreads("shards", _READS_MAX, _READS_PER_VOLUME_MAX)
        self._recoveries = VolumeThreads("shard-recoveries", _RECOVERIES_MAX, _RECOVERIES_PER_VOLUME_MAX)
        self._checks = VolumeThreads("shard-checks", _CHECKS_MAX, _CHECKS_PER_VOLUME_MAX)
        self._deletions = VolumeThreads("shard-deletions", _DELETIONS_MAX, _DELETIONS_PER_VOLUME_MAX)
        self._checking: dict[tuple[int, int, int], asyncio.Future[StoredEcNeedle]] = {}

    def find(self, volume_id: int) -> NodeEcVolume | None:
        """The volume if a serving disk has one of its shards mounted."""
        return self._shards.find(volume_id)

    def read_now(self, volume: NodeEcVolume, key: int) -> Needle | None:
        """The needle if it is in the page cache (`EcReader.read_now`)."""
        return self._shards.read_now(volume, key)

    async def read(self, volume: NodeEcVolume, key: int, cookie: int | None, *, afresh: bool = False) -> StoredEcNeedle:
        """The needle (`EcReader.read`)."""
        if not afresh:
            with suppress(NotChecked):
                return await self._read(volume, key, cookie)
        needle = volume.volume_id, volume.encode_ts_ns, key
        while (checking := self._checking.get(needle)) is not None:
            await asyncio.shield(checking)
            with suppress(NotChecked):
                # By itself, but for the data: the needle may have been deleted since.
                return (await self._read(volume, key, cookie))._replace(is_fresh=True)
        checking = self._checks.start(volume.volume_id, partial(self._shards.read, volume, key, cookie, afresh=True))
        self._checking[needle] = checking
        checking.add_done_callback(partial(self._checked, needle))
        return await asyncio.shield(checking)

    async def read_data(self, stored: StoredEcNeedle, at: int, length: int) -> bytes:
        """A part of the data of a long needle (`EcReader.read_data`)."""
        return await self._recovered(stored.volume.volume_id, partial(self._shards.read_data, stored, at, length))

    def distrust(self, stored: StoredEcNeedle) -> None:
        """The data of a long needle did not have its checksum."""
        self._shards.distrust(stored)

    async def delete(self, volume: NodeEcVolume, key: int, cookie: int) -> int:
        """Delete a needle (`NodeShards.delete`)."""
        with suppress(NeedleDeleted, NoSuchEcNeedle):
            await self.read(volume, key, cookie or None)  # so that no thread for deletions has to check it
        return await self._deletions.start(volume.volume_id, partial(self._shards.delete, volume, key, cookie))

    async def _read(self, volume: NodeEcVolume, key: int, cookie: int | None) -> StoredEcNeedle:
        """Raises `NotChecked`."""
        return await self._recovered(volume.volume_id, partial(self._shards.read, volume, key, cookie, checks=False))

    async def _recovered(self, volume_id: int, read: Callable[..., _T]) -> _T:
        """Result of a read, which begins anew if something has to be recovered. Raises `RetryError`: it takes long."""
        with suppress(NotRecovered):
            return await self._reads.start(volume_id, partial(read, recovers=False))
        try:
            return await asyncio.wait_for(self._recoveries.start(volume_id, read), _RECOVERY_S)
        except TimeoutError:
            raise RetryError(f"ec volume {volume_id}: recovering takes too long") from None

    def _checked(self, needle: tuple[int, int, int], checking: asyncio.Future[StoredEcNeedle]) -> None:
        del self._checking[needle]
        checking.exception()  # those who have asked for it may all be gone
