"""The check list of docs/spec/grpc.md 8.1: what goes across all RPCs. Where its other lines are tested:

| Line | Tests |
|---|---|
| Heartbeat | `test_membership`, `test_heartbeat_digest`, `unit/test_heartbeat`, `probe/test_supervisor` |
| Copy, concurrent move | `test_grpc_copy`, `unit/test_worker_copies` |
| CopyFile, ReceiveFile | `test_grpc_files`, `test_grpc_receive` |
| Needle blobs | `test_grpc_needles` |
| Tail | `test_grpc_tail`, `probe/test_tail_streams` |
| Vacuum | `test_vacuum`, `probe/test_vacuum_kills`, `probe/test_vacuum_steps` |
| Scrub | `test_grpc_scrub`, `unit/test_storage_scrub` |
| Query | `test_grpc_remote`, `unit/test_query` |
| Tiering | `test_tiering`, `test_grpc_remote` |
| Fetch | `test_grpc_remote`, `unit/test_security_endpoints` |
| Mixed cluster | `test_shell_matrix`, `test_replicas` |
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf import message_factory

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from volumed.formats.superblock import SuperBlock
from volumed.grpc.admin_gate import ADMIN_METHODS
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

pytestmark = pytest.mark.interop

TIMEOUT_S = 30.0
METHODS = {method.name: method for method in pb.DESCRIPTOR.services_by_name["VolumeServer"].methods}
IN_MAINTENANCE = b"\x08\x01\x10\x01"
MISSING = 4_000_000
EMPTY = 1
"""A volume that all servers have."""
NOT_HERE = ["-whiteList=10.1.2.3"]

REFUSED_IN_MAINTENANCE = {
    "AllocateVolume", "BatchDelete", "FetchAndWriteNeedle", "ReceiveFile", "VacuumVolumeCleanup", "VacuumVolumeCommit",
    "VacuumVolumeCompact", "VolumeConfigure", "VolumeConsolidateIndex", "VolumeCopy", "VolumeEcBlobDelete",
    "VolumeEcShardsCopy", "VolumeEcShardsGenerate", "VolumeEcShardsRebuild", "VolumeEcShardsToVolume",
    "VolumeTierMoveDatToRemote", "WriteNeedleBlob",
}  # fmt: skip
"""Column M; `VolumeMarkWritable` looks the volume up first."""
ONLY_BY_4_44 = {"VolumeDelete"}
"""The rows ★; `VolumeMarkReadonly` looks the volume up first."""
ONLY_BY_THE_PROJECT = {"VolumeEcShardsDelete"}
"""Rule R8 of docs/spec/erasure-coding.md: the reference of 4.48 removes shards in maintenance mode, too."""


class Servers(NamedTuple):
    weed: VolumeServer
    ours: VolumeServer
    older: VolumeServer
    weed_closed: VolumeServer
    ours_closed: VolumeServer


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    """All of them in maintenance mode by the file that they find; two with a white list."""
    home = tmp_path_factory.mktemp("checklist")
    with Master(home / "m") as master:
        made = Servers(
            WeedVolume(home / "w", master=master),
            Volumed(home / "v", master=master),
            Volumed(home / "o", master=master, flags=["-compat=4.44"]),
            WeedVolume(home / "wc", master=master, flags=NOT_HERE),
            Volumed(home / "vc", master=master, flags=NOT_HERE),
        )
        try:
            for server in made:
                (server.dirs[0] / "state.pb").write_bytes(IN_MAINTENANCE)
                (server.dirs[0] / f"{EMPTY}.dat").write_bytes(SuperBlock(3).encode())
                (server.dirs[0] / f"{EMPTY}.idx").write_bytes(b"")
                server.start()
            yield made
        finally:
            for server in made:
                server.close()


def ask(server: VolumeServer, name: str, **fields: Any) -> tuple[grpc.StatusCode, str]:
    """How a call ends; a stream is read to its end."""
    method = METHODS[name]
    request = message_factory.GetMessageClass(method.input_type)(**fields)
    with grpc.insecure_channel(server.grpc_address) as channel:
        call = getattr(VolumeServerStub(channel), name)
        try:
            answer = call(iter([request]) if method.client_streaming else request, timeout=TIMEOUT_S)
            if method.server_streaming:
                list(answer)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


def fields_of(name: str) -> dict[str, Any]:
    """A request that can do no harm: it names a volume that is not there."""
    known = {field.name for field in METHODS[name].input_type.fields}
    given: dict[str, Any] = {"volume_id": MISSING, "volume_ids": [MISSING], "collection": "none", "version": 3}
    return {field: value for field, value in given.items() if field in known}


def maintenance(server: VolumeServer) -> tuple[grpc.StatusCode, str]:
    return grpc.StatusCode.UNKNOWN, f"volume server {server.address} is in maintenance mode"


@pytest.mark.parametrize("name", sorted(METHODS.keys() - {"VolumeServerLeave"}))
def test_maintenance_mode(servers: Servers, name: str) -> None:
    refused = name in REFUSED_IN_MAINTENANCE
    assert (ask(servers.weed, name, **fields_of(name)) == maintenance(servers.weed)) is refused
    refused = refused or name in ONLY_BY_THE_PROJECT
    ours = ask(servers.ours, name, **fields_of(name))
    assert (ours == maintenance(servers.ours)) is refused
    older = ask(servers.older, name, **fields_of(name))
    assert (older == maintenance(servers.older)) is (refused or name in ONLY_BY_4_44)


@pytest.mark.parametrize("name", sorted(METHODS))
def test_white_list(servers: Servers, name: str) -> None:
    """It is asked first, also in maintenance mode, and for methods that are not served."""
    denied = (grpc.StatusCode.PERMISSION_DENIED, "not authorized: 127.0.0.1")
    asked = [ask(server, name, **fields_of(name)) == denied for server in (servers.weed_closed, servers.ours_closed)]
    assert asked == [name in ADMIN_METHODS] * 2


def state(version: int, *, maintenance: bool) -> dict[str, Any]:
    return {"state": pb.VolumeServerState(version=version, maintenance=maintenance)}


STATE_STEPS: Sequence[tuple[str, dict[str, Any]]] = (
    ("GetState", {}),
    ("SetState", {}),
    ("SetState", state(0, maintenance=False)),
    ("SetState", state(2, maintenance=False)),
    ("SetState", state(1, maintenance=False)),
    ("SetState", state(2, maintenance=True)),
    ("SetState", state(3, maintenance=True)),
    ("GetState", {}),
)


def run_states(server: VolumeServer) -> list[Any]:
    """Answers and files, before and after a restart."""
    seen: list[Any] = []
    with grpc.insecure_channel(server.grpc_address) as channel:
        stub = VolumeServerStub(channel)
        for name, fields in STATE_STEPS:
            try:
                answer = getattr(stub, name)(getattr(pb, f"{name}Request")(**fields), timeout=TIMEOUT_S)
                seen.append((answer.HasField("state"), answer.state.maintenance, answer.state.version))
            except grpc.RpcError as error:
                seen.append((error.code(), error.details()))
            seen.append((server.dirs[0] / "state.pb").read_bytes())
    return seen


def test_state_of_the_server(servers: Servers) -> None:
    theirs, ours = run_states(servers.weed), run_states(servers.ours)
    assert ours == theirs
    servers.ours.stop()
    servers.ours.start()
    with grpc.insecure_channel(servers.ours.grpc_address) as channel:
        answer = VolumeServerStub(channel).GetState(pb.GetStateRequest(), timeout=TIMEOUT_S)
    assert (True, answer.state.maintenance, answer.state.version) == ours[-2]


def test_marks_look_the_volume_up_before_they_look_at_maintenance(servers: Servers) -> None:
    for name in ("VolumeMarkReadonly", "VolumeMarkWritable"):
        answers = [ask(server, name, volume_id=MISSING) for server in (servers.weed, servers.ours, servers.older)]
        assert answers == [(grpc.StatusCode.UNKNOWN, f"volume {MISSING} not found")] * 3


def test_the_status_of_a_needle_that_is_missing(servers: Servers) -> None:
    answers = [ask(server, "VolumeNeedleStatus", volume_id=EMPTY, needle_id=5) for server in servers[:3]]
    text = "needle not found 5"
    found, older = (grpc.StatusCode.NOT_FOUND, text), (grpc.StatusCode.UNKNOWN, text)
    assert answers == [found, found, older]
