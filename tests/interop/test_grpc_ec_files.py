"""Shards and their side files between servers: VolumeEcShardsCopy, CopyFile and ReceiveFile at the reference and at
ours, each taking from the other (docs/spec/erasure-coding.md 5.4, 5.11)."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.grpc_kit import Call, Node, allocate
from tests.web import upload
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

VOLUME = 5
ABSENT = 77
COLLECTION = "pics"
WHOLE = {"compaction_revision": 2**32 - 1, "stop_offset": 2**63 - 1}
TRUST = "-volume.allowUntrustedRemoteEndpoints"
SIDECARS = (".ecx", ".vif", ".ecsum")


class Rig(NamedTuple):
    """A server of the reference with shards, and two without: the reference's and ours, with two disks each."""

    source: Node
    weed: Node
    ours: Node

    def targets(self) -> list[Node]:
        return [self.weed, self.ours]


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home = tmp_path_factory.mktemp("ec")
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(Master(home / "m"))

        def started(kind: type[VolumeServer], name: str, disks: int = 2) -> Node:
            dirs = [home / name / str(disk) for disk in range(disks)]
            server = kind(home / name, master=master, dirs=dirs, flags=[TRUST])
            return stack.enter_context(Node(stack.enter_context(server)))

        source = started(WeedVolume, "s", disks=1)
        encode(source)
        yield Rig(source, started(WeedVolume, "w"), started(Volumed, "o"))


def encode(node: Node) -> None:
    content = random.Random(5)
    assert node.run(allocate(VOLUME, collection=COLLECTION)) == {}
    for key in range(1, 6):
        assert upload(node.server.address, f"{VOLUME},{key:x}c0ffee11", content.randbytes(300_000)).status == 201
    generate = pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME, collection=COLLECTION)
    assert node.run(Call("VolumeEcShardsGenerate", generate)) == {}
    assert node.run(mount(*range(14))) == {}


def mount(*shards: int, volume_id: int = VOLUME) -> Call:
    return Call(
        "VolumeEcShardsMount",
        pb.VolumeEcShardsMountRequest(volume_id=volume_id, collection=COLLECTION, shard_ids=shards),
    )


def remove(node: Node) -> None:
    """Everything of the volume."""
    unmount = pb.VolumeEcShardsUnmountRequest(volume_id=VOLUME, shard_ids=range(14))
    wipe = pb.VolumeEcShardsDeleteRequest(volume_id=VOLUME, collection=COLLECTION, full_teardown=True)
    assert node.run(Call("VolumeEcShardsUnmount", unmount)) == {}
    assert node.run(Call("VolumeEcShardsDelete", wipe)) == {"fullTeardownDone": True}


def copy(source: Node, *shards: int, volume_id: int = VOLUME, **fields: Any) -> Call:
    request = {"collection": COLLECTION, "source_data_node": source.server.peer_address} | fields
    return Call("VolumeEcShardsCopy", pb.VolumeEcShardsCopyRequest(volume_id=volume_id, shard_ids=shards, **request))


def whole_copy(source: Node, *shards: int, **fields: Any) -> Call:
    wanted = dict.fromkeys(("copy_ecx_file", "copy_ecj_file", "copy_vif_file", "copy_ecsum_file"), True)
    return copy(source, *shards, **wanted, **fields)


def copy_file(extension: str, **fields: Any) -> Call:
    request = {"volume_id": VOLUME, "collection": COLLECTION, "is_ec_volume": True} | WHOLE | fields
    return Call("CopyFile", pb.CopyFileRequest(ext=extension, **request))


def receive(*blocks: bytes, **fields: Any) -> Call:
    info = {"volume_id": VOLUME, "collection": COLLECTION, "is_ec_volume": True, "ext": ".ec09"} | fields
    messages = [pb.ReceiveFileRequest(info=pb.ReceiveFileInfo(**info))]
    return Call("ReceiveFile", messages + [pb.ReceiveFileRequest(file_content=block) for block in blocks])


def files(node: Node, volume_id: int = VOLUME, disk: int | None = None) -> dict[str, bytes]:
    """By extension, from one disk or both, without the empty journal that the reference makes."""
    dirs = node.server.dirs if disk is None else [node.server.dirs[disk]]
    paths = [path for directory in dirs for path in Path(directory).glob(f"{COLLECTION}_{volume_id}.*")]
    return {path.suffix: path.read_bytes() for path in paths if path.suffix != ".ecj" or path.stat().st_size}


@pytest.mark.parametrize(
    "call",
    [
        lambda source: copy(source, 0, disk_id=9),
        copy,
        lambda source: copy(source, 20),
        lambda source: copy(source, 44),
        lambda source: copy(source, 0, volume_id=ABSENT),
        lambda source: copy(source, volume_id=ABSENT, copy_ecx_file=True),
        lambda source: copy(source, volume_id=ABSENT, copy_ecj_file=True, copy_vif_file=True, copy_ecsum_file=True),
        lambda source: copy(source, 0, volume_id=VOLUME, collection=""),
    ],
    ids=["no such disk", "nothing", "absent shard", "no shard", "absent volume", "absent index", "absent sidecars",
         "other collection"],
)  # fmt: skip
def test_copies_that_bring_nothing(rig: Rig, call: Any) -> None:
    theirs, ours = (target.run(call(rig.source)) for target in rig.targets())
    assert ours == theirs
    assert files(rig.ours) == files(rig.ours, ABSENT) == {}


