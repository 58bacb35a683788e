"""Chunks of manifests: read where they are, deleted everywhere (http.md 3.8 and 5)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tests.node_kit import PATH, FakeAnswer, FakeNode, ask, needle, run
from volumed.bus.bodypool import BodyPool
from volumed.bus.calls import (
    DeleteAtServer,
    DeleteNeedles,
    DeletionResults,
    Location,
    Locations,
    LookupVolume,
    NeedleDeletion,
)
from volumed.config.node import NodeConfig
from volumed.erasure.errors import NoSuchEcNeedle
from volumed.errors import ClientError, NeedleDeleted, RetryError, VolumeNotFound
from volumed.formats.needle import FLAG_CHUNK_MANIFEST
from volumed.http.objects.chunk_deletes import delete_chunks
from volumed.http.rules.manifest import Chunk, ChunkManifest

HERE, REPLICATED, ELSEWHERE, IN_SHARDS, IN_BOTH = 1, 2, 3, 4, 5


@pytest.fixture
def node(tmp_path: Path) -> Iterator[FakeNode]:
    pool = BodyPool(str(tmp_path / "pool"), 16 << 20, 1 << 20)
    yield FakeNode(pool)
    pool.close()


def store_manifest(node: FakeNode, fid: str, size: int) -> None:
    raw = json.dumps({"chunks": [{"fid": fid, "size": size}]}).encode()
    node.put(needle(raw, flags=FLAG_CHUNK_MANIFEST))


def test_a_manifest_that_names_itself_ends(node: FakeNode) -> None:
    store_manifest(node, PATH[1:], 5)
    status, text = ask(node, "GET", PATH)
    assert (status, text) == (500, b"Read chunk needle error: too many manifests inside each other\n")


def test_only_the_id_of_a_chunk_goes_to_another_server(node: FakeNode) -> None:
    store_manifest(node, "9,01aabbccdd.txt\r\nEvil: x", 5)
    node.locations = [Location("other:80", "")]
    node.answers = {"other:80": FakeAnswer(200, b"12345")}
    assert ask(node, "GET", PATH) == (200, b"12345")
    assert [target for _, _, target, _, _ in node.sent] == [b"/9,01aabbccdd"]


def test_a_chunk_whose_volume_has_moved_from_here(node: FakeNode) -> None:
    store_manifest(node, "9,01aabbccdd", 5)
    node.named_long_ago = [Location("node:80", "")]
    node.locations = [Location("other:80", "")]
    node.answers = {"other:80": FakeAnswer(200, b"12345")}
    assert ask(node, "GET", PATH) == (200, b"12345")


class Cluster:
    """Volume 1 is here alone, 2 here and at two others, 3 at another. Shards of 4 are here, 5 is here beside its
    shards. Key 0xee can be deleted nowhere, 0xdd and 0xde are gone."""

    def __init__(self) -> None:
        self.config = NodeConfig(runtime_dir="", map_dir="", state_dir="", disks=(), ip="node", port=80)
        self.view = self.supervisor = self.shards = self
        self.calls: list[tuple[str, int]] = []

    def locate(self, volume_id: int) -> Any:
        placement = {HERE: 0, REPLICATED: 2, IN_BOTH: 0}.get(volume_id)
        return None if placement is None else SimpleNamespace(
            disk_id=volume_id, record=SimpleNamespace(replica_placement=placement)
        )

    def find(self, volume_id: int) -> Any:
        return f"shards {volume_id}" if volume_id in (IN_SHARDS, IN_BOTH) else None

    async def delete(self, volume: Any, key: int, cookie: int) -> int:
        assert cookie == 0
        self.calls.append((volume, 1))
        if error := {0xEE: RetryError("stuck"), 0xDD: NeedleDeleted(), 0xDE: NoSuchEcNeedle()}.get(key):
            raise error
        return 96

    def link(self, disk_id: int) -> Any:
        return SimpleNamespace(call=lambda request, _timeout_s: self._deleted(f"disk {disk_id}", request))

    async def _deleted(self, where: str, request: DeleteNeedles) -> DeletionResults:
        self.calls.append((where, len(request.needles)))
        return DeletionResults([NeedleDeletion(500 if one.key == 0xEE else 202, "stuck") for one in request.needles])

    async def call(self, request: Any, _timeout_s: float) -> Any:
        if isinstance(request, LookupVolume):
            names = {REPLICATED: ["node:80", "a:80", "b:80"], ELSEWHERE: ["b:80"]}.get(request.volume_id)
            if names is None:
                raise VolumeNotFound("nobody has it")
            return Locations([Location(name, "", 18080) for name in names])
        assert isinstance(request, DeleteAtServer)
        assert request.grpc_port == 18080
        self.calls.append((request.url, len(request.file_ids)))
        statuses = [404 if "dead" in fid else 202 for fid in request.file_ids]
        return DeletionResults([NeedleDeletion(status, "gone") for status in statuses])


def delete(cluster: Cluster, *fids: str) -> str:
    """The error, empty for success."""
    manifest = ChunkManifest("", "", 0, tuple(Chunk(fid) for fid in fids))
    texts: list[str] = []

    async def test() -> None:
        try:
            await delete_chunks(cluster, manifest)  # type: ignore[arg-type]
        except ClientError as error:
            texts.append(error.text)

    run(test())
    return "".join(texts)


def test_chunks_are_deleted_in_one_call_per_volume_and_server() -> None:
    cluster = Cluster()
    assert delete(cluster, "1,01aabbccdd", "2,01aabbccdd", "3,01aabbccdd", "1,02aabbccdd", "3,02aabbdead") == ""
    assert sorted(cluster.calls) == [("a:80", 1), ("b:80", 1), ("b:80", 2), ("disk 1", 2), ("disk 2", 1)]


def test_chunks_in_shards_are_deleted_there() -> None:
    """Also those that are in a volume beside them, which may have been encoded, or decoded, just now."""
    cluster = Cluster()
    assert delete(cluster, "4,01aabbccdd", "4,ddaabbccdd", "4,deaabbccdd", "5,01aabbccdd") == ""
    assert sorted(cluster.calls) == [("disk 5", 1), *[("shards 4", 1)] * 3, ("shards 5", 1)]


def test_a_worker_is_not_held_up_by_one_file() -> None:
    cluster = Cluster()
    assert delete(cluster, *[f"1,{key:x}aabbccdd" for key in range(0x1000, 0x1000 + 2500)]) == ""
    assert cluster.calls == [("disk 1", 1000), ("disk 1", 1000), ("disk 1", 500)]


@pytest.mark.parametrize(
    ("fids", "text"),
    [
        (["1,01aabbccdd", "1,eeaabbccdd"], "1,eeaabbccdd: stuck"),
        (["4,eeaabbccdd", "4,01aabbccdd"], "4,eeaabbccdd: stuck"),
        (["4,zz"], "4,zz: KeyHash is too short."),
        (["1,zz", "1,01aabbccdd"], "1,zz: KeyHash is too short."),
        (["1,01aabbccdd_1"], '1,01aabbccdd_1: Parse cookie error: needle cookie bbccdd_1 format error: '
         'strconv.ParseUint: parsing "bbccdd_1": invalid syntax'),
        (["x,01aabbccdd"], "x,01aabbccdd: unknown volume id x"),
        (["9,01aabbccdd"], "9,01aabbccdd: volume id 9 not found"),
        (["nothing"], "nothing: Wrong fid format."),
        (["9,01aabbccdd", "nothing"], "9,01aabbccdd: volume id 9 not found"),
    ],
)  # fmt: skip
def test_the_first_chunk_that_stays_is_named(fids: list[str], text: str) -> None:
    assert delete(Cluster(), *fids) == f"Delete chunks error: chunk delete {text}"
