"""Servers and workers are killed at random moments while shards move between three servers as a shell moves them, and
clients read: no shard is gone, no object changes, and what was deleted between moves stays so.

``VOLUMED_KILL_SEED`` repeats a run, ``VOLUMED_KILL_ROUNDS`` makes it longer.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from pathlib import Path

import grpc
import pytest

from tests.cluster import Volumed
from tests.ec_cluster import ALL_SHARDS, EcCluster, EcVolume, Readers, started_cluster
from tests.grpc_kit import Node
from tests.kills import kill
from tests.processes import wait_until
from tests.web import delete
from volumed.wire import volume_server_pb2 as pb

pytestmark = [pytest.mark.probe, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("VOLUMED_KILL_ROUNDS", "2"))
LONGEST_WAIT_S = 0.2
LIMIT_S = 180.0


class Moves(threading.Thread):
    """Moves one shard after the other to another server; every step until it succeeds."""

    def __init__(self, cluster: EcCluster, volume: EcVolume, seed: int) -> None:
        super().__init__(daemon=True)
        self._nodes = cluster.nodes
        self._volume = volume
        self._fields = {"volume_id": volume.id, "collection": volume.collection}
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self.between = threading.Lock()
        """Held during a move: what is deleted meanwhile might stay behind in the journal of the source."""
        self.moved = 0

    def stop(self) -> None:
        self._stopping.set()
        self.join(LIMIT_S)
        assert not self.is_alive(), "a move does not end"

    def await_moves(self, count: int) -> None:
        goal = self.moved + count
        wait_until(lambda: self.moved >= goal, timeout_s=LIMIT_S, what="moves of shards")

    def run(self) -> None:
        while not self._stopping.is_set():
            with self.between:
                self._move(self._random.choice(sorted(ALL_SHARDS)))
                self.moved += 1
            time.sleep(0.01)

    def _move(self, shard: int) -> None:
        (source,) = [node for node in self._nodes if shard in self.shards_of(node)]
        target = self._random.choice([node for node in self._nodes if node is not source])
        while shard not in self.shards_of(target):
            with contextlib.suppress(grpc.RpcError):
                self._copy(source, target, shard)
        while shard in self.shards_of(source) or self._files(source, shard):
            with contextlib.suppress(grpc.RpcError):
                source.stub.VolumeEcShardsUnmount(
                    pb.VolumeEcShardsUnmountRequest(volume_id=self._volume.id, shard_ids=[shard])
                )
                source.stub.VolumeEcShardsDelete(pb.VolumeEcShardsDeleteRequest(shard_ids=[shard], **self._fields))

    def _copy(self, source: Node, target: Node, shard: int) -> None:
        copy = pb.VolumeEcShardsCopyRequest(
            shard_ids=[shard], source_data_node=source.server.peer_address, copy_ecx_file=True, copy_ecj_file=True,
            copy_vif_file=True, copy_ecsum_file=True, **self._fields,
        )  # fmt: skip
        target.stub.VolumeEcShardsCopy(copy, timeout=LIMIT_S)
        target.stub.VolumeEcShardsMount(pb.VolumeEcShardsMountRequest(shard_ids=[shard], **self._fields))

    def _files(self, node: Node, shard: int) -> list[Path]:
        name = f"{self._volume.collection}_{self._volume.id}.ec{shard:02}"
        return [path for directory in node.server.dirs for path in directory.glob(name)]

    def shards_of(self, node: Node) -> set[int]:
        """Mounted there; waits for a server that is down."""
        while True:
            try:
                info = node.stub.VolumeEcShardsInfo(
                    pb.VolumeEcShardsInfoRequest(volume_id=self._volume.id), timeout=LIMIT_S
                )
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.UNKNOWN and "not found" in (error.details() or ""):
                    return set()
                time.sleep(0.02)
            else:
                return {found.shard_id for found in info.ec_shard_infos}


def await_right(cluster: EcCluster, volume: EcVolume) -> None:
    """Servers that did not answer are left alone for some seconds, and so is what they know of deletions."""
    wait_until(lambda: not cluster.differences(volume), timeout_s=LIMIT_S, what="every object as it must be")


def test_kills_while_shards_move(tmp_path: Path) -> None:
    seed = int(os.environ.get("VOLUMED_KILL_SEED", "0")) or random.randrange(1, 1 << 32)
    choice = random.Random(seed)
    with started_cluster(tmp_path, [Volumed] * 3) as cluster:
        volume = cluster.fill(cluster.nodes[0])
        cluster.encode(volume)
        moves = Moves(cluster, volume, seed)
        moves.start()
        for number in range(KILLS):
            with Readers(volume, cluster.servers) as readers:
                moves.await_moves(choice.randrange(1, 4))
                time.sleep(choice.uniform(0, LONGEST_WAIT_S))
                victim = choice.choice(cluster.servers)
                assert isinstance(victim, Volumed)
                kill(victim, "worker" if number % 2 else "everything", choice)
                moves.await_moves(1)
            # A server that is down cannot read. Nor can it tell what is deleted: others compute such objects meanwhile.
            live = [wrong for wrong in readers.wrong if volume.objects[wrong.fid] is not None]
            assert not [wrong for wrong in live if wrong.status in (200, 404)], (
                f"seed {seed}, kill {number}: {live[:3]}"
            )
            with moves.between:
                held = [shard for node in cluster.nodes for shard in moves.shards_of(node)]
                assert sorted(held) == sorted(ALL_SHARDS), f"seed {seed}, after kill {number}"
                cluster.await_all_shards(volume)
                await_right(cluster, volume)
                fid = choice.choice([fid for fid, digest in volume.objects.items() if digest is not None])
                assert delete(choice.choice(cluster.servers).address, fid).status == 202
                volume.objects[fid] = None
                await_right(cluster, volume)
        moves.stop()
        await_right(cluster, volume)
