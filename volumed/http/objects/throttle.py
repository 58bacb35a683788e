"""Limits of the bytes in flight, uploads and downloads, in the whole node (http.md 7).

Theory of operation
    Each front counts the bytes it has in flight in its row of the node table; the sum of all rows is what is compared
    with the limit. A request that finds no room waits: in a future, and as one more of its row's waiters. Who makes
    room wakes the waiters of its own front and rings the bell (an eventfd, made before the fork) of each front that
    has some; all test again, in no order. The arbiter does the same for a front that was killed. A bell may be rung
    just before somebody starts to listen: so every waiter also tests again from time to time.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

from volumed.config.node import NodeConfig
from volumed.http.protocol.message import Request
from volumed.nodetable import FrontRow, NodeTable

__all__ = ["Budget", "Room", "Throttle", "Waiters", "announced_bytes", "make_bells", "ring_bells"]

_RETEST_S = 0.25
_DIGITS_MAX = 18
"""Of a Content-Length; the connection refuses what is not a number."""


def announced_bytes(request: Request) -> int:
    """What an upload counts: its Content-Length, 0 for one in chunks."""
    return int(request.headers.get(b"content-length", b"0")[:_DIGITS_MAX])


def make_bells(count: int) -> list[int]:
    """One eventfd per front row, for all fronts that are forked afterwards."""
    return [os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC) for _ in range(count)]


def ring_bells(table: NodeTable, bells: Sequence[int], but: FrontRow | None = None) -> None:
    """Have the fronts test again, all in which somebody waits."""
    for row, bell in zip(table.fronts, bells, strict=True):
        if row.waiters and row is not but:
            with contextlib.suppress(BlockingIOError):  # it rings already
                os.eventfd_write(bell, 1)


class Room(enum.Enum):
    """How waiting for room ended."""

    FREE = enum.auto()
    TIMED_OUT = enum.auto()
    CLIENT_LEFT = enum.auto()


class Waiters:
    """Requests of this front that wait for room, and how to wake them and those of other fronts."""

    def __init__(self, loop: asyncio.AbstractEventLoop, table: NodeTable, slot: int, bells: Sequence[int]) -> None:
        self._loop = loop
        self._table = table
        self._row = table.fronts[slot]
        self._bells = bells
        self._own_bell = bells[slot]
        self._waiting: set[asyncio.Future[bool]] = set()
        loop.add_reader(self._own_bell, self._rung)

    def close(self) -> None:
        self._loop.remove_reader(self._own_bell)

    def wake(self) -> None:
        """There may be room."""
        self._wake_own()
        ring_bells(self._table, self._bells, but=self._row)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        """Be among those who are woken. Test for room after entering."""
        self._row.add_waiters(1)
        try:
            yield
        finally:
            self._row.add_waiters(-1)

    async def next_test(self, timeout_s: float, request: Request) -> bool:
        """Wait until a test may have another result; False: the client has left."""
        woken: asyncio.Future[bool] = self._loop.create_future()
        request.room = woken
        self._waiting.add(woken)
        try:
            async with asyncio.timeout(min(timeout_s, _RETEST_S)):
                return await woken
        except TimeoutError:
            return True
        finally:
            request.room = None
            self._waiting.discard(woken)

    def _rung(self) -> None:
        with contextlib.suppress(BlockingIOError):  # somebody else's spurious wake-up
            os.eventfd_read(self._own_bell)
        self._wake_own()

    def _wake_own(self) -> None:
        for woken in self._waiting:
            if not woken.done():
                woken.set_result(True)


class Budget:
    """The bytes of one direction. ``total`` sums all fronts, ``add`` changes this front's share."""

    def __init__(
        self, limit_bytes: int, wait_s: float, total: Callable[[], int], add: Callable[[int], None], waiters: Waiters
    ) -> None:
        self.limit_bytes = limit_bytes
        self._wait_s = wait_s
        self._total = total
        self._add = add
        self._waiters = waiters

    @property
    def in_flight(self) -> int:
        """Bytes in the whole node."""
        return self._total()

    @property
    def is_over(self) -> bool:
        """Whether the next request has to wait. What it would add does not matter: when nothing is in flight, one of
        any size may pass."""
        return self._total() > self.limit_bytes

    def take(self, size: int) -> Callable[[], None]:
        """Count ``size`` bytes until the result is called, which must be once."""
        self._add(size)
        return partial(self._give_back, size)

    async def wait(self, request: Request) -> Room:
        """Wait for room. A result of `Room.FREE` holds until the caller gives the loop a turn."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._wait_s
        with self._waiters.listening():
            while self.is_over:
                left_s = deadline - loop.time()
                if left_s <= 0:
                    return Room.TIMED_OUT
                if not await self._waiters.next_test(left_s, request):
                    return Room.CLIENT_LEFT
        return Room.FREE

    def _give_back(self, size: int) -> None:
        self._add(-size)
        if not self.is_over:
            self._waiters.wake()


class Throttle:
    """Both directions as one front sees them; None: no limit, and then nothing is counted either.

    The sizes that the metrics tell are of use beside a limit only, and the reference updates them only then.
    """

    def __init__(
        self, config: NodeConfig, table: NodeTable, slot: int, bells: Sequence[int], loop: asyncio.AbstractEventLoop
    ) -> None:
        row = table.fronts[slot]
        self._waiters = waiters = Waiters(loop, table, slot, bells)
        self.uploads: Budget | None = None
        self.downloads: Budget | None = None
        if limit := config.upload_limit_bytes:
            self.uploads = Budget(limit, config.upload_wait_s, table.upload_bytes, row.add_upload, waiters)
        if limit := config.download_limit_bytes:
            self.downloads = Budget(limit, config.download_wait_s, table.download_bytes, row.add_download, waiters)

    def close(self) -> None:
        self._waiters.close()
