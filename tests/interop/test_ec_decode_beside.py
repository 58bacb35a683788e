"""Decodes where a volume of the id has taken something since the encode: what was acknowledged last is what clients get
afterwards (docs/spec/erasure-coding.md R10)."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Master, Volumed
from tests.grpc_kit import Node, Put, allocate, rpc
from tests.grpc_kit import mount as mount_volume
from tests.web import get, request

pytestmark = pytest.mark.interop

COOKIE = "c0ffee11"
OLD, NEW = b"A" * 1000, b"B" * 1000


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    home = tmp_path_factory.mktemp("beside")
    dirs = [home / "d0", home / "d1"]
    with Master(home / "m") as master, Volumed(home / "v", master=master, dirs=dirs) as server, Node(server) as node:
        yield node


def encode(ours: Node, volume_id: int) -> None:
    """A volume with needles 1 to 3, and its shards, mounted both."""
    for step in [allocate(volume_id), *(Put(fid(volume_id, key), OLD) for key in (1, 2, 3))]:
        ours.run(step)
    assert ours.run(rpc("VolumeEcShardsGenerate", volume_id)) == {}
    assert ours.run(rpc("VolumeEcShardsMount", volume_id, shard_ids=range(14))) == {}


def decode(ours: Node, volume_id: int) -> None:
    assert ours.run(rpc("VolumeEcShardsToVolume", volume_id)) == {}


def fid(volume_id: int, key: int) -> str:
    return f"{volume_id},{key:x}{COOKIE}"


def delete(ours: Node, volume_id: int, key: int) -> int:
    return request("DELETE", ours.server.address, f"/{fid(volume_id, key)}").status


def contents(ours: Node, volume_id: int) -> list[bytes | None]:
    """Of needles 1 to 3; None: 404."""
    answers = [get(ours.server.address, f"/{fid(volume_id, key)}") for key in (1, 2, 3)]
    assert {answer.status for answer in answers} <= {200, 404}
    return [answer.body if answer.status == 200 else None for answer in answers]


def test_an_overwrite_of_the_same_size_beside_the_shards(ours: Node) -> None:
    encode(ours, 1)
    assert ours.run(Put(fid(1, 1), NEW)) == 201
    decode(ours, 1)
    assert contents(ours, 1) == [NEW, OLD, OLD]


def test_an_overwrite_of_the_same_size_between_two_decodes(ours: Node) -> None:
    """An `ec.decode` that did not come to its end is repeated."""
    encode(ours, 2)
    ours.run(rpc("VolumeDelete", 2))
    decode(ours, 2)
    assert ours.run(mount_volume(2)) == {}
    assert ours.run(Put(fid(2, 1), NEW)) == 201
    decode(ours, 2)
    assert contents(ours, 2) == [NEW, OLD, OLD]
    assert int(ours.run(rpc("VolumeStatus", 2))["fileCount"]) == 3


@pytest.mark.parametrize("data", [NEW, b"another size"], ids=["same-size", "other-size"])
def test_a_needle_that_is_deleted_and_comes_again(ours: Node, data: bytes) -> None:
    """What is only deleted stays so, also after a second decode, which knows the deletions by the index alone."""
    volume_id = 3 if data == NEW else 4
    encode(ours, volume_id)
    assert [delete(ours, volume_id, key) for key in (1, 2)] == [202, 202]
    assert ours.run(Put(fid(volume_id, 1), data)) == 201
    for _ in range(2):
        decode(ours, volume_id)
        assert contents(ours, volume_id) == [data, None, OLD]


def test_another_volume_of_the_id(ours: Node) -> None:
    """Its first record lies where that of the volume lay that was encoded."""
    encode(ours, 5)
    ours.run(rpc("VolumeDelete", 5))
    ours.run(allocate(5))
    assert ours.run(Put(fid(5, 1), NEW)) == 201
    decode(ours, 5)
    assert contents(ours, 5) == [NEW, OLD, OLD]
