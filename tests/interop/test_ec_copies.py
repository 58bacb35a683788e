"""Shards on their way to a node of ours: deletions of both sides count, and what is interrupted leaves nothing
(docs/spec/erasure-coding.md 5.4, R1)."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from tests.cluster import Master, Volumed, WeedVolume
from tests.grpc_kit import Call, Node, allocate
from tests.processes import wait_until
from tests.pss import child
from tests.source_proxy import SourceProxy
from tests.web import upload
from volumed.erasure.journal import decode_journal
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

LIMIT_S = 60
MIB = 1 << 20
VOLUME = 5
COLLECTION = "pics"
SHARD_BYTES = 5 * MIB
KEYS = range(1, 6)
TRUST = "-volume.allowUntrustedRemoteEndpoints"


class Rig(NamedTuple):
    """A server of the reference with all shards, and a node of ours without."""

    source: Node
    target: Node


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home = tmp_path_factory.mktemp("copies")
    with (
        Master(home / "m") as master,
        WeedVolume(home / "w", master=master, flags=[TRUST]) as weed,
        Volumed(home / "v", master=master, flags=[TRUST]) as ours,
        Node(weed) as source,
        Node(ours) as target,
    ):
        assert source.run(allocate(VOLUME, collection=COLLECTION)) == {}
        for key in KEYS:
            fid, content = f"{VOLUME},{key:x}c0ffee11", os.urandom(9 * MIB)
            assert upload(weed.address, fid, content, headers={"Content-Type": "application/zip"}).status == 201
        generate = pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME, collection=COLLECTION)
        assert source.run(Call("VolumeEcShardsGenerate", generate)) == {}
        assert source.run(mount(*range(14))) == {}
        yield Rig(source, target)


@pytest.fixture(autouse=True)
def nothing_stays(rig: Rig) -> Iterator[None]:
    yield
    wipe = pb.VolumeEcShardsDeleteRequest(volume_id=VOLUME, collection=COLLECTION, full_teardown=True)
    wait_until(
        lambda: rig.target.run(Call("VolumeEcShardsDelete", wipe)) == {"fullTeardownDone": True},
        timeout_s=LIMIT_S, what="an empty disk",
    )  # fmt: skip


def mount(*shards: int) -> Call:
    request = pb.VolumeEcShardsMountRequest(volume_id=VOLUME, collection=COLLECTION, shard_ids=shards)
    return Call("VolumeEcShardsMount", request)


def request_of(source: str, *shards: int, **fields: bool) -> pb.VolumeEcShardsCopyRequest:
    return pb.VolumeEcShardsCopyRequest(
        volume_id=VOLUME, collection=COLLECTION, shard_ids=shards, source_data_node=source, **fields
    )


def copy(rig: Rig, *shards: int, **fields: bool) -> Any:
    return rig.target.run(Call("VolumeEcShardsCopy", request_of(rig.source.server.peer_address, *shards, **fields)))


def forget(node: Node, key: int) -> None:
    """Delete a needle in one server's journal."""
    request = pb.VolumeEcBlobDeleteRequest(volume_id=VOLUME, collection=COLLECTION, file_key=key, version=3)
    assert node.run(Call("VolumeEcBlobDelete", request)) == {}


def deleted(node: Node) -> set[int]:
    """Keys that a mounted shard is not read for any more."""
    found = set()
    for key in KEYS:
        request = pb.VolumeEcShardReadRequest(volume_id=VOLUME, shard_id=0, size=1, file_key=key)
        if any(message.get("isDeleted") for message in node.run(Call("VolumeEcShardRead", request))):
            found.add(key)
    return found


def names(rig: Rig) -> set[str]:
    return {path.name for path in Path(rig.target.server.dirs[0]).glob(f"{COLLECTION}_*")}


def journal(rig: Rig) -> set[int]:
    return set(decode_journal((rig.target.server.dirs[0] / f"{COLLECTION}_{VOLUME}.ecj").read_bytes()))


def test_deletions_of_both_sides_count(rig: Rig) -> None:
    whole = dict.fromkeys(("copy_ecx_file", "copy_ecj_file", "copy_vif_file", "copy_ecsum_file"), True)
    forget(rig.source, 1)
    assert copy(rig, 0, **whole) == {}
    assert journal(rig) == {1}
    assert rig.target.run(mount(0)) == {}
    assert deleted(rig.target) == {1}
    forget(rig.target, 2)
    forget(rig.source, 3)
    assert copy(rig, 1, **whole) == {}
    assert journal(rig) == {1, 2, 3}
    wait_until(lambda: deleted(rig.target) == {1, 2, 3}, timeout_s=LIMIT_S, what="three deletions")
    assert copy(rig, copy_ecj_file=True) == {}
    assert journal(rig) == {1, 2, 3}


def test_a_deletion_that_the_source_folds_meanwhile_is_not_missed(rig: Rig) -> None:
    """Into the index, when it has been copied already: the journal is empty when that is."""

    def fold() -> None:
        request = pb.VolumeEcShardsRebuildRequest(volume_id=VOLUME, collection=COLLECTION)
        assert rig.source.run(Call("VolumeEcShardsRebuild", request)) == {}

    forget(rig.source, 4)
    with SourceProxy(rig.source.server) as proxy:
        proxy.before[".ecj"] = fold
        request = request_of(proxy.peer_address, 0, copy_ecx_file=True, copy_ecj_file=True, copy_vif_file=True)
        assert rig.target.run(Call("VolumeEcShardsCopy", request)) == {}
        assert not proxy.before
    assert rig.target.run(mount(0)) == {}
    assert 4 in deleted(rig.target)


