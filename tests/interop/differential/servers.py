"""The three servers, started and filled in the same way, and asked the same at the same time."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.interop.differential.kit import Case, fid
from tests.interop.differential.wire import Answer, exchange
from tests.processes import HOST, free_port, wait_until
from tests.web import get, upload
from volumed.wire import volume_server_pb2 as pb
from volumed.wire import volume_server_pb2_grpc

__all__ = ["LANES", "PLAIN", "READ_ONLY", "REPLICATED", "SIZE_LIMIT", "WITH_TTL", "Answers", "ask_all"]

PLAIN, WITH_TTL, READ_ONLY, REPLICATED = 1, 2, 3, 4
"""Volume ids: one with a TTL of 3 days, one that was written to and then marked, one that lacks its second copy."""
SIZE_LIMIT = 3 << 20
LANES = ("lane", "framework")
RPC_TIMEOUT_S = 60

Answers = dict[str, list[Answer]]
"""By name of the case."""


class WithoutLane(Volumed):
    """volumed with all requests going through the framework."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"VOLUMED_NEEDLE_LANE": "0"}


def ask_all(home: Path, cases: Sequence[Case]) -> dict[str, Answers]:
    """Start all servers, send all cases to each in order; answers of `reference` and of each lane."""
    with ThreadPoolExecutor(3) as pool:
        running = {
            "reference": pool.submit(_ask_reference, home, cases),
            "lane": pool.submit(_ask, Volumed, home / "lane", cases),
            "framework": pool.submit(_ask, WithoutLane, home / "framework", cases),
        }
        return {name: future.result() for name, future in running.items()}


def _ask_reference(home: Path, cases: Sequence[Case]) -> Answers:
    with Master(_made(home / "master")) as master:
        return _ask(WeedVolume, home / "reference", cases, master=master)


def _ask(kind: type[VolumeServer], home: Path, cases: Sequence[Case], **options: Any) -> Answers:
    public = free_port()
    flags = ["-fileSizeLimitMB=3", "-readMode=local", f"-port.public={public}"]
    with kind(_made(home), flags=flags, **options) as server:
        _prepare(server)
        addresses = {False: server.address, True: f"{HOST}:{public}"}
        return {case.name: exchange(addresses[case.public], case) for case in cases}


def _made(home: Path) -> Path:
    home.mkdir()
    return home


def _prepare(server: VolumeServer) -> None:
    """The volumes and what is read-only; the master must know of the volumes before it is asked for chunks."""
    kinds = ((PLAIN, "", "000"), (WITH_TTL, "3d", "000"), (READ_ONLY, "", "000"), (REPLICATED, "", "001"))
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub: Any = volume_server_pb2_grpc.VolumeServerStub(channel)
        for volume_id, ttl, replication in kinds:
            allocation = pb.AllocateVolumeRequest(volume_id=volume_id, ttl=ttl, replication=replication, version=3)
            stub.AllocateVolume(allocation, timeout=RPC_TIMEOUT_S)
        for key, data in ((1, b"kept"), (2, b"")):
            assert upload(server.address, fid(key, READ_ONLY)[1:], data, query="ts=1700000000").status == 201
        stub.VolumeMarkReadonly(pb.VolumeMarkReadonlyRequest(volume_id=READ_ONLY), timeout=RPC_TIMEOUT_S)
    master = server.master.address if server.master else server.address
    for volume_id, _, _ in kinds:
        lookup = f"/dir/lookup?volumeId={volume_id}"
        wait_until(lambda lookup=lookup: get(master, lookup).status == 200, timeout_s=30, what=lookup)
