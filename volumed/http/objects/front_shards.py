"""Needles of erasure coded volumes for the handlers: threads wait for disks and servers, the loop does not."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from volumed.errors import RetryError
from volumed.formats.needle import Needle
from volumed.shards.threads import BoundedThreads

if TYPE_CHECKING:
    from volumed.bus.calls import Request
    from volumed.http.objects.node import Link, SupervisorCalls
    from volumed.shards.node import NodeShards
    from volumed.shards.reader import StoredEcNeedle
    from volumed.shards.view import EcVolume

__all__ = ["FrontShards", "LoopCalls"]

_THREADS_MAX = 32
_WAITING_MAX = 1024
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
    """`NodeShards` for a loop. Implements `volumed.http.objects.node.Shards`."""

    def __init__(self, shards: NodeShards) -> None:
        self._shards = shards
        self._threads = BoundedThreads("shards", _THREADS_MAX, _WAITING_MAX)

    def find(self, volume_id: int) -> EcVolume | None:
        """The volume if a serving disk has one of its shards mounted."""
        return self._shards.find(volume_id)

    def read_now(self, volume: EcVolume, key: int) -> Needle | None:
        """The needle if it is in the page cache (`EcReader.read_now`)."""
        return self._shards.read_now(volume, key)

    async def read(self, volume: EcVolume, key: int, cookie: int | None, *, afresh: bool = False) -> StoredEcNeedle:
        """The needle (`EcReader.read`)."""
        return await self._run(partial(self._shards.read, volume, key, cookie, afresh=afresh))

    async def read_data(self, stored: StoredEcNeedle, at: int, length: int) -> bytes:
        """A part of the data of a long needle (`EcReader.read_data`)."""
        return await self._run(partial(self._shards.read_data, stored, at, length))

    def is_damaged(self, stored: StoredEcNeedle) -> None:
        """The data of a long needle did not have its checksum."""
        self._shards.is_damaged(stored)

    async def delete(self, volume: EcVolume, key: int, cookie: int) -> int:
        """Delete a needle (`NodeShards.delete`)."""
        return await self._run(partial(self._shards.delete, volume, key, cookie))

    async def _run(self, work: Callable[[], _T]) -> _T:
        started = self._threads.submit(work)
        if started is None:
            raise RetryError("too many reads of erasure coded volumes")
        return await asyncio.wrap_future(started)
