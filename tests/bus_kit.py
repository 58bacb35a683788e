"""What the bus tests share: a node in a temporary directory whose workers are scripted ROUTER sockets."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import uvloop
import zmq

from volumed.bus import frames
from volumed.bus.bodypool import BodyPool
from volumed.bus.link import DiskLink, LinkLimits
from volumed.config.node import DiskConfig, NodeConfig
from volumed.nodetable import DiskState, NodeTable, create_node_table

LIMIT_S = 60.0
PAGE = 4096


class Node:
    """Configuration and node table with one disk, served by epoch 1."""

    def __init__(self, root: Path) -> None:
        disk = DiskConfig(disk_id=0, directory=str(root), idx_directory=str(root))
        self.config = NodeConfig(runtime_dir=str(root), map_dir=str(root), state_dir=str(root), disks=(disk,))
        self.table: NodeTable = create_node_table(self.config.node_table_path(), disks=1, fronts=1)
        self.start_epoch(1)

    def start_epoch(self, epoch: int, state: DiskState = DiskState.OK) -> None:
        self.table.disks[0].start_epoch(epoch)
        self.set_state(state)

    def set_state(self, state: DiskState) -> None:
        self.table.disks[0].set_state(state)
        self.table.changed()


class ScriptedWorker:
    """A ROUTER that a test drives by hand, on the test's loop."""

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        self._socket = context.socket(zmq.ROUTER)
        self._socket.linger = 0
        self._socket.bind(endpoint)
        self._front = b""
        self.hellos: list[str] = []

    async def frame(self) -> memoryview:
        """The next frame that is not a hello."""
        async with asyncio.timeout(LIMIT_S):
            while True:
                while not self._socket.poll(0):  # noqa: ASYNC110 - the socket has no event
                    await asyncio.sleep(0.0005)
                self._front, raw = self._socket.recv_multipart()
                frame = memoryview(raw)
                if frame[0] != frames.HELLO:
                    return frame
                self.hellos.append(frames.parse_hello(frame))

    def silent(self) -> bool:
        """Nothing has arrived."""
        return not self._socket.poll(0)

    async def batch(self) -> tuple[int, list[frames.StoreOperation]]:
        frame = await self.frame()
        assert frame[0] == frames.STORE
        return frames.parse_store_batch(frame)

    async def reads(self) -> list[frames.ReadOperation]:
        frame = await self.frame()
        assert frame[0] == frames.READ
        return frames.parse_read_batch(frame)

    def send(self, frame: bytes) -> None:
        self._socket.send_multipart([self._front, frame])

    def answer(self, number: int, count: int) -> None:
        """All operations of a batch were stored."""
        stored = frames.StoreResult(frames.StoreOutcome.STORED, 1)
        self.send(frames.pack_store_reply(number, [stored] * count))

    def close(self) -> None:
        self._socket.close()


class Bench:
    """One link, and workers by epoch."""

    def __init__(self, node: Node, limits: LinkLimits) -> None:
        self.node = node
        self._context: zmq.Context[Any] = zmq.Context()
        self._workers: list[ScriptedWorker] = []
        self.pool = BodyPool(node.config.runtime_path("front-1.pool"), capacity=16 * PAGE, kept_bytes=4 * PAGE)
        self.worker = self.start_worker(1)
        self.link = DiskLink(asyncio.get_running_loop(), node.config, node.table, 0, self.pool, limits)
        self.results: list[frames.StoreResult] = []

    def start_worker(self, epoch: int) -> ScriptedWorker:
        worker = ScriptedWorker(self._context, self.node.config.worker_endpoint(0, epoch))
        self._workers.append(worker)
        return worker

    def store(self, count: int = 1, body: bytes = b"x") -> None:
        """Queue puts; their results arrive in ``results``."""
        for _ in range(count):
            self.link.store(frames.pack_put(1, 0, 0, 1, 0, body), self.results.append)

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(LIMIT_S):
            while not condition():  # noqa: ASYNC110 - any condition
                await asyncio.sleep(0.0005)

    async def settled(self, count: int) -> None:
        """So many results are there."""
        await self.until(lambda: len(self.results) >= count)

    def close(self) -> None:
        self.link.close()
        for worker in self._workers:
            worker.close()
        self._context.term()
        self.pool.close()
        self.node.table.close()


@contextlib.contextmanager
def bench(root: Path, limits: LinkLimits | None = None) -> Iterator[Bench]:
    made = Bench(Node(root), limits or LinkLimits())
    try:
        yield made
    finally:
        made.close()


def run(test: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run an asynchronous test on the loop that fronts use."""
    uvloop.run(test())