def test_a_source_that_is_down(rig: Rig) -> None:
    call = copy(rig.source, 0, source_data_node="127.0.0.1:1.2")
    (code, theirs), (our_code, ours) = (target.run(call) for target in rig.targets())
    begin = "VolumeEcShardsCopy volume 5: failed to start copying volume 5 .ec00 file: rpc error: code = Unavailable"
    assert code == our_code
    assert theirs.startswith(begin)
    assert ours.startswith(begin)


def test_sources_of_this_host_are_for_nodes_of_this_host(rig: Rig, tmp_path: Path) -> None:
    with Volumed(tmp_path / "strict", master=rig.source.server.master) as server, Node(server) as strict:
        assert strict.run(copy(rig.source, 0)) == {}
        for source, reason in (
            ("169.254.169.254:80", "targets instance metadata service 169.254.169.254"),
            ("0.0.0.0:80", "resolves to unspecified address 0.0.0.0"),
        ):
            text = f'invalid source data node {source}: remote endpoint "{source}" {reason}'
            assert strict.run(copy(rig.source, 0, source_data_node=source)) == ("UNKNOWN", text)


def test_a_copy_is_the_same_files(rig: Rig) -> None:
    originals = files(rig.source)
    for target in rig.targets():
        assert target.run(whole_copy(rig.source, 0, 13)) == {}
        assert files(target) == {name: originals[name] for name in (".ec00", ".ec13", *SIDECARS)}
        assert target.run(whole_copy(rig.source, 3)) == {}
        assert target.run(copy(rig.source, 4, copy_ecx_file=True, disk_id=1)) == {}
        assert files(target, disk=0).keys() == {".ec00", ".ec03", ".ec13", *SIDECARS}
        assert files(target, disk=1) == {name: originals[name] for name in (".ec04", ".ecx")}
        remove(target)
        assert files(target) == {}


def test_the_reference_takes_from_ours_what_ours_took_from_it(rig: Rig) -> None:
    originals = files(rig.source)
    assert rig.ours.run(whole_copy(rig.source, *range(14), disk_id=1)) == {}
    assert rig.weed.run(whole_copy(rig.ours, *range(14))) == {}
    assert files(rig.weed) == {name: content for name, content in originals.items() if name not in (".dat", ".idx")}
    remove(rig.ours)
    remove(rig.weed)


def test_files_are_told_as_the_reference_tells_them(rig: Rig) -> None:
    assert rig.ours.run(whole_copy(rig.source, 0)) == {}
    for call in (
        copy_file(".ec00"), copy_file(".ecx"), copy_file(".vif"), copy_file(".ecsum"), copy_file(".ec20"),
        copy_file("ecx"), copy_file(".e/x"), copy_file(""), copy_file(".ec00", stop_offset=0),
        copy_file(".ec00", stop_offset=10), copy_file(".ec00", collection=".."), copy_file(".ec00", collection=""),
        copy_file(".ec20", ignore_source_file_not_found=True), copy_file(".ec00", compaction_revision=3),
    ):  # fmt: skip
        assert rig.ours.run(call) == rig.source.run(call), call
    remove(rig.ours)


@pytest.mark.parametrize(
    "call",
    [
        receive(b"abcd"),
        receive(b"abcd", b"efgh", disk_id=1),
        receive(b"abcd", ext=".ecx"),
        receive(b"ab", file_size=99),
        receive(),
        receive(b"abcd", disk_id=9),
        receive(b"abcd", ext="ec09"),
        receive(b"abcd", collection=".."),
    ],
    ids=["shard", "other disk", "index", "too short", "empty", "no such disk", "bad extension", "bad collection"],
)
def test_received_files(rig: Rig, call: Call) -> None:
    theirs, ours = (target.run(call) for target in rig.targets())
    assert ours == theirs
    for disk in range(2):
        assert files(rig.ours, disk=disk) == files(rig.weed, disk=disk)
    for target in rig.targets():
        for path in (path for directory in target.server.dirs for path in Path(directory).glob("pics_5.*")):
            path.unlink()


def test_what_is_mounted_is_not_replaced_by_who_sends_files(rig: Rig) -> None:
    for target in rig.targets():
        assert target.run(whole_copy(rig.source, 0)) == {}
        assert target.run(mount(0)) == {}
    theirs, ours = (target.run(receive(b"abcd", ext=".ec00")) for target in rig.targets())
    assert ours == theirs == {"error": "ec volume 5 is mounted on disk_ids:[0]; unmount before ReceiveFile"}
    assert len(files(rig.ours)[".ec00"]) == len(files(rig.weed)[".ec00"]) > 4
    for target in rig.targets():
        remove(target)
