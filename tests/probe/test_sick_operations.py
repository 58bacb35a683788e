"""Rebuilds and decodes of shards on sectors that the disk cannot read: they do without, or fail and leave nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ec_files_kit import ALL_SHARDS, EcFiles, mount, unmount
from tests.grpc_kit import Call, Node
from tests.sick_kit import SickNode
from tests.web import delete
from volumed.erasure.names import INDEX, SIDECAR, shard_extension
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.probe

SICK = range(2, 6)
"""With another one that is lost, too many to do without."""
IDS = itertools.count(2)
START, END = 1 << 20, (1 << 20) + 10_000
"""In the middle."""


class Rig:
    """A volume on a node, and what that is asked to do."""

    def __init__(self, files: EcFiles, server: SickNode, node: Node) -> None:
        self.files = files
        self.server = server
        self.id = files.id
        self._node = node

    def spoil(self, *shards: int) -> None:
        self.server.spoil(*(self.server.shard_path(self.files, shard) for shard in shards), start=START, end=END)

    def lose(self, shard: int) -> None:
        unmount(self._node, self.id, [shard])
        request = pb.VolumeEcShardsDeleteRequest(volume_id=self.id, shard_ids=[shard])
        assert self._node.run(Call("VolumeEcShardsDelete", request)) == {}

    def rebuild(self) -> Any:
        """Ids of what was made, or code and text of the error."""
        answer = self._node.run(Call("VolumeEcShardsRebuild", pb.VolumeEcShardsRebuildRequest(volume_id=self.id)))
        return answer.get("rebuiltShardIds", []) if isinstance(answer, dict) else answer

    def decode(self) -> Any:
        request = pb.VolumeEcShardsToVolumeRequest(volume_id=self.id)
        return self._node.run(Call("VolumeEcShardsToVolume", request))

    def info(self) -> Any:
        return self._node.run(Call("VolumeEcShardsInfo", pb.VolumeEcShardsInfoRequest(volume_id=self.id)))

    def mount(self, *shards: int) -> None:
        mount(self._node, self.id, shards)

    def mount_volume(self) -> None:
        assert self._node.run(Call("VolumeMount", pb.VolumeMountRequest(volume_id=self.id))) == {}

    def teardown(self) -> None:
        """Leave no shards."""
        unmount(self._node, self.id, ALL_SHARDS)
        request = pb.VolumeEcShardsDeleteRequest(volume_id=self.id, shard_ids=ALL_SHARDS)
        assert self._node.run(Call("VolumeEcShardsDelete", request)) == {}

    def names(self) -> set[str]:
        """Of all files of the volume."""
        return {path.name for directory in self.server.dirs for path in directory.glob(f"{self.id}.*")}

    def shard(self, shard: int) -> Path:
        """Wherever it is."""
        (path,) = (found for item in self.server.dirs for found in item.glob(f"{self.id}{shard_extension(shard)}"))
        return path

    def require_shards(self) -> None:
        """All of them are there, and what they were."""
        for shard in ALL_SHARDS:
            assert self.shard(shard).read_bytes() == self.files.path(shard_extension(shard)).read_bytes(), shard


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SickNode, Node]]:
    home = tmp_path_factory.mktemp("node")
    with SickNode(home / "node", dirs=[home / f"d{disk}" for disk in range(3)]) as server, Node(server) as node:
        yield server, node


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> EcFiles:
    return EcFiles(1, tmp_path_factory.mktemp("made") / "data").make(24)


@pytest.fixture
def rig(started: tuple[SickNode, Node], made: EcFiles, tmp_path: Path) -> Iterator[Rig]:
    """Each on a volume of its own."""
    server, node = started
    files = made.copied(next(IDS), tmp_path)
    server.lay(files)
    mount(node, files.id)
    yield Rig(files, server, node)
    server.heal()


def sidecar(rig: Rig) -> Path:
    return rig.files.path(SIDECAR, rig.server.dirs[0])


def test_a_rebuild_makes_sick_shards_anew(rig: Rig) -> None:
    """Checksums prove that what replaces them is right."""
    rig.spoil(2)
    rig.lose(13)
    sick = rig.server.shard_path(rig.files, 2)
    inode = sick.stat().st_ino
    assert rig.rebuild() == [13, 2]
    assert sick.stat().st_ino != inode
    rig.require_shards()
    rig.mount(13)
    rig.server.spoil(*(rig.server.shard_path(rig.files, shard) for shard in range(8, 12)))
    assert not rig.files.wrong_at(rig.server), "both are used: ten are left"
    assert f"{sick} was replaced: input/output error" in rig.server.log_path.read_text()


def test_a_rebuild_without_checksums_takes_other_sources(rig: Rig) -> None:
    """What cannot be read stays: nobody can prove that it is replaced by the same."""
    sidecar(rig).unlink()
    rig.spoil(2, 3)
    rig.lose(13)
    before = rig.names()
    inode = rig.server.shard_path(rig.files, 2).stat().st_ino
    assert rig.rebuild() == [13]
    assert rig.names() == before | {f"{rig.id}.ec13"}
    assert rig.server.shard_path(rig.files, 2).stat().st_ino == inode
    rig.require_shards()
    log = rig.server.log_path.read_text()
    for shard in (2, 3):
        path = rig.server.shard_path(rig.files, shard)
        assert f"cannot read {path}: input/output error; shards are rebuilt without it" in log
    assert "no checksums beside the shards: cannot read" in log


@pytest.mark.parametrize("has_checksums", [True, False], ids=["checksums", "no checksums"])
def test_a_rebuild_with_too_few_readable_shards_leaves_nothing(rig: Rig, has_checksums: bool) -> None:
    if not has_checksums:
        sidecar(rig).unlink()
    rig.lose(13)
    rig.spoil(*SICK)
    before = rig.names()
    code, text = rig.rebuild()
    base = f"{rig.server.dirs[0]}/{rig.id}"
    assert code == "UNKNOWN"
    if has_checksums:
        assert text.startswith(f"RebuildEcFiles {base}: bitrot: only 9 verified-good shards for {base}, need 10")
    else:
        paths = [rig.server.shard_path(rig.files, shard) for shard in SICK]
        assert text in {f"RebuildEcFiles {base}: rebuild: {path}: input/output error" for path in paths}
    assert rig.names() == before
    rig.server.heal()
    assert rig.rebuild() == [13]
    rig.require_shards()


def test_a_decode_of_a_sick_data_shard(rig: Rig) -> None:
    """It names the shard, and can be done once that is made anew."""
    rig.spoil(2)
    before = rig.names()
    code, text = rig.decode()
    path = rig.server.shard_path(rig.files, 2)
    assert code == "UNKNOWN"
    assert text.startswith(f"decode volume {rig.id}: {path} to ")
    assert text.endswith(": input/output error")
    assert rig.names() == before
    assert not rig.files.wrong_at(rig.server)
    assert rig.rebuild() == [2]
    assert rig.decode() == {}
    rig.mount_volume()
    rig.teardown()
    assert not rig.files.wrong_at(rig.server), "read from the volume"


def test_an_index_that_cannot_be_read(rig: Rig) -> None:
    """Other disks have it too. What needs that of this disk fails, and says so."""
    path = rig.files.path(INDEX, rig.server.dirs[0])
    rig.server.spoil(path)
    assert not rig.files.wrong_at(rig.server)
    before = rig.names()
    reason = f"{path}: input/output error"
    assert rig.info() == ("UNKNOWN", f"count what ec volume {rig.id} has: {reason}")
    assert rig.decode() == ("UNKNOWN", f"decode volume {rig.id}: {reason}")
    assert delete(rig.server.address, min(rig.files.objects)).status == 500, "not all disks have noted it"
    assert rig.names() == before
    rig.server.heal()
    assert rig.info()["fileCount"] == str(len(rig.files.objects))
    assert delete(rig.server.address, max(rig.files.objects)).status == 202
