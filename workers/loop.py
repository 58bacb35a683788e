"""The worker's loop: one thread that owns the sockets and makes every change to the disk's shards.

A turn takes everything that is ready from all fronts, applies all stores as one batch, answers, hands cold reads to
the reader threads and sends what they finished. Nothing on this thread waits for the disk except the appends
themselves, and nothing runs beside it that changes a shard.
"""

from __future__ import annotations

import functools
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import TypeVar

import msgspec
import zmq

from volumed.bus.events import Ping, Pong, SupervisorEvent, WorkerEvent
from volumed.bus.frames import (
    CALL,
    EVENT,
    HELLO,
    READ,
    STATUS_ERROR,
    STATUS_OK,
    STORE,
    FrameError,
    ReadOperation,
    StoreOperation,
    StoreOutcome,
    StoreResult,
    encode_error,
    pack_event,
    pack_read_replies,
    pack_store_reply,
    parse_hello,
    parse_read_batch,
    parse_store_batch,
)
from volumed.bus.router import CallRouter
from volumed.config.node import NodeConfig
from volumed.errors import NodeError, VolumedError
from volumed.remote.errors import TooManyRemoteReads
from workers.bodies import SharedBodies
from workers.host import ShardHost, StoreBatch, StoreDone, Work
from workers.stores import StoreScheduler
from workers.threads import JobThreads

__all__ = ["DiskLoop"]

_log = logging.getLogger(__name__)
T = TypeVar("T")
Payload = bytes | bytearray

_TICK_S = 1.0
_READERS = 4
_THREADS_PER_KIND = 2
_THREADS = {Work.ELSEWHERE: 8, Work.REMOTE: 16}
_REMOTE_READS_MAX = 64
"""Reads that wait for object stores; fewer than a front has under way, so that those of other volumes go on."""
_FRAMES_PER_TURN_MAX = 1024
_REPLY_BYTES_TARGET = 1 << 20
_STOP_LIMIT_S = 10.0
"""How long a stopping worker waits for flushes, reads and tasks; the supervisor's patience is longer."""
_STOP_POLL_S = 0.05
_LINGER_MS = 1000
_HEARD_MS = 5000


