"""Shards read and needles deleted for other servers, against a node of three disks: of which encode run, and what is
answered when a disk is away."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.erasure_kit import NOW_NS, SmallVolume
from tests.processes import wait_until
from tests.servicer_kit import FakeCall, ScriptedNode, make_node, serving_table
from tests.shards_kit import HungFiles, journal_of, mounted
from volumed.bus.ec_calls import DeleteEcNeedle
from volumed.erasure.errors import EcShardNotFound, OtherEncodeRun
from volumed.errors import Code, DiskUnavailable, VolumedError, VolumeNotFound
from volumed.grpc.server import served_methods
from volumed.nodetable import DiskState, NodeTable
from volumed.storage.mounted_shards import MountedShards, ShardFiles
from volumed.wire import volume_server_pb2 as pb

VOLUME = 9
LIMIT_S = 60.0
OLD_NS = NOW_NS - 1
OLD, NEW = b"the old run", b"the new run"


class MountedNode(ScriptedNode):
    """With shards on its disks."""

    disks: list[MountedShards]

    def shards(self, volume_id: int) -> list[MountedShards]:
        return self.disks if volume_id == VOLUME else []


class Rig:
    """The old run on disk 0, the latest one on disk 1, each with the same needles; shard 0 is on both, shard 1 on the
    old one only."""

    def __init__(self, home: Path, table: NodeTable) -> None:
        self.table = table
        self.script = MountedNode()
        volumes = [SmallVolume(home / name, needles=3) for name in ("old", "new")]
        old, new = (
            mounted(volume, volume.encode(), shards, disk_id=disk, encode_ts_ns=run)
            for disk, (volume, shards, run) in enumerate(zip(volumes, ((0, 1), (0, 2)), (OLD_NS, NOW_NS), strict=True))
        )
        for volume, content in zip(volumes, (OLD, NEW), strict=True):
            for shard in (0, 1, 2):
                volume.damage(shard, content=content)
        self.old, self.new = old, new
        self.script.disks = [old, new]
        self.methods = served_methods(make_node(self.script, table, home))

    def read(self, shard: int = 0, left_s: float = LIMIT_S, **fields: Any) -> list[tuple[bytes, bool, int]]:
        request = pb.VolumeEcShardReadRequest(volume_id=VOLUME, shard_id=shard, size=len(OLD), **fields)
        answers = self.methods["VolumeEcShardRead"](request, FakeCall(left_s=left_s))
        return [(answer.data, answer.is_deleted, answer.encode_ts_ns) for answer in answers]

    def delete(self, key: int = 1) -> pb.VolumeEcBlobDeleteResponse:
        request = pb.VolumeEcBlobDeleteRequest(volume_id=VOLUME, file_key=key)
        answer: pb.VolumeEcBlobDeleteResponse = self.methods["VolumeEcBlobDelete"](request)
        return answer

    def journaled(self) -> list[str]:
        calls = self.script.worker_calls()
        return [where.split(".")[0] for where, request in calls if isinstance(request, DeleteEcNeedle)]


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    with serving_table(tmp_path) as table:
        for row in table.disks:
            row.set_map_path("/none")
        yield Rig(tmp_path, table)


def test_who_knows_no_run_is_given_the_latest(rig: Rig) -> None:
    assert rig.read() == [(NEW, False, NOW_NS)]
    assert rig.read(encode_ts_ns=NOW_NS) == [(NEW, False, NOW_NS)]
    assert rig.read(encode_ts_ns=OLD_NS) == [(OLD, False, OLD_NS)]


def test_a_shard_that_only_another_run_has(rig: Rig) -> None:
    assert rig.read(1, encode_ts_ns=OLD_NS) == [(OLD, False, OLD_NS)]
    with pytest.raises(OtherEncodeRun):
        rig.read(1, encode_ts_ns=NOW_NS)
    with pytest.raises(OtherEncodeRun):
        rig.read(encode_ts_ns=7)
    with pytest.raises(EcShardNotFound):
        rig.read(1)


@pytest.mark.parametrize(
    ("key", "text"),
    [(0, "ec shard 9.0 cannot be read"), (1, "ec volume 9: no disk reads its index")],
    ids=["shard", "index"],
)
def test_a_disk_that_does_not_answer_is_not_the_whole_server(rig: Rig, key: int, text: str) -> None:
    """Whoever hears UNAVAILABLE does without the shards of all other disks, too. So does who hears nothing in time."""
    hung = HungFiles()
    rig.script.disks = [rig.new._replace(files=ShardFiles(hung, 2))]
    with ThreadPoolExecutor(1) as threads:
        try:
            patient = threads.submit(rig.read, file_key=key)
            wait_until(lambda: hung.asked > 0, timeout_s=LIMIT_S, what="the first read")
            for left_s in (0.1, 0.0):
                with pytest.raises(VolumedError) as failure:
                    rig.read(left_s=left_s, file_key=key)
                assert (failure.value.text, failure.value.code) == (text, Code.UNKNOWN)
            assert not patient.done(), "who has little time hears of it earlier"
        finally:
            hung.thawed.set()
        assert patient.result(LIMIT_S) == [(NEW, False, NOW_NS)]


@pytest.mark.parametrize("run", [0, NOW_NS, OLD_NS], ids=["any", "latest", "old"])
def test_the_run_that_is_read_says_what_is_deleted(rig: Rig, run: int) -> None:
    asked = rig.old if run == OLD_NS else rig.new
    journal_of(asked).deleted.add(2)
    assert rig.read(file_key=2, encode_ts_ns=run) == [(b"", True, asked.record.encode_ts_ns)]
    ((_, other_is_deleted, _),) = rig.read(file_key=2, encode_ts_ns=NOW_NS if run == OLD_NS else OLD_NS)
    assert not other_is_deleted


@pytest.mark.parametrize("state", [DiskState.OPENING, DiskState.STUCK, DiskState.FAILED], ids=lambda state: state.name)
def test_no_deletion_is_acknowledged_while_who_has_the_volume_is_away(rig: Rig, state: DiskState) -> None:
    rig.script.disks = []
    assert rig.delete() == pb.VolumeEcBlobDeleteResponse()
    rig.table.disks[2].set_state(state)
    with pytest.raises(DiskUnavailable, match=f"disk 2 is {state.name.lower()}") as failure:
        rig.delete()
    assert failure.value.code is Code.UNAVAILABLE


def test_nobody_waits_for_a_disk_that_was_never_there(rig: Rig) -> None:
    rig.script.disks = []
    rig.table.disks[2].set_map_path("")
    rig.table.disks[2].set_state(DiskState.FAILED)
    assert rig.delete() == pb.VolumeEcBlobDeleteResponse()


def test_a_volume_that_is_unmounted_before_it_can_journal(rig: Rig) -> None:
    def unmounted(_: DeleteEcNeedle) -> None:
        raise VolumeNotFound.of(VOLUME)

    rig.script.answers[DeleteEcNeedle] = unmounted
    assert rig.delete() == pb.VolumeEcBlobDeleteResponse()
    rig.table.disks[2].set_state(DiskState.STUCK)
    with pytest.raises(DiskUnavailable):
        rig.delete()


def test_a_deletion_goes_to_the_latest_run(rig: Rig) -> None:
    rig.delete()
    assert rig.journaled() == ["disk-1"]


def test_a_batch_goes_on_without_the_disk_that_is_away(rig: Rig) -> None:
    """Whether it has the volume nobody knows: it is an error, not 404."""

    def locate(volume_id: int) -> None:
        if volume_id == 5:
            raise DiskUnavailable("disk 2 is stuck")

    rig.script.locate = locate  # type: ignore[method-assign]
    request = pb.BatchDeleteRequest(file_ids=["5,0100c0ffee", "6,0100c0ffee"])
    results = rig.methods["BatchDelete"](request).results
    assert [(result.status, result.error) for result in results] == [
        (500, "disk 2 is stuck"),
        (404, "volume 6 not found"),
    ]
