"""Downloads of long objects that go on while their volume is vacuumed, encoded, moved in shards and decoded."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import NamedTuple

import pytest

from tests.cluster import Master, Volumed
from tests.ec_files_kit import ALL_SHARDS, wait_for_shards
from tests.grpc_kit import RPC_TIMEOUT_S, Node, Put, allocate, readonly, rpc
from tests.grpc_kit import mount as mount_volume
from tests.shell_kit import TRUST
from tests.slow_clients import connect
from tests.web import delete
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

FLAGS = [*TRUST, "-idleTimeout=0"]
"""Clients stand still while something happens."""
OBJECT = random.Random(1).randbytes(24 << 20)
"""More than sockets and fronts hold."""
COOKIE = "c0ffee11"


class Two(NamedTuple):
    """Servers of one cluster."""

    master: Master
    first: Node
    second: Node


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Two]:
    home = tmp_path_factory.mktemp("downloads")
    with (
        Master(home / "m") as master,
        Volumed(home / "v0", master=master, dirs=[home / "d0", home / "d1"], flags=FLAGS) as first,
        Volumed(home / "v1", master=master, flags=FLAGS) as second,
        Node(first) as ours,
        Node(second) as other,
    ):
        yield Two(master, ours, other)


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


def move(two: Two, volume_id: int) -> None:
    """All shards, from the first server to the second."""
    copy = rpc(
        "VolumeEcShardsCopy", volume_id, shard_ids=ALL_SHARDS, source_data_node=two.first.server.peer_address,
        copy_ecx_file=True, copy_ecj_file=True, copy_vif_file=True,
    )  # fmt: skip
    assert two.second.run(copy) == {}
    assert two.second.run(rpc("VolumeEcShardsMount", volume_id, shard_ids=ALL_SHARDS)) == {}
    remove_shards(two.first, volume_id)
    wait_for_shards(two.master, volume_id, {shard: {two.second.server.address} for shard in ALL_SHARDS})


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


def test_of_a_volume_that_is_vacuumed(two: Two) -> None:
    garbage = f"6,2{COOKIE}"
    two.first.run(allocate(6))
    assert two.first.run(Put(garbage, OBJECT[:1000])) == 201
    assert two.first.run(Put(fid(6), OBJECT)) == 201
    assert delete(two.first.server.address, garbage).status == 202

    def vacuum() -> None:
        list(two.first.stub.VacuumVolumeCompact(pb.VacuumVolumeCompactRequest(volume_id=6), timeout=RPC_TIMEOUT_S))
        assert "error" not in two.first.run(rpc("VacuumVolumeCommit", 6))

    assert received_during(two.first, 6, vacuum) == OBJECT


@pytest.mark.parametrize("head", ["", f"Range: bytes=0-{len(OBJECT) - 1}"], ids=["whole", "range"])
def test_of_a_volume_that_is_encoded(two: Two, head: str) -> None:
    volume_id = 1 if head else 2
    fill(two.first, volume_id)
    assert received_during(two.first, volume_id, lambda: encode(two.first, volume_id), head) == OBJECT


def test_of_shards_that_move(two: Two) -> None:
    fill(two.first, 3)
    encode(two.first, 3)
    assert received_during(two.first, 3, lambda: move(two, 3)) == OBJECT


def test_of_shards_that_are_decoded(two: Two) -> None:
    fill(two.first, 4)
    encode(two.first, 4)
    assert received_during(two.first, 4, lambda: decode(two.first, 4)) == OBJECT


def test_another_object_of_the_name_is_not_mixed_in(two: Two) -> None:
    """The download ends early."""
    fill(two.first, 5)
    encode(two.first, 5)

    def replace() -> None:
        decode(two.first, 5)
        assert two.first.run(rpc("VolumeMarkWritable", 5)) == {}
        assert two.first.run(Put(fid(5), OBJECT[::-1])) == 201

    received = received_during(two.first, 5, replace)
    assert len(received) < len(OBJECT)
    assert OBJECT.startswith(received)