class DiskLoop:
    """Sockets, threads and timing; the `Shell` of a host. All methods except `post` belong to the loop thread.

    `post` hands a function to the loop thread from any other."""

    def __init__(self, config: NodeConfig, disk_id: int, epoch: int) -> None:
        self._disk_id = disk_id
        self._epoch = epoch
        self._endpoint = config.worker_endpoint(disk_id, epoch)
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._supervisor = self._socket(zmq.DEALER)
        self._supervisor.connect(config.supervisor_endpoint())
        self._data = self._socket(zmq.ROUTER)
        self._wake_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._poller = zmq.Poller()
        for source in (self._supervisor, self._data, self._wake_fd):
            self._poller.register(source, zmq.POLLIN)
        self._posted: deque[Callable[[], None]] = deque()
        self._finished: deque[tuple[bytes, tuple[int, int, Payload]]] = deque()
        self._readers = JobThreads("read", _READERS)
        self._threads: dict[Work, JobThreads] = {}
        self._sync = JobThreads("sync")
        self._bodies = SharedBodies()
        self._events: msgspec.msgpack.Decoder[SupervisorEvent] = msgspec.msgpack.Decoder(SupervisorEvent)
        self._last_ping = -1
        self._outside = 0
        """Reads and tasks that other threads have."""
        self._remote_reads = 0
        """Those of the reads that wait for object stores."""
        self._stopping = False

    # Shell

    def store(self, operations: Sequence[StoreOperation], done: StoreDone) -> None:
        self._stores.submit(operations, done)

    def after_flush(self, action: Callable[[], None]) -> None:
        self._stores.after_flush(action)

    def hold(self) -> None:
        self._stores.hold()

    def release(self, batch: StoreBatch, done: StoreDone) -> None:
        self._stores.release(batch, done)

    def shared(self, sender: bytes, offset: int, length: int) -> memoryview:
        return self._bodies.view(sender, offset, length)

    def in_background(
        self,
        work: Callable[[], T],
        done: Callable[[T], None],
        failed: Callable[[Exception], None],
        kind: Work = Work.TASK,
    ) -> None:
        self._outside += 1

        def finish(action: Callable[[], None]) -> None:
            self._outside -= 1
            action()

        def job() -> None:
            try:
                outcome = functools.partial(done, work())
            except Exception as error:
                outcome = functools.partial(failed, error)
            self.post(functools.partial(finish, outcome))
            # An error knows this frame: with the frame knowing the error, files that neither needs would stay open.
            del outcome

        self._threads_of(kind).submit(job)

    def _threads_of(self, kind: Work) -> JobThreads:
        """Started with their first work: few disks ever need all kinds."""
        if kind not in self._threads:
            self._threads[kind] = JobThreads(kind.value, _THREADS.get(kind, _THREADS_PER_KIND))
        return self._threads[kind]

    def publish(self, event: WorkerEvent) -> None:
        self._supervisor.send(pack_event(event), zmq.NOBLOCK)

    def publish_last(self, event: WorkerEvent) -> None:
        """Tell why the process ends, as the first and only thing, and wait until the supervisor has heard it: it would
        perhaps see the end before the reason."""
        self.publish(event)
        self._supervisor.poll(_HEARD_MS)  # it greets whoever speaks to it

    def post(self, action: Callable[[], None]) -> None:
        """Call ``action`` on the loop thread (any thread)."""
        self._posted.append(action)
        os.eventfd_write(self._wake_fd, 1)

    def stop(self) -> None:
        """Finish what is in hand and return from `serve` (signal handler)."""
        self._stopping = True
        os.eventfd_write(self._wake_fd, 1)

    # Life

    def serve(self, host: ShardHost) -> None:
        """Open for fronts, introduce the disk to the supervisor, and work until `stop`."""
        self._host = host
        self._stores = StoreScheduler(host, self._sync, self.post)
        self._calls = CallRouter(host.requests, host.call, self._send)
        self._data.bind(self._endpoint)
        host.introduce()
        next_tick = time.monotonic() + _TICK_S
        while not self._stopping:
            self._turn(next_tick - time.monotonic())
            if time.monotonic() >= next_tick:
                next_tick = time.monotonic() + _TICK_S
                self._tick()
        self._finish()

    def close(self) -> None:
        """Send what is queued and release everything."""
        self._data.close(_LINGER_MS)
        self._supervisor.close(_LINGER_MS)
        self._context.term()
        self._bodies.close()

    def _tick(self) -> None:
        try:
            for sender in self._bodies.forget_gone():
                self._host.forget(sender)
            self._host.tick()
        except Exception:
            _log.exception("periodic work failed")

    def _finish(self) -> None:
        """Take what has arrived, then only what other threads still have."""
        self._turn(0)
        self._host.stop()
        self._poller.unregister(self._data)
        limit = time.monotonic() + _STOP_LIMIT_S
        while not self._idle:
            self._turn(_STOP_POLL_S)
            if time.monotonic() > limit:
                _log.error("stopping with work unfinished: the disk does not answer")
                return

    @property
    def _idle(self) -> bool:
        return self._stores.idle and not self._outside

    def _turn(self, wait_s: float) -> bool:
        """Wait for work and do all of it; whether there was any."""
        ready = {source for source, _ in self._poller.poll(max(0, int(wait_s * 1000) + 1))}
        if self._wake_fd in ready:
            os.eventfd_read(self._wake_fd)
            # What these post comes with the next turn.
            for _ in range(len(self._posted)):
                self._posted.popleft()()
            self._send_finished_reads()
        if self._supervisor in ready:
            self._take_events()
        if self._data in ready:
            self._take_frames()
        self._stores.run()
        return bool(ready)

    # Frames

    def _take_frames(self) -> None:
        """Dispatch what the fronts have sent, up to a limit that keeps a turn short."""
        receive = self._data.recv
        for _ in range(_FRAMES_PER_TURN_MAX):
            try:
                identity = receive(zmq.NOBLOCK)
            except zmq.Again:
                return
            frame = memoryview(receive())
            try:
                self._dispatch(identity, frame)
            except FrameError as error:
                _log.error("a frame is dropped: %s", error)

    def _dispatch(self, identity: bytes, frame: memoryview) -> None:
        kind = frame[0] if frame else 0
        if kind == STORE:
            self._take_stores(identity, *parse_store_batch(frame))
        elif kind == READ:
            for operation in parse_read_batch(frame):
                self._start_read(identity, operation)
            self._send_finished_reads()
        elif kind == CALL:
            # A call sees what its sender had stored before.
            self._stores.run()
            self._calls.receive(identity, frame)
        elif kind == HELLO:
            self._bodies.introduce(identity, parse_hello(frame))
        else:
            raise FrameError(f"unknown kind {kind}")

    def _take_stores(self, identity: bytes, number: int, operations: list[StoreOperation]) -> None:
        def answer(results: Sequence[StoreResult]) -> None:
            self._send(identity, pack_store_reply(number, results))

        try:
            self._stores.submit(self._bodies.resolve(identity, operations), answer)
        except FrameError as error:
            _log.error("a batch is refused: %s", error)
            answer([StoreResult(StoreOutcome.ERROR, 0, NodeError(str(error)))] * len(operations))

    def _send(self, identity: bytes, frame: bytes) -> None:
        # A front that is gone is not an error: the socket drops what is addressed to it.
        self._data.send(identity, zmq.SNDMORE | zmq.NOBLOCK)
        self._data.send(frame, zmq.NOBLOCK)

    # Reads

    def _start_read(self, identity: bytes, operation: ReadOperation) -> None:
        payload = self._host.read_now(operation)
        if payload is not None:
            self._finished.append((identity, (operation.request_id, STATUS_OK, payload)))
            return
        if self._host.is_remote(operation.volume_id):
            self._start_remote_read(identity, operation)
        else:
            self._outside += 1
            self._readers.submit(functools.partial(self._read, identity, operation))

    def _start_remote_read(self, identity: bytes, operation: ReadOperation) -> None:
        if self._remote_reads >= _REMOTE_READS_MAX:
            error = encode_error(TooManyRemoteReads.of(self._remote_reads))
            self._finished.append((identity, (operation.request_id, STATUS_ERROR, error)))
            return
        self._outside += 1
        self._remote_reads += 1
        self._threads_of(Work.REMOTE).submit(functools.partial(self._read_remote, identity, operation))

    def _read_remote(self, identity: bytes, operation: ReadOperation) -> None:
        """On a thread that waits for nothing else."""
        self._read(identity, operation)
        self.post(self._remote_read_ended)

    def _remote_read_ended(self) -> None:
        self._remote_reads -= 1

    def _read(self, identity: bytes, operation: ReadOperation) -> None:
        """On a reader thread."""
        payload: Payload
        try:
            status, payload = STATUS_OK, self._host.read(operation)
        except VolumedError as error:
            status, payload = STATUS_ERROR, encode_error(error)
        except Exception as error:
            _log.exception("a read failed unexpectedly")
            status, payload = STATUS_ERROR, encode_error(NodeError(str(error)))
        self._finished.append((identity, (operation.request_id, status, payload)))
        self.post(self._read_ended)

    def _read_ended(self) -> None:
        self._outside -= 1

    def _send_finished_reads(self) -> None:
        """One frame per front, or several when they would become large."""
        groups: dict[bytes, list[tuple[int, int, Payload]]] = {}
        sizes: dict[bytes, int] = {}
        while self._finished:
            identity, reply = self._finished.popleft()
            groups.setdefault(identity, []).append(reply)
            sizes[identity] = sizes.get(identity, 0) + len(reply[2])
            if sizes[identity] >= _REPLY_BYTES_TARGET:
                self._send(identity, pack_read_replies(groups.pop(identity)))
                del sizes[identity]
        for identity, replies in groups.items():
            self._send(identity, pack_read_replies(replies))

    # Supervisor

    def _take_events(self) -> None:
        while True:
            try:
                frame = memoryview(self._supervisor.recv(zmq.NOBLOCK))
            except zmq.Again:
                return
            if not frame or frame[0] != EVENT:
                _log.error("the supervisor sent something that is not an event")
                continue
            try:
                event = self._events.decode(frame[1:])
            except msgspec.MsgspecError as error:
                _log.error("an event is not understood: %s", error)
                continue
            self._take_event(event)

    def _take_event(self, event: SupervisorEvent) -> None:
        if not isinstance(event, Ping):
            self._host.take_event(event)
            return
        self.publish(Pong(self._disk_id, self._epoch, event.sequence))
        if event.sequence <= self._last_ping:
            # Counting from the start again: this supervisor is another one and knows nothing of the disk.
            self._host.introduce()
        self._last_ping = event.sequence

    def _socket(self, kind: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(kind)
        socket.hwm = 0
        return socket
