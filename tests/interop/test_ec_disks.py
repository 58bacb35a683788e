"""A node with all shards of a volume on four disks: bytes of shards flip, and a disk is lost; every object stays what
it is, and what was lost or damaged is rebuilt."""

from __future__ import annotations

import os
import random
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.cluster import Master, Volumed
from tests.ec_cluster import ALL_SHARDS, EcVolume
from tests.grpc_kit import Call, Node, allocate
from tests.processes import wait_until
from tests.web import delete, get, get_json
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

DISKS = [(0, 1, 2, 3), (4, 5, 6), (7, 8, 9, 10), (11, 12, 13)]
SIZES = (0, 1, 300, 5_000, 200_000, 1_300_000, 4_000_000, 3_000, 90_000, 700_000)
LIMIT_S = 60.0
CHECKSUM = 4
SAMPLES = 2
"""Positions in each shard."""


class Disks:
    """The node and its volume."""

    def __init__(self, node: Node, volume: EcVolume) -> None:
        self.node = node
        self.volume = volume
        self.fields = {"volume_id": volume.id, "collection": volume.collection}

    def path(self, shard: int) -> Path:
        """Of a shard, on whichever disk it is."""
        name = f"{self.volume.collection}_{self.volume.id}.ec{shard:02}"
        (path,) = [directory / name for directory in self.node.server.dirs if (directory / name).exists()]
        return path

    def wrong(self) -> dict[str, int]:
        """Status of the objects that are not right."""
        answers = {fid: get(self.node.server.address, f"/{fid}") for fid in self.volume.objects}
        return {fid: answer.status for fid, answer in answers.items() if not self.volume.is_right(fid, answer)}

    def delete(self, key: int) -> None:
        fid = self.volume.fid(key)
        assert delete(self.node.server.address, fid).status == 202
        self.volume.objects[fid] = None

    def ask(self, rpc: str, request: Any) -> Any:
        """The answer of the node. One whose disk has failed opens that again now and then, and until that has failed,
        too, it cannot say what is there."""
        answers = []

        def is_answered() -> bool:
            try:
                answers.append(getattr(self.node.stub, rpc)(request, timeout=LIMIT_S))
            except grpc.RpcError as error:
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
            return bool(answers)

        wait_until(is_answered, timeout_s=LIMIT_S, what=f"an answer to {rpc}")
        return answers[0]

    def rebuild(self) -> list[int]:
        answer = self.ask("VolumeEcShardsRebuild", pb.VolumeEcShardsRebuildRequest(**self.fields))
        return sorted(answer.rebuilt_shard_ids)

    def scrub(self) -> tuple[list[str], list[int]]:
        """Findings, and the shards that are broken."""
        found = self.ask("ScrubEcVolume", pb.ScrubEcVolumeRequest(mode=CHECKSUM, volume_ids=[self.volume.id]))
        return list(found.details), [broken.shard_id for broken in found.broken_shard_infos]

    def mounted(self) -> set[int]:
        """Ids of the shards that are served."""
        info = self.ask("VolumeEcShardsInfo", pb.VolumeEcShardsInfoRequest(volume_id=self.volume.id))
        return {shard.shard_id for shard in info.ec_shard_infos}


def spread(node: Node, volume: EcVolume) -> None:
    """Move files between the disks of a node that does not run. The index stays where it is: the node brings it to the
    others when it starts."""
    (first,) = [directory for directory in node.server.dirs if list(directory.glob("*.ecx"))]
    for directory, shards in zip(node.server.dirs, DISKS, strict=True):
        for shard in shards:
            name = f"{volume.collection}_{volume.id}.ec{shard:02}"
            (first / name).rename(directory / name)


@pytest.fixture(scope="module")
def disks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Disks]:
    """All shards are mounted."""
    tmp_path: Path = tmp_path_factory.mktemp("disks")
    dirs = [tmp_path / f"disk{number}" for number in range(len(DISKS))]
    with (
        Master(tmp_path / "m") as master,
        Volumed(tmp_path / "n", master=master, dirs=dirs) as server,
        Node(server) as node,
    ):
        volume = EcVolume(1)
        assert node.run(allocate(volume.id, collection=volume.collection, replication="000")) == {}
        source = random.Random(4)
        for key, size in enumerate(SIZES, start=1):
            volume.add(server, key, source.randbytes(size), key % 3)
        volume.delete(server, 8)
        found = Disks(node, volume)
        for rpc, request in (
            ("VolumeMarkReadonly", pb.VolumeMarkReadonlyRequest(volume_id=volume.id)),
            ("VolumeEcShardsGenerate", pb.VolumeEcShardsGenerateRequest(**found.fields)),
            ("VolumeDelete", pb.VolumeDeleteRequest(volume_id=volume.id)),
        ):
            assert node.run(Call(rpc, request)) == {}
        server.stop()
        spread(node, volume)
        server.start()
        assert found.mounted() == ALL_SHARDS
        yield found


def test_bytes_flip(disks: Disks) -> None:
    """One at a time, anywhere in any shard: no object changes, a scrub names the shard, a rebuild repairs it."""
    choice = random.Random(14)
    assert disks.scrub() == ([], [])
    for shard in sorted(ALL_SHARDS):
        before = disks.path(shard).read_bytes()
        for _ in range(SAMPLES):
            at = choice.randrange(len(before))
            with open(disks.path(shard), "r+b") as file:
                file.seek(at)
                file.write(bytes([before[at] ^ 1 << choice.randrange(8)]))
            assert disks.wrong() == {}, (shard, at)
        text = f"ec volume {disks.volume.id} shard {shard}: checksum mismatch at block 0 (offset 0)"
        assert disks.scrub() == ([text], [shard])
        assert disks.rebuild() == [shard]
        assert disks.path(shard).read_bytes() == before
        assert disks.scrub() == ([], [])
    assert disks.wrong() == {}
    assert disks.mounted() == ALL_SHARDS


def lose_disk(server: Volumed, number: int) -> None:
    """Its directory becomes a file, and its worker, which has files of it open, has to start anew."""
    directory = server.dirs[number]
    directory.rename(directory.with_suffix(".gone"))
    directory.write_bytes(b"not a directory")
    started = re.findall(rf"worker of disk {number} .* started, pid (\d+)", server.log_path.read_text())
    os.kill(int(started[-1]), signal.SIGKILL)

    def told() -> bool:
        return bool(get_json(server.address, "/status")["DiskStatuses"][number].get("error"))

    wait_until(told, timeout_s=LIMIT_S, what="the loss of a disk in the status")


def test_a_disk_is_lost(disks: Disks) -> None:
    """With four data shards: what is left is just enough."""
    server = disks.node.server
    assert disks.wrong() == {}
    disks.delete(2)
    before = {shard: disks.path(shard).read_bytes() for shard in DISKS[0]}
    lose_disk(server, 0)
    assert disks.wrong() == {}
    disks.delete(3)
    assert disks.wrong() == {}
    assert disks.rebuild() == list(DISKS[0])
    disks.ask("VolumeEcShardsMount", pb.VolumeEcShardsMountRequest(shard_ids=DISKS[0], **disks.fields))
    assert disks.mounted() == ALL_SHARDS
    assert {shard: disks.path(shard).read_bytes() for shard in DISKS[0]} == before
    assert disks.wrong() == {}
    assert disks.scrub() == ([], [])
    server.stop()
    server.start()
    assert disks.wrong() == {}
