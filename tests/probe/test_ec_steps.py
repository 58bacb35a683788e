"""The worker is killed at named steps of encodes, rebuilds, folds and decodes: no needle is lost, none comes back."""

from __future__ import annotations

import contextlib
import itertools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.grpc_kit import RPC_TIMEOUT_S, Node
from tests.kill_kit import MortalNode
from tests.probe.fakes.fate import AFTER, BEFORE, HALFWAY
from tests.processes import wait_until
from tests.web import delete, get, upload
from volumed.wire import volume_server_pb2 as pb

pytestmark = [pytest.mark.probe, pytest.mark.timeout(300)]

LIMIT_S = 60.0
COOKIE = "c0ffee11"
CONTENTS = {key: bytes([key]) * (key * 30_000) for key in range(1, 9)}
DELETED_BEFORE, DELETED_AFTER = 2, 5
SHARDS = range(3)
LEFTOVERS = (".encoding", ".rebuilding", ".decoding", ".cpc", ".cpd", ".cpx", ".tmp")
IDS = itertools.count(1)

ENCODING = [
    ("create:.ecx.encoding", BEFORE), ("write:.ecx.encoding", HALFWAY), ("write:.ec01.encoding", HALFWAY),
    ("flush:.ec02.encoding", BEFORE), ("rename:.ec00.encoding", BEFORE), ("rename:.ec00.encoding", AFTER),
    ("rename:.ec02.encoding", AFTER), ("rename:.ecsum.encoding", BEFORE), ("rename:.vif.tmp.volumed", BEFORE),
    ("rename:.vif.tmp.volumed", AFTER), ("rename:.ecx.encoding", AFTER),
]  # fmt: skip
REBUILDING = [
    ("write:.ec00.rebuilding", HALFWAY), ("flush:.ec00.rebuilding", BEFORE), ("rename:.ec00.rebuilding", BEFORE),
    ("rename:.ec00.rebuilding", AFTER),
]  # fmt: skip
FOLDING = [("write:.ecx", HALFWAY), ("flush:.ecx", BEFORE), ("truncate:.ecj", BEFORE), ("truncate:.ecj", AFTER)]
DECODING = [
    ("copy:.dat.decoding", HALFWAY), ("create:.idx.decoding", BEFORE), ("write:.cpd", HALFWAY), ("write:.cpx", HALFWAY),
    ("remove:.dat.decoding", BEFORE), ("create:.cpc", BEFORE), ("flush:.cpc", AFTER), ("rename:.cpd", AFTER),
    ("rename:.cpx", AFTER), ("remove:.cpc", AFTER), ("remove:.ecsum", BEFORE),
]  # fmt: skip


def names(deaths: list[tuple[str, str]]) -> list[str]:
    return [f"{moment}-{step}" for step, moment in deaths]


