"""Processes of a node are killed at random moments while its volume is encoded, loses shards, is rebuilt and decoded,
and clients read and delete: nothing is gone but what was deleted, and that does not come back.

``VOLUMED_KILL_SEED`` repeats a run, ``VOLUMED_KILL_ROUNDS`` makes it longer.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import grpc
import pytest

from tests.cluster import Volumed
from tests.ec_cluster import ALL_SHARDS
from tests.journal import ABSENT, Journal, fingerprint
from tests.kills import check, kill
from tests.processes import wait_until
from tests.web import delete, get, upload
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

pytestmark = [pytest.mark.probe, pytest.mark.timeout(600)]

KILLS = int(os.environ.get("VOLUMED_KILL_ROUNDS", "6"))
VICTIMS = ["worker", "everything", "worker", "grpc front"]
VOLUME = 7
OBJECTS = 120
SIZES = (0, 1, 100, 5_000, 70_000, 500_000)
LONGEST_WAIT_S = 0.4
LIMIT_S = 180.0
"""On a busy machine shards are computed slowly: by a process that everybody else goes before."""
SHARDS = sorted(ALL_SHARDS)


class Life(threading.Thread):
    """What a shell does with a volume, from encode to decode and again; every step until it succeeds."""

    def __init__(self, node: Volumed, seed: int) -> None:
        super().__init__(daemon=True)
        self._node = node
        self._random = random.Random(seed)
        self._stopping = threading.Event()
        self.steps = 0
        """Done so far."""
        self.is_one = threading.Lock()
        """Held while there are a volume and its shards: a deletion would be in one of them only."""

    def stop(self) -> None:
        self._stopping.set()
        self.join(LIMIT_S)
        assert not self.is_alive(), "a step does not end"

    def await_steps(self, count: int) -> None:
        goal = self.steps + count
        wait_until(lambda: self.steps >= goal, timeout_s=LIMIT_S, what="steps in the life of a volume")

    def run(self) -> None:
        while not self._stopping.is_set():
            with self.is_one:
                self._repeat(self._encode)
            self._repeat(partial(self._lose, self._random.sample(SHARDS, 4)))
            self._repeat(self._rebuild)
            with self.is_one:
                self._repeat(self._decode)
                self._repeat(self._clear)

    def _repeat(self, step: Callable[[VolumeServerStub], None]) -> None:
        deadline = time.monotonic() + LIMIT_S
        while time.monotonic() < deadline:
            with grpc.insecure_channel(self._node.grpc_address) as channel, contextlib.suppress(grpc.RpcError, Unready):
                step(VolumeServerStub(channel))
                self.steps += 1
                return
            time.sleep(0.05)
        raise AssertionError(f"{step} does not succeed")

    def _encode(self, stub: VolumeServerStub) -> None:
        with contextlib.suppress(grpc.RpcError):
            stub.VolumeMount(pb.VolumeMountRequest(volume_id=VOLUME))
        if mounted(stub) != ALL_SHARDS:
            stub.VolumeMarkReadonly(pb.VolumeMarkReadonlyRequest(volume_id=VOLUME))
            stub.VolumeEcShardsGenerate(pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME), timeout=LIMIT_S)
            stub.VolumeEcShardsMount(pb.VolumeEcShardsMountRequest(volume_id=VOLUME, shard_ids=SHARDS))
        require(mounted(stub) == ALL_SHARDS)
        stub.VolumeDelete(pb.VolumeDeleteRequest(volume_id=VOLUME))

    def _lose(self, lost: list[int], stub: VolumeServerStub) -> None:
        stub.VolumeEcShardsUnmount(pb.VolumeEcShardsUnmountRequest(volume_id=VOLUME, shard_ids=lost))
        stub.VolumeEcShardsDelete(pb.VolumeEcShardsDeleteRequest(volume_id=VOLUME, shard_ids=lost))

    def _rebuild(self, stub: VolumeServerStub) -> None:
        stub.VolumeEcShardsRebuild(pb.VolumeEcShardsRebuildRequest(volume_id=VOLUME), timeout=LIMIT_S)
        stub.VolumeEcShardsMount(pb.VolumeEcShardsMountRequest(volume_id=VOLUME, shard_ids=SHARDS))
        require(mounted(stub) == ALL_SHARDS)

    def _decode(self, stub: VolumeServerStub) -> None:
        require(mounted(stub) == ALL_SHARDS)
        stub.VolumeEcShardsToVolume(pb.VolumeEcShardsToVolumeRequest(volume_id=VOLUME), timeout=LIMIT_S)
        stub.VolumeMount(pb.VolumeMountRequest(volume_id=VOLUME))
        stub.VolumeStatus(pb.VolumeStatusRequest(volume_id=VOLUME))

    def _clear(self, stub: VolumeServerStub) -> None:
        stub.VolumeEcShardsUnmount(pb.VolumeEcShardsUnmountRequest(volume_id=VOLUME, shard_ids=SHARDS))
        stub.VolumeEcShardsDelete(pb.VolumeEcShardsDeleteRequest(volume_id=VOLUME, shard_ids=SHARDS))
        with contextlib.suppress(grpc.RpcError):
            stub.VolumeMount(pb.VolumeMountRequest(volume_id=VOLUME))
        stub.VolumeStatus(pb.VolumeStatusRequest(volume_id=VOLUME))


class Unready(Exception):
    """The node is not as the step needs it, after a kill."""


def require(condition: bool) -> None:
    if not condition:
        raise Unready


def mounted(stub: VolumeServerStub) -> set[int]:
    try:
        info = stub.VolumeEcShardsInfo(pb.VolumeEcShardsInfoRequest(volume_id=VOLUME))
    except grpc.RpcError as error:
        if "not found" not in (error.details() or ""):
            raise
        return set()
    return {shard.shard_id for shard in info.ec_shard_infos}


def filled(node: Volumed, choice: random.Random) -> Journal:
    """What is in the volume."""
    with grpc.insecure_channel(node.grpc_address) as channel:
        VolumeServerStub(channel).AllocateVolume(
            pb.AllocateVolumeRequest(volume_id=VOLUME, replication="000", version=3)
        )
    journal = Journal()
    for key in range(1, OBJECTS + 1):
        fid, data = f"{VOLUME},{key:x}637037d6", choice.randbytes(choice.choice(SIZES))
        journal.add(fid)
        with journal.operation(fid, fingerprint(200, data)):
            assert upload(node.address, fid, data).status == 201
    return journal


@contextlib.contextmanager
def clients(node: Volumed, journal: Journal, life: Life, seed: int) -> Iterator[None]:
    """One reads, one deletes what must be there, while the body runs. Raises what they met."""
    stopping, failures = threading.Event(), []
    before = {fid: entry.acknowledged for fid, entry in journal.entries.items()}

    def read() -> None:
        choice = random.Random(seed)
        while not stopping.wait(0.002):
            fid = choice.choice(sorted(before))
            with contextlib.suppress(OSError, http.client.HTTPException):
                answer = get(node.address, f"/{fid}")
                # Before it is deleted an object has one content; afterwards it must not have another one.
                if answer.status == 200 and before[fid] not in (ABSENT, fingerprint(200, answer.body)):
                    failures.append(f"{fid} has become another object")

    def remove() -> None:
        choice = random.Random(seed + 1)
        while not stopping.wait(0.15):
            fid = choice.choice([fid for fid, entry in journal.entries.items() if entry.is_certain])
            failed = contextlib.suppress(OSError, http.client.HTTPException, Unready)
            with life.is_one, failed, journal.operation(fid, ABSENT):
                require(delete(node.address, fid).status in (202, 404))

    threads = [threading.Thread(target=work, daemon=True) for work in (read, remove)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for thread in threads:
            thread.join(LIMIT_S)
    assert not any(thread.is_alive() for thread in threads), "a request hangs"
    assert not failures, failures[:5]


def test_kills_at_any_moment_of_the_life_of_a_volume(tmp_path: Path) -> None:
    seed = int(os.environ.get("VOLUMED_KILL_SEED", "0")) or random.randrange(1, 1 << 32)
    choice = random.Random(seed)
    with Volumed(tmp_path / "node", dirs=[tmp_path / "d0"], volumes_max=4) as node:
        journal = filled(node, choice)
        life = Life(node, seed)
        life.start()
        for number in range(KILLS):
            victim = VICTIMS[number % len(VICTIMS)]
            with clients(node, journal, life, choice.randrange(1 << 32)):
                life.await_steps(choice.randrange(1, 6))
                time.sleep(choice.uniform(0, LONGEST_WAIT_S))
                kill(node, victim, choice)
                life.await_steps(1)
            with life.is_one:
                check(journal, node, f"seed {seed}, after kill {number} of {victim}")
        life.stop()
        node.stop()
        node.start()
        check(journal, node, f"seed {seed}, after a restart")
        assert journal.acknowledged_count > OBJECTS, "nothing was deleted"
