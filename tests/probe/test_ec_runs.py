"""A node with two encode runs of a volume, as when a disk that was away comes back: what it gives to others. And one
whose only disk with shards does not answer: what it acknowledges."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from tests.cluster import Volumed
from tests.ec_sets import EncodedSet
from tests.erasure_kit import NOW_NS
from tests.grpc_kit import Call, Node, batch_delete
from tests.processes import wait_until
from tests.web import delete, get
from volumed.erasure.journal import decode_journal, encode_journal
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.probe

LIMIT_S = 90.0
COOKIE = "00c0ffee"
VOLUME = 31
OLD_NS = NOW_NS - 1
DELETED_ONCE, DELETED = 5, 7
"""The first one only in the old run."""
OLD_SHARDS, SHARDS = (0, 1, 2, 3), (0, 1, 2)


class Rig(NamedTuple):
    """The latest run is on the first disk of the source, the old one, which has one shard more, on the second. The
    target has one disk, and nothing yet."""

    latest: EncodedSet
    source: Volumed
    target: Volumed

    def wrong_at(self, server: Volumed) -> dict[int, int]:
        """Statuses of needles that are not as in the latest run."""
        contents = self.latest.volume.contents
        answers = {key: get(server.address, f"/{VOLUME},{key:x}{COOKIE}") for key in contents}
        right = {key: (200, content) for key, content in contents.items()} | {DELETED: (404, b"")}
        return {key: answer.status for key, answer in answers.items() if (answer.status, answer.body) != right[key]}


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    latest, old = EncodedSet(tmp_path / "latest"), EncodedSet(tmp_path / "old", needles=13)
    first, second = tmp_path / "first", tmp_path / "second"
    latest.place(first, VOLUME, SHARDS)
    (first / f"{VOLUME}.ecj").write_bytes(encode_journal([DELETED]))
    old.place(second, VOLUME, OLD_SHARDS)
    (second / f"{VOLUME}.ecj").write_bytes(encode_journal([DELETED_ONCE]))
    info = second / f"{VOLUME}.vif"
    info.write_text(info.read_text().replace(str(NOW_NS), str(OLD_NS)))
    with Volumed(tmp_path / "s", dirs=[first, second]) as source, Volumed(tmp_path / "t") as target:
        yield Rig(latest, source, target)


def sent(node: Node, extension: str) -> bytes | None:
    """As `CopyFile` gives it; None when it is not there."""
    request = pb.CopyFileRequest(
        volume_id=VOLUME,
        ext=extension,
        compaction_revision=(1 << 32) - 1,
        stop_offset=(1 << 63) - 1,
        is_ec_volume=True,
        ignore_source_file_not_found=True,
    )
    messages = list(node.stub.CopyFile(request, timeout=LIMIT_S))
    return b"".join(message.file_content for message in messages) if messages else None


def read(node: Node, shard: int, run: int) -> tuple[bytes, set[int]] | str:
    """A whole shard and what run it is said to be of, or why not."""
    request = pb.VolumeEcShardReadRequest(volume_id=VOLUME, shard_id=shard, size=1 << 20, encode_ts_ns=run)
    try:
        messages = list(node.stub.VolumeEcShardRead(request, timeout=LIMIT_S))
    except grpc.RpcError as error:
        return str(error.details())
    return b"".join(message.data for message in messages), {message.encode_ts_ns for message in messages}


def test_others_are_given_the_latest_run_only(rig: Rig) -> None:
    with Node(rig.source) as node:
        for extension in (".ec00", ".ec01", ".ec02", ".ecx", ".vif", ".ecsum"):
            assert sent(node, extension) == rig.latest.content(extension), extension
        assert decode_journal(sent(node, ".ecj") or b"") == [DELETED]
        assert sent(node, ".ec03") is None

        shard = rig.latest.content(".ec01"), {NOW_NS}
        assert read(node, 1, 0) == read(node, 1, NOW_NS) == shard
        assert read(node, 3, 0) == f"not found ec shard {VOLUME}.3"
        assert read(node, 3, NOW_NS) == f"ec shard {VOLUME}.3 belongs to a different encode run"

        info: Any = node.run(Call("VolumeEcShardsInfo", pb.VolumeEcShardsInfoRequest(volume_id=VOLUME)))
        assert {found.get("shardId", 0) for found in info["ecShardInfos"]} == set(SHARDS)
        assert info["fileCount"] == str(len(rig.latest.volume.contents))


def test_a_node_that_has_copied_all_of_it(rig: Rig) -> None:
    take_all(rig)
    assert not rig.wrong_at(rig.source)
    assert not rig.wrong_at(rig.target)


def test_no_deletion_is_acknowledged_while_the_disk_does_not_answer(rig: Rig) -> None:
    take_all(rig)
    server, fids = rig.target, [f"{VOLUME},{key:x}{COOKIE}" for key in (1, 2, 3)]
    request = pb.VolumeEcBlobDeleteRequest(volume_id=VOLUME, file_key=1, version=3)
    away = ("UNAVAILABLE", "disk 0 is stuck")
    with Node(server) as node:
        worker = int(re.findall(r"worker of disk 0 .* started, pid (\d+)", server.log_path.read_text())[-1])
        os.kill(worker, signal.SIGSTOP)
        try:
            wait_until(lambda: last_state(server) == "stuck", timeout_s=LIMIT_S, what="the disk is stuck")
            assert node.run(Call("VolumeEcBlobDelete", request)) == away
            assert delete(server.address, fids[1]).status == 500
            (result,) = node.run(batch_delete(fids[2]))["results"]
            assert (result["status"], result["error"]) == (500, "disk 0 is stuck")
        finally:
            os.kill(worker, signal.SIGCONT)
        wait_until(lambda: not rig.wrong_at(server), timeout_s=LIMIT_S, what="all needles are read again")
        assert node.run(Call("VolumeEcBlobDelete", request)) == {}
    assert rig.wrong_at(server) == {1: 404}


def last_state(server: Volumed) -> str:
    """Of its first disk."""
    found: list[str] = re.findall(r"disk 0 \(.*\) is (\w+), was", server.log_path.read_text())
    return found[-1]


def take_all(rig: Rig) -> None:
    """Copy all that the source gives, and mount it."""
    copy = pb.VolumeEcShardsCopyRequest(
        volume_id=VOLUME,
        shard_ids=SHARDS,
        copy_ecx_file=True,
        copy_ecj_file=True,
        copy_vif_file=True,
        copy_ecsum_file=True,
        source_data_node=rig.source.peer_address,
    )
    mount = pb.VolumeEcShardsMountRequest(volume_id=VOLUME, shard_ids=SHARDS)
    with Node(rig.target) as node:
        assert node.run(Call("VolumeEcShardsCopy", copy)) == {}
        assert node.run(Call("VolumeEcShardsMount", mount)) == {}
