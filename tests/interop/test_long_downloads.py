"""Downloads of long objects that go on while their volume is vacuumed, encoded, moved in shards and decoded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from tests.cluster import Volumed
from tests.ec_cluster import EcCluster, started_cluster
from tests.ec_files_kit import ALL_SHARDS, wait_for_shards
from tests.grpc_kit import RPC_TIMEOUT_S, Node, Put, allocate, readonly, rpc
from tests.grpc_kit import mount as mount_volume
from tests.slow_clients import connect
from tests.web import delete
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

OBJECT = random.Random(1).randbytes(24 << 20)
"""More than sockets and fronts hold."""
COOKIE = "c0ffee11"


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EcCluster]:
    """Clients may stand still while something happens."""
    with started_cluster(tmp_path_factory.mktemp("two"), [Volumed] * 2, flags=["-idleTimeout=0"]) as cluster:
        yield cluster


@pytest.fixture
def node(two: EcCluster) -> Node:
    """The server that is asked."""
    return two.nodes[0]


def fid(volume_id: int) -> str:
    return f"{volume_id},1{COOKIE}"


def fill(node: Node, volume_id: int) -> None:
    node.run(allocate(volume_id))
    assert node.run(Put(fid(volume_id), OBJECT)) == 201


def encode(node: Node, volume_id: int) -> None:
    """Shards in the place of the volume."""
    for call in (
        readonly(volume_id),
        rpc("VolumeEcShardsGenerate", volume_id),
        rpc("VolumeEcShardsMount", volume_id, shard_ids=ALL_SHARDS),
        rpc("VolumeDelete", volume_id),
    ):
        assert node.run(call) == {}


def decode(node: Node, volume_id: int) -> None:
    """A volume in the place of the shards."""
    assert node.run(rpc("VolumeEcShardsToVolume", volume_id)) == {}
    assert node.run(mount_volume(volume_id)) == {}
    remove_shards(node, volume_id)


def remove_shards(node: Node, volume_id: int) -> None:
    for name in ("VolumeEcShardsUnmount", "VolumeEcShardsDelete"):
        assert node.run(rpc(name, volume_id, shard_ids=ALL_SHARDS)) == {}


def move(two: EcCluster, volume_id: int) -> None:
    """All shards, from the first server to the second."""
    first, second = two.nodes
    copy = rpc(
        "VolumeEcShardsCopy", volume_id, shard_ids=ALL_SHARDS, source_data_node=first.server.peer_address,
        copy_ecx_file=True, copy_ecj_file=True, copy_vif_file=True,
    )  # fmt: skip
    assert second.run(copy) == {}
    assert second.run(rpc("VolumeEcShardsMount", volume_id, shard_ids=ALL_SHARDS)) == {}
    remove_shards(first, volume_id)
    wait_for_shards(two.master, volume_id, {shard: {second.server.address} for shard in ALL_SHARDS})


def received_during(node: Node, volume_id: int, happens: Callable[[], object], head: str = "") -> bytes:
    """The body of a download that has begun when something happens, and goes on afterwards."""
    with connect(node.server.address) as (client,):
        client.ask("GET", fid(volume_id), *([head] if head else []))
        assert client.receive_head().startswith(b"HTTP/1.1 20")
        body = bytearray(client.socket.recv(1000))
        happens()
        while len(body) < len(OBJECT) and (piece := client.socket.recv(1 << 20)):
            body += piece
    return bytes(body)


def test_of_a_volume_that_is_vacuumed(node: Node) -> None:
    garbage = f"6,2{COOKIE}"
    node.run(allocate(6))
    assert node.run(Put(garbage, OBJECT[:1000])) == 201
    assert node.run(Put(fid(6), OBJECT)) == 201
    assert delete(node.server.address, garbage).status == 202

    def vacuum() -> None:
        list(node.stub.VacuumVolumeCompact(pb.VacuumVolumeCompactRequest(volume_id=6), timeout=RPC_TIMEOUT_S))
        assert "error" not in node.run(rpc("VacuumVolumeCommit", 6))

    assert received_during(node, 6, vacuum) == OBJECT


@pytest.mark.parametrize("head", ["", f"Range: bytes=0-{len(OBJECT) - 1}"], ids=["whole", "range"])
def test_of_a_volume_that_is_encoded(node: Node, head: str) -> None:
    volume_id = 1 if head else 2
    fill(node, volume_id)
    assert received_during(node, volume_id, lambda: encode(node, volume_id), head) == OBJECT


def test_of_shards_that_move(two: EcCluster, node: Node) -> None:
    fill(node, 3)
    encode(node, 3)
    assert received_during(node, 3, lambda: move(two, 3)) == OBJECT


def test_of_shards_that_are_decoded(node: Node) -> None:
    fill(node, 4)
    encode(node, 4)
    assert received_during(node, 4, lambda: decode(node, 4)) == OBJECT


def test_another_object_of_the_name_is_not_mixed_in(node: Node) -> None:
    """The download ends early."""
    fill(node, 5)
    encode(node, 5)

    def replace() -> None:
        decode(node, 5)
        assert node.run(rpc("VolumeMarkWritable", 5)) == {}
        assert node.run(Put(fid(5), OBJECT[::-1])) == 201

    received = received_during(node, 5, replace)
    assert len(received) < len(OBJECT)
    assert OBJECT.startswith(received)
