"""Work for threads, on behalf of volumes: none of them can take all threads, whatever its disks and servers do."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from volumed.errors import RetryError
from volumed.shards.threads import BoundedThreads

__all__ = ["VolumeThreads"]

_WAITING_PER_VOLUME_MAX = 1024
_WAITING_MAX = 8192

_T = TypeVar("_T")


class _Volume:
    """How many threads work for a volume, and what waits until it is fewer."""

    def __init__(self) -> None:
        self.running = 0
        self.waiting: deque[tuple[asyncio.Future[Any], Callable[[], Any]]] = deque()


class VolumeThreads:
    """At most ``count`` threads, of which ``share`` may work for the same volume. Used on one loop."""

    def __init__(self, name: str, count: int, share: int) -> None:
        self._share = share
        self._threads = BoundedThreads(name, count, _WAITING_MAX)
        self._volumes: dict[int, _Volume] = {}

    def start(self, volume_id: int, work: Callable[[], _T]) -> asyncio.Future[_T]:
        """Do ``work`` on a thread; who waits for it here holds none. Raises `RetryError` when too much waits."""
        volume = self._volumes.setdefault(volume_id, _Volume())
        if len(volume.waiting) >= _WAITING_PER_VOLUME_MAX:
            volume.waiting = deque(each for each in volume.waiting if not each[0].cancelled())
        if len(volume.waiting) >= _WAITING_PER_VOLUME_MAX:
            raise RetryError(f"too many reads of ec volume {volume_id}")
        answer: asyncio.Future[_T] = asyncio.get_running_loop().create_future()
        volume.waiting.append((answer, work))
        self._go_on(volume_id, volume)
        return answer

    def _go_on(self, volume_id: int, volume: _Volume) -> None:
        while volume.waiting and volume.running < self._share:
            answer, work = volume.waiting.popleft()
            if answer.cancelled():
                continue
            started = self._threads.submit(work)
            if started is None:
                answer.set_exception(RetryError("too many reads of erasure coded volumes"))
                continue
            volume.running += 1
            # The thread counts until it is done, even if nobody waits for it any more.
            started.add_done_callback(partial(self._on_loop, answer.get_loop(), volume_id, volume, answer))
            answer.add_done_callback(lambda _, started=started: started.cancel())  # type: ignore[misc]
        if not volume.running and not volume.waiting:
            del self._volumes[volume_id]

    def _on_loop(
        self,
        loop: asyncio.AbstractEventLoop,
        volume_id: int,
        volume: _Volume,
        answer: asyncio.Future[Any],
        ended: Future[Any],
    ) -> None:
        with suppress(RuntimeError):  # the loop is closed: the front has stopped
            loop.call_soon_threadsafe(self._ended, volume_id, volume, answer, ended)

    def _ended(self, volume_id: int, volume: _Volume, answer: asyncio.Future[Any], ended: Future[Any]) -> None:
        volume.running -= 1
        if not answer.done():
            error = ended.exception()
            if error is None:
                answer.set_result(ended.result())
            else:
                answer.set_exception(error)
        self._go_on(volume_id, volume)