def content(rig: Rig) -> dict[str, bytes]:
    return {name: (rig.target.server.dirs[0] / name).read_bytes() for name in names(rig)}


@pytest.mark.parametrize("mounted", [True, False], ids=["mounted", "on disk"])
def test_shards_of_two_encode_runs_are_not_mixed(rig: Rig, mounted: bool) -> None:
    assert copy(rig, 0, copy_ecx_file=True, copy_vif_file=True) == {}
    if mounted:
        assert rig.target.run(mount(0)) == {}
    before = content(rig)
    generate = pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME, collection=COLLECTION)
    assert rig.source.run(Call("VolumeEcShardsGenerate", generate)) == {}
    assert rig.source.run(mount(*range(14))) == {}
    everything = dict.fromkeys(("copy_ecx_file", "copy_ecj_file", "copy_vif_file", "copy_ecsum_file"), True)
    for shards, files in (((0,), {}), ((1,), everything), ((), {"copy_ecj_file": True})):
        code, text = copy(rig, *shards, **files)
        assert code == "UNKNOWN"
        assert "VolumeEcShardsCopy volume 5: the source has encode run" in text
        assert text.endswith("remove them first")
    assert content(rig) == before
    unmount = pb.VolumeEcShardsUnmountRequest(volume_id=VOLUME, shard_ids=range(14))
    assert rig.target.run(Call("VolumeEcShardsUnmount", unmount)) == {}
    wipe = pb.VolumeEcShardsDeleteRequest(volume_id=VOLUME, collection=COLLECTION, full_teardown=True)
    assert rig.target.run(Call("VolumeEcShardsDelete", wipe)) == {"fullTeardownDone": True}
    assert copy(rig, 1, **everything) == {}
    assert rig.target.run(mount(1)) == {}


class Held(NamedTuple):
    """A copy of shard 0 that stands still in the middle, and whom it comes from."""

    call: grpc.Future
    proxy: SourceProxy


@contextlib.contextmanager
def held_copy(rig: Rig) -> Iterator[Held]:
    with SourceProxy(rig.source.server) as proxy:
        proxy.held_after = 2 * MIB
        call = rig.target.stub.VolumeEcShardsCopy.future(request_of(proxy.peer_address, 0), timeout=LIMIT_S)
        assert proxy.held.wait(LIMIT_S)
        partial = rig.target.server.dirs[0] / f"{COLLECTION}_{VOLUME}.ec00.receiving"
        wait_until(lambda: partial.stat().st_size >= 2 * MIB, timeout_s=LIMIT_S, what="a part of the shard")
        yield Held(call, proxy)
        call.cancel()


@pytest.mark.parametrize("victim", ["client", "source", "worker", "front", "node"])
def test_a_copy_that_is_interrupted_leaves_what_was_there(rig: Rig, victim: str) -> None:
    shard = rig.target.server.dirs[0] / f"{COLLECTION}_{VOLUME}.ec00"
    shard.write_bytes(b"of before")
    with held_copy(rig) as held:
        match victim:
            case "client":
                held.call.cancel()
            case "source":
                held.proxy.drop_connections()
            case "worker":
                os.kill(child(rig.target.server, "volumed: disk 0"), signal.SIGKILL)
            case "front":
                os.kill(child(rig.target.server, "volumed: grpc front"), signal.SIGKILL)
            case "node":
                rig.target.server.kill()
                rig.target.server.start()
    wait_until(lambda: names(rig) == {shard.name}, timeout_s=LIMIT_S, what="the end of the copy")
    assert shard.read_bytes() == b"of before"


def test_a_copy_over_a_damaged_shard_is_whole(rig: Rig) -> None:
    shard = rig.target.server.dirs[0] / f"{COLLECTION}_{VOLUME}.ec00"
    shard.write_bytes(b"of before")
    with held_copy(rig) as held:
        assert shard.read_bytes() == b"of before"
        held.proxy.release.set()
        held.call.result()
    assert shard.read_bytes() == (rig.source.server.dirs[0] / shard.name).read_bytes()
    assert shard.stat().st_size == SHARD_BYTES


@pytest.mark.parametrize(
    ("fields", "text"),
    [({"shards": (0,)}, "source .ec00 is 0 bytes"), ({"copy_ecx_file": True}, "source .ecx is 0 bytes")],
    ids=["shard", "index"],
)
def test_an_empty_file_does_not_replace_anything(rig: Rig, fields: dict[str, Any], text: str) -> None:
    def emptied(message: Any) -> Any:
        message.file_content = b""
        return message

    with SourceProxy(rig.source.server) as proxy:
        proxy.falsify["CopyFile"] = emptied
        wanted = dict(fields)
        request = request_of(proxy.peer_address, *wanted.pop("shards", ()), **wanted)
        answer = rig.target.run(Call("VolumeEcShardsCopy", request))
    assert answer == ("UNKNOWN", f"VolumeEcShardsCopy volume 5: {text}")
    assert names(rig) == set()


def test_sidecars_that_the_source_does_not_have_are_no_error(rig: Rig) -> None:
    with SourceProxy(rig.source.server) as proxy:
        proxy.falsify["CopyFile"] = lambda _: None
        request = request_of(proxy.peer_address, copy_vif_file=True, copy_ecsum_file=True, copy_ecj_file=True)
        assert rig.target.run(Call("VolumeEcShardsCopy", request)) == {}
    assert names(rig) == set()
