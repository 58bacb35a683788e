"""A real worker process on a temporary disk, with the test as its supervisor and its only front."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import zmq

from tests.bus_kit import Node
from tests.processes import Server
from tests.storage_kit import needle_body
from volumed.bus import calls, events, frames
from volumed.bus.bodypool import BodyPool
from volumed.bus.link import DiskLink
from volumed.config.node import write_node_config
from volumed.formats.checksum import crc32c
from volumed.formats.needle import Needle, decode_record
from volumed.nodetable import DiskState
from volumed.storage.read_payload import unpack_payload

LIMIT_S = 60.0
COOKIE = 0xC00C1E
E = TypeVar("E", bound=events.WorkerEvent)


class WorkerProcess(Server):
    """One epoch of disk 0."""

    name = "worker"

    def __init__(self, home: Path, config_path: str, epoch: int, parent: int | None = None) -> None:
        super().__init__(home)
        self._arguments = [config_path, "0", str(epoch)]
        self._parent = os.getpid() if parent is None else parent

    def command(self) -> list[str]:
        return [sys.executable, "-m", "workers", *self._arguments]

    def environment(self) -> dict[str, str]:
        return super().environment() | {"VOLUMED_PARENT_PID": str(self._parent)}


class SupervisorStub:
    """Collects what workers tell, and talks to the one that spoke last."""

    def __init__(self, endpoint: str) -> None:
        self._context: zmq.Context[Any] = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(endpoint)
        self._identity = b""
        self.events: list[events.WorkerEvent] = []

    async def event(self, kind: type[E]) -> E:
        """The next event of this kind; those before it stay in ``events``."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                while not self._socket.poll(0):  # noqa: ASYNC110 - the socket has no event
                    await asyncio.sleep(0.002)
                self._identity, frame = self._socket.recv_multipart()
                assert frame[0] == frames.EVENT
                event = msgspec.msgpack.decode(frame[1:], type=events.WorkerEvent)
                self.events.append(event)
                if isinstance(event, kind):
                    return event

    def tell(self, event: events.SupervisorEvent) -> None:
        self._socket.send_multipart([self._identity, frames.pack_event(event)])

    def close(self) -> None:
        self._socket.close()
        self._context.term()


class WorkerRig:
    """The disk, its worker, and a link to it. Volume 1 exists after `start_with_volume`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.node = Node(root)
        self.node.set_state(DiskState.ABSENT)
        self.config_path = write_node_config(self.node.config)
        self.supervisor = SupervisorStub(self.node.config.supervisor_endpoint())
        self.pool = BodyPool(self.node.config.runtime_path("front-1.pool"), capacity=64 << 20)
        self.link = DiskLink(asyncio.get_running_loop(), self.node.config, self.node.table, 0, self.pool)
        self.processes: list[WorkerProcess] = []

    @property
    def worker(self) -> WorkerProcess:
        return self.processes[-1]

    def launch(self, parent: int | None = None) -> WorkerProcess:
        epoch = len(self.processes) + 1
        worker = WorkerProcess(self.root / f"worker-{epoch}", self.config_path, epoch, parent)
        self.processes.append(worker)
        self.node.start_epoch(epoch, DiskState.OPENING)
        worker.launch()
        return worker

    async def start(self) -> events.DiskReady:
        """Start the next epoch and wait until it serves."""
        self.launch()
        ready = await self.supervisor.event(events.DiskReady)
        self.node.set_state(DiskState.OK)
        return ready

    async def start_with_volume(self) -> None:
        await self.start()
        await self.call(calls.AllocateVolume(1, "", 0, 0, 3))

    async def call(self, request: calls.Request) -> Any:
        return await self.link.call(request, LIMIT_S)

    def put(self, key: int, data: bytes, *, flags: int = 0, volume_id: int = 1) -> asyncio.Future[frames.StoreResult]:
        body = needle_body(data)
        return self.send(frames.pack_put(volume_id, 0, COOKIE, key, crc32c(data), body, flags))

    def delete(self, key: int) -> asyncio.Future[frames.StoreResult]:
        return self.send(frames.pack_delete(1, 0, COOKIE, key, 0))

    def send(self, operation: bytes) -> asyncio.Future[frames.StoreResult]:
        future: asyncio.Future[frames.StoreResult] = asyncio.get_running_loop().create_future()
        self.link.store(operation, future.set_result)
        return future

    async def read(self, key: int) -> Needle:
        """The verified needle of volume 1."""
        payload = unpack_payload(await self.link.read(1, key))
        return decode_record(payload.record, payload.version, payload.size, payload.offset)

    def close(self) -> None:
        self.link.close()
        self.pool.close()
        for process in self.processes:
            process.close()
        self.supervisor.close()
        self.node.table.close()

    def kill(self) -> None:
        """End the worker as a crash would."""
        self.worker.signal(signal.SIGKILL)
        self.worker.wait_exit(expected=-signal.SIGKILL)


@contextlib.asynccontextmanager
async def worker_rig(root: Path) -> AsyncIterator[WorkerRig]:
    rig = WorkerRig(root)
    try:
        yield rig
    finally:
        rig.close()
