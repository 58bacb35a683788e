"""The gRPC handlers without processes: a node that answers workers' and the supervisor's calls from a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from volumed.bus import calls
from volumed.config.node import DiskConfig, NodeConfig
from volumed.errors import VolumedError
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.nodetable import DiskState, NodeTable, create_node_table

__all__ = ["DISKS", "FakeCall", "ScriptedNode", "make_node", "refuse", "serving_table"]

DISKS = 3

Answer = Callable[[Any], Any]


@dataclass
class Holder:
    disk_id: int


@dataclass
class ScriptedNode:
    """Answers calls from a table and remembers them; mounted volumes are ``volumes``: id → disk."""

    answers: dict[type, Answer] = field(default_factory=dict)
    asked: list[tuple[str, calls.Request]] = field(default_factory=list)
    volumes: dict[int, int] = field(default_factory=dict)

    def call(self, endpoint: str, request: calls.Request, timeout_s: float) -> Any:
        assert timeout_s > 0
        self.asked.append((endpoint.rpartition("/")[2], request))
        answer = self.answers.get(type(request))
        return answer(request) if answer else request.Result()

    def locate(self, volume_id: int) -> Holder | None:
        disk_id = self.volumes.get(volume_id)
        return None if disk_id is None else Holder(disk_id)

    def shards(self, _volume_id: int) -> list[Any]:
        return []

    def worker_calls(self) -> list[tuple[str, calls.Request]]:
        return [(where, request) for where, request in self.asked if where.startswith("disk-")]


class FakeCall:
    """Ends after some waits."""

    def __init__(self, waits: int = 1 << 30, left_s: float = math.inf) -> None:
        self._waits = waits
        self.left_s = left_s

    @property
    def ended(self) -> bool:
        return self._waits <= 0

    def require(self) -> None:
        Call.require(cast("Call", self))

    def wait_for_work(self) -> bool:
        self._waits -= 1
        return self.ended


def refuse(error: VolumedError) -> Answer:
    def answer(_: Any) -> Any:
        raise error

    return answer


@contextmanager
def serving_table(home: Path, first_epoch: int = 1) -> Iterator[NodeTable]:
    """All disks serve; each worker has an epoch of its own."""
    table = create_node_table(str(home / "node.table"), disks=DISKS, fronts=1)
    for epoch, row in enumerate(table.disks, start=first_epoch):
        row.start_epoch(epoch)
        row.set_state(DiskState.OK)
    yield table
    table.close()


def make_node(script: ScriptedNode, table: NodeTable, home: Path, compat: str = "4.48") -> GrpcNode:
    config = NodeConfig(
        runtime_dir=str(home),
        map_dir=str(home),
        state_dir=str(home),
        disks=tuple(DiskConfig(i, f"/d{i}", f"/d{i}", disk_type="ssd") for i in range(DISKS)),
        ip="10.0.0.7",
        port=8080,
        node_id="10.0.0.7:8080",
        compat=compat,
    )
    return GrpcNode(config, table, script, script)
