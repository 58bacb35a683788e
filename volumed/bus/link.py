"""An HTTP front's link to one disk: stores in natural batches, reads and calls, over one socket.

Theory of operation
    The node table says which worker (epoch) owns the disk and whether it serves; the link looks there before it
    sends anything, and a few times a second while something is in flight. When the epoch changes, whatever the old
    worker had is failed, "outcome unknown", and never sent again: it may have been done. What had not been sent
    goes to the new worker.

    A batch, read or call that is not answered in its time fails the same way. A late answer is recognised by its
    number and dropped.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import zmq

from volumed.bus.bodypool import BodyPool, Slab
from volumed.bus.calls import Request
from volumed.bus.channel import Channel
from volumed.bus.frames import (
    CALL_REPLY,
    READ_NEEDLE,
    READ_RANGE,
    READ_REPLY,
    STORE_REPLY,
    ReadOperation,
    StoreOutcome,
    StoreResult,
    pack_hello,
    pack_read,
    pack_read_batch,
    pack_store_batch,
    parse_call,
    parse_call_reply,
    parse_read_replies,
    parse_store_reply,
)
from volumed.bus.pending import PendingCalls, start_call
from volumed.bus.read_queue import ReadQueue
from volumed.bus.store_queue import StoreItem, StoreQueue
from volumed.bus.timerfd import MicroTimer
from volumed.config.node import NodeConfig
from volumed.errors import DiskUnavailable, NodeError, RetryError, VolumedError
from volumed.nodetable import DISK_STATES_THAT_SERVE, DiskState, NodeTable

__all__ = ["DiskLink", "LinkLimits"]

_STOPPING = "the front is stopping"
_NUMBER_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class LinkLimits:
    """Bounds of one link. Times in seconds."""

    store_timeout_s: float = 30.0
    read_timeout_s: float = 30.0
    hold_s: float = 250e-6
    watch_s: float = 0.05
    """How often the node table and the deadlines are looked at while something is in flight."""
    reopening_s: float = 5.0
    """How long operations that have not been sent wait for a new worker."""
    queue_operations_max: int = 16_384
    queue_bytes_max: int = 64 << 20
    reads_in_flight_max: int = 256
    reads_waiting_max: int = 4096


class _Batch(NamedTuple):
    number: int
    items: list[StoreItem]
    deadline: float


class DiskLink:
    """Everything one front asks of one disk. Used on its loop's thread only.

    `store`, `read`, `read_range` and `call` raise at once `DiskUnavailable` when the disk does not serve and
    `RetryError` when too much waits already.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        config: NodeConfig,
        table: NodeTable,
        disk_id: int,
        pool: BodyPool,
        limits: LinkLimits | None = None,
    ) -> None:
        self._loop = loop
        self._config = config
        self._row = table.disks[disk_id]
        self._disk_id = disk_id
        self._pool = pool
        self._limits = limits or LinkLimits()
        self._channel: Channel | None = None
        self._seen_version = -1
        self._epoch = -1
        self._serving = False
        self._lost_at: float | None = None
        self._numbers = itertools.count(1)
        self._queue = StoreQueue()
        self._batch: _Batch | None = None
        self._unanswered: dict[int, list[Slab]] = {}
        self._call_slabs: dict[int, Slab] = {}
        self._reads = ReadQueue(self._limits.reads_in_flight_max)
        self._calls = PendingCalls()
        self._flush_planned = False
        self._closed = False
        self._watch: asyncio.TimerHandle | None = None
        self._hold = MicroTimer(loop, self._limits.hold_s, self._send_stores)

    # Requests

    def store(self, operation: bytes, done: Callable[[StoreResult], None], slab: Slab | None = None) -> None:
        """Send one packed put or delete with the next batch; ``done`` gets its result on the loop, an error when
        the worker did not answer. ``slab`` is the memory a shared body lies in; the link takes a share of it."""
        self._require_worker()
        queue, limits = self._queue, self._limits
        if len(queue) >= limits.queue_operations_max or queue.waiting_bytes >= limits.queue_bytes_max:
            raise RetryError(f"too many writes wait for disk {self._disk_id}")
        if slab is not None:
            slab.retain()
        queue.add(StoreItem(operation, done, slab))
        if self._batch is None:
            self._plan_flush()

    def read(self, volume_id: int, key: int, flags: int = 0) -> asyncio.Future[memoryview]:
        """The payload of a needle (``volumed.storage.read_payload``)."""
        return self._read(READ_NEEDLE, flags, volume_id, 0, key, 0, 0)

    def read_range(self, volume_id: int, generation: int, offset: int, length: int) -> asyncio.Future[memoryview]:
        """Raw bytes of a `.dat` of that generation."""
        return self._read(READ_RANGE, 0, volume_id, generation, 0, offset, length)

    def call(self, request: Request, timeout_s: float, slab: Slab | None = None) -> asyncio.Future[Any]:
        """The result of a call, of type ``type(request).Result``. ``slab`` is memory that the worker reads for it; the
        link takes a share and keeps it until the worker has answered, in time or not, or is gone."""
        channel = self._require_worker()
        future, frame = start_call(self._loop, self._calls, request, timeout_s, self._late(timeout_s))
        if slab is not None:
            slab.retain()
            self._call_slabs[parse_call(memoryview(frame))[0]] = slab
        channel.send(frame)
        self._start_watch()
        return future

    def close(self) -> None:
        """Fail what waits and disconnect, for good."""
        if self._closed:
            return
        self._closed = True
        self._serving = False
        self._hold.close()
        if self._watch is not None:
            self._watch.cancel()
        self._keep_bodies()
        self._lose_worker(DiskUnavailable(_STOPPING))
        self._fail_waiting(DiskUnavailable(_STOPPING))

    # Sending

    def _read(
        self, kind: int, flags: int, volume_id: int, generation: int, key: int, offset: int, length: int
    ) -> asyncio.Future[memoryview]:
        self._require_worker()
        if self._reads.waiting >= self._limits.reads_waiting_max:
            raise RetryError(f"too many reads wait for disk {self._disk_id}")
        number = self._next_number()
        packed = pack_read(ReadOperation(number, kind, flags, volume_id, generation, key, offset, length))
        future: asyncio.Future[memoryview] = self._loop.create_future()
        self._reads.add(number, packed, future)
        self._plan_flush()
        return future

    def _plan_flush(self) -> None:
        """Send at the end of this tick of the loop, with everything that came in it."""
        if not self._flush_planned:
            self._flush_planned = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_planned = False
        self._start_watch()
        self._follow_table()
        if self._batch is None and len(self._queue):
            if self._queue.full:
                self._send_stores()
            else:
                self._hold.arm()
        if self._reads.waiting:
            self._send_reads()

    def _send_stores(self) -> None:
        """Send the next batch, held long enough or not."""
        self._hold.disarm()
        self._follow_table()
        if self._channel is None or not self._serving or self._batch is not None or not len(self._queue):
            return
        items = self._queue.take()
        number = self._next_number()
        self._batch = _Batch(number, items, self._loop.time() + self._limits.store_timeout_s)
        self._channel.send(pack_store_batch(number, [item.operation for item in items]))

    def _send_reads(self) -> None:
        if self._channel is None or not self._serving:
            return
        operations = self._reads.take(self._loop.time() + self._limits.read_timeout_s)
        if operations:
            self._channel.send(pack_read_batch(operations))

    def _next_number(self) -> int:
        return next(self._numbers) & _NUMBER_MASK

    # Receiving

    def _on_frame(self, frame: memoryview) -> None:
        kind = frame[0]
        if kind == STORE_REPLY:
            self._on_store_reply(*parse_store_reply(frame))
        elif kind == READ_REPLY:
            self._reads.answer(parse_read_replies(frame))
            if self._reads.waiting:
                self._plan_flush()
        elif kind == CALL_REPLY:
            if slab := self._call_slabs.pop(parse_call_reply(frame)[0], None):
                slab.release()
            self._calls.answer(frame)

    def _on_store_reply(self, number: int, results: list[StoreResult]) -> None:
        batch = self._batch
        if batch is None or number != batch.number:
            for slab in self._unanswered.pop(number, ()):
                slab.release()
            return
        self._batch = None
        self._queue.answered(len(batch.items))
        # The next batch leaves before this one's clients are told, so that the worker never waits for them.
        if self._queue.full:
            self._send_stores()
        elif len(self._queue):
            self._hold.arm()
        if len(results) != len(batch.items):
            error = NodeError(f"{len(results)} results for a batch of {len(batch.items)}")
            results = [StoreResult(StoreOutcome.ERROR, 0, error)] * len(batch.items)
        for item, result in zip(batch.items, results, strict=True):
            item.release()
            item.finish(result)

    # Workers come and go

    def _require_worker(self) -> Channel:
        """The connection to the serving worker."""
        self._follow_table()
        if not self._serving or self._channel is None:
            raise DiskUnavailable(_STOPPING if self._closed else self._state_text())
        return self._channel

    def _follow_table(self) -> None:
        version = self._row.version
        if version == self._seen_version or self._closed:
            return
        self._seen_version = version
        epoch, state = version >> 8, DiskState(version & 0xFF)
        self._serving = state in DISK_STATES_THAT_SERVE
        if epoch != self._epoch:
            self._epoch = epoch
            self._lose_worker(DiskUnavailable(f"the worker of disk {self._disk_id} ended, outcome unknown"))
        if self._serving:
            self._find_worker()
        elif state != DiskState.OPENING:
            self._fail_waiting(DiskUnavailable(self._state_text()))
        elif self._lost_at is None:
            self._lost_at = self._loop.time()

    def _find_worker(self) -> None:
        self._lost_at = None
        if self._channel is None:
            endpoint = self._config.worker_endpoint(self._disk_id, self._epoch)
            self._channel = Channel(self._loop, zmq.Context.instance(), endpoint, self._on_frame)
            self._channel.send(pack_hello(self._pool.path))
        if len(self._queue) or self._reads.waiting:
            self._plan_flush()

    def _lose_worker(self, error: VolumedError) -> None:
        """Disconnect, and fail everything that the worker had."""
        if self._channel is not None:
            self._channel.close()
            self._channel = None
        batch, self._batch = self._batch, None
        unanswered, self._unanswered = self._unanswered, {}
        for slabs in unanswered.values():
            for slab in slabs:
                slab.release()
        call_slabs, self._call_slabs = self._call_slabs, {}
        for slab in call_slabs.values():
            slab.release()
        self._calls.fail_all(error)
        self._reads.fail_in_flight(error)
        for item in batch.items if batch else ():
            item.fail(error)

    def _keep_bodies(self) -> None:
        """The worker may be about to write them: they stay as they are as long as this process."""
        self._unanswered.clear()
        self._call_slabs.clear()
        for item in self._batch.items if self._batch else ():
            if item.slab is not None:
                item.slab.retain()

    def _fail_waiting(self, error: VolumedError) -> None:
        """Fail everything that has not been sent."""
        self._lost_at = None
        items = self._queue.take_all()
        self._reads.fail_waiting(error)
        for item in items:
            item.fail(error)

    # Time

    def _start_watch(self) -> None:
        if self._watch is None and not self._closed:
            self._watch = self._loop.call_later(self._limits.watch_s, self._look)

    def _look(self) -> None:
        """Look at the node table and at the deadlines, and again later while anything is under way."""
        self._watch = None
        self._follow_table()
        now = self._loop.time()
        if self._batch is not None and now >= self._batch.deadline:
            self._give_up_batch(self._batch)
        self._reads.give_up(now, self._late(self._limits.read_timeout_s))
        if self._lost_at is not None and now >= self._lost_at + self._limits.reopening_s:
            self._fail_waiting(DiskUnavailable(self._state_text()))
        if self._reads.waiting:
            self._plan_flush()
        if self._batch or self._reads.in_flight or self._calls or len(self._queue) or self._reads.waiting:
            self._start_watch()

    def _give_up_batch(self, batch: _Batch) -> None:
        """The worker may still be at it, so its slabs stay as they are until it answers or ends. What waited behind
        the batch has waited long enough too."""
        self._batch = None
        slabs = [item.slab for item in batch.items if item.slab is not None]
        if slabs:
            self._unanswered[batch.number] = slabs
        result = StoreResult(StoreOutcome.ERROR, 0, self._late(self._limits.store_timeout_s))
        waiting = self._queue.take_all()
        for item in batch.items:
            item.finish(result)
        for item in waiting:
            item.fail(DiskUnavailable(f"disk {self._disk_id} does not answer"))

    def _state_text(self) -> str:
        return f"disk {self._disk_id} is {self._row.state.name.lower()}"

    def _late(self, timeout_s: float) -> DiskUnavailable:
        return DiskUnavailable(f"disk {self._disk_id} did not answer within {timeout_s:g} s, outcome unknown")