class Scene:
    """A volume of its own, that becomes 2+1 shards."""

    def __init__(self, node: MortalNode, calls: Node) -> None:
        self.volume_id = next(IDS)
        self._node = node
        self._calls = calls
        self.deleted = {DELETED_BEFORE}
        self.call("AllocateVolume", version=3)
        for key, content in CONTENTS.items():
            assert upload(node.address, self.fid(key), content).status == 201
        assert delete(node.address, self.fid(DELETED_BEFORE)).status == 202
        self.call("VolumeUnmount")
        vif = json.loads(self.path(".vif").read_bytes())
        self.path(".vif").write_text(json.dumps(vif | {"ecShardConfig": {"dataShards": 2, "parityShards": 1}}))
        self.call("VolumeMount")

    def fid(self, key: int) -> str:
        return f"{self.volume_id},{key:x}{COOKIE}"

    def call(self, name: str, **fields: Any) -> Any:
        message = getattr(pb, f"{name}Request")(volume_id=self.volume_id, **fields)
        return getattr(self._calls.stub, name)(message, timeout=RPC_TIMEOUT_S)

    def path(self, extension: str) -> Path:
        return self._node.dirs[0] / f"{self.volume_id}{extension}"

    def become_shards(self) -> None:
        """They are the last copy then."""
        self.call("VolumeEcShardsGenerate")
        self.call("VolumeUnmount")
        for extension in (".dat", ".idx"):
            self.path(extension).unlink()
        self.call("VolumeEcShardsMount", shard_ids=SHARDS)

    def delete_one(self) -> None:
        assert delete(self._node.address, self.fid(DELETED_AFTER)).status == 202
        self.deleted.add(DELETED_AFTER)

    def check(self) -> None:
        """All needles are as they must be, and nothing lies around."""
        wait_until(self._is_served, timeout_s=LIMIT_S, what="a needle")
        for key, content in CONTENTS.items():
            answer = get(self._node.address, f"/{self.fid(key)}")
            assert answer.status == (404 if key in self.deleted else 200), f"needle {key}"
            assert key in self.deleted or answer.body == content
        found = [path.name for path in self._node.dirs[0].glob(f"{self.volume_id}.*")]
        assert not [name for name in found if name.endswith(LEFTOVERS)]

    def _is_served(self) -> bool:
        return get(self._node.address, f"/{self.fid(1)}").status == 200


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MortalNode]:
    with MortalNode(tmp_path_factory.mktemp("mortal"), volumes_max=100) as node:
        yield node


@pytest.fixture(scope="module")
def calls(node: MortalNode) -> Iterator[Node]:
    with Node(node) as calls:
        yield calls


@pytest.fixture
def scene(node: MortalNode, calls: Node) -> Scene:
    return Scene(node, calls)


@pytest.mark.parametrize(("step", "moment"), ENCODING, ids=names(ENCODING))
def test_encode(node: MortalNode, scene: Scene, step: str, moment: str) -> None:
    with node.dying_at([step], moment), contextlib.suppress(grpc.RpcError):
        scene.call("VolumeEcShardsGenerate")
    scene.check()
    if (step, moment) != ENCODING[-1]:
        scene.call("VolumeEcShardsGenerate")
        scene.check()
    assert scene.path(".ecx").exists()


@pytest.mark.parametrize(("step", "moment"), REBUILDING, ids=names(REBUILDING))
def test_rebuild(node: MortalNode, scene: Scene, step: str, moment: str) -> None:
    scene.become_shards()
    before = scene.path(".ec00").read_bytes()
    scene.call("VolumeEcShardsUnmount", shard_ids=[0])
    scene.path(".ec00").unlink()
    with node.dying_at([step], moment), contextlib.suppress(grpc.RpcError):
        scene.call("VolumeEcShardsRebuild")
    scene.check()
    scene.call("VolumeEcShardsRebuild")
    assert scene.path(".ec00").read_bytes() == before
    scene.check()


@pytest.mark.parametrize(("step", "moment"), FOLDING, ids=names(FOLDING))
def test_fold(node: MortalNode, scene: Scene, step: str, moment: str) -> None:
    scene.become_shards()
    scene.delete_one()
    with node.dying_at([step], moment), contextlib.suppress(grpc.RpcError):
        scene.call("VolumeEcShardsRebuild")
    scene.check()
    scene.call("VolumeEcShardsRebuild")
    assert not scene.path(".ecj").stat().st_size
    scene.check()


@pytest.mark.parametrize(("step", "moment"), DECODING, ids=names(DECODING))
def test_decode(node: MortalNode, scene: Scene, step: str, moment: str) -> None:
    scene.become_shards()
    scene.delete_one()
    with node.dying_at([step], moment), contextlib.suppress(grpc.RpcError):
        scene.call("VolumeEcShardsToVolume")
    scene.check()
    scene.call("VolumeEcShardsToVolume")
    scene.call("VolumeMount")
    scene.check()
    scene.call("VolumeEcShardsUnmount", shard_ids=SHARDS)
    scene.call("VolumeEcShardsDelete", full_teardown=True)
    scene.check()
