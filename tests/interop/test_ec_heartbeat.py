"""Shards as the master sees them: told as the reference tells them, and true through restarts, kills and lost disks
(docs/spec/erasure-coding.md 4.9)."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import grpc
import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume, weed_shell
from tests.grpc_kit import Call, Node, allocate
from tests.master_proxy import MasterProxy
from tests.metrics_kit import scrape
from tests.processes import free_port, wait_until
from tests.web import delete, upload
from volumed.wire import master_pb2, master_pb2_grpc
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

LIMIT_S = 60
VOLUME = 5
COLLECTION = "pics"
TRUST = "-volume.allowUntrustedRemoteEndpoints"
ALL = range(14)
FIRST = range(8)
MOUNTED_WITHIN_S = 8
"""A volume that expires while its shards are mounted leaves those behind that are not yet."""
"""Shards of the first disk of the node; the others are on the second one."""


def encode(node: Node) -> None:
    """A volume, encoded beside its `.dat`; one of five needles was deleted before."""
    content = random.Random(5)
    assert node.run(allocate(VOLUME, collection=COLLECTION)) == {}
    for key in range(1, 6):
        assert upload(node.server.address, f"{VOLUME},{key:x}c0ffee11", content.randbytes(300_000)).status == 201
    assert delete(node.server.address, f"{VOLUME},2c0ffee11").status == 202
    request = pb.VolumeEcShardsGenerateRequest(volume_id=VOLUME, collection=COLLECTION)
    assert node.run(Call("VolumeEcShardsGenerate", request)) == {}


def mount(node: Node, *shards: int) -> None:
    request = pb.VolumeEcShardsMountRequest(volume_id=VOLUME, collection=COLLECTION, shard_ids=shards)
    assert node.run(Call("VolumeEcShardsMount", request)) == {}


def unmount(node: Node, *shards: int) -> None:
    request = pb.VolumeEcShardsUnmountRequest(volume_id=VOLUME, shard_ids=shards)
    assert node.run(Call("VolumeEcShardsUnmount", request)) == {}


def shard_fields(report: Any) -> tuple[Any, ...]:
    """All but the identity of the encode run, which is there."""
    assert report.encode_ts_ns
    return (
        report.id, report.collection, report.ec_index_bits, report.disk_type, report.expire_at_sec, report.disk_id,
        tuple(report.shard_sizes), report.file_count, report.delete_count,
    )  # fmt: skip


def changes(proxy: MasterProxy) -> list[tuple[str, Any]]:
    """What was told of shards that come and go, in order; how many of them share a message is a matter of chance."""
    told: list[tuple[str, Any]] = []
    for seen in list(proxy.heartbeats):
        told += [("new", shard_fields(report)) for report in seen.message.new_ec_shards]
        told += [("deleted", shard_fields(report)) for report in seen.message.deleted_ec_shards]
    return told


def life(server: VolumeServer, proxy: MasterProxy) -> tuple[list[tuple[str, Any]], list[tuple[Any, ...]]]:
    """What a server tells of shards that are mounted, lose a needle, and of which two are unmounted; and what first
    when it is started again."""
    with server, Node(server) as node:
        encode(node)
        mount(node, *ALL)
        assert node.run(Call("VolumeDelete", pb.VolumeDeleteRequest(volume_id=VOLUME))) == {}
        assert delete(server.address, f"{VOLUME},3c0ffee11").status == 202
        unmount(node, 3, 4)
        wait_until(lambda: len(changes(proxy)) >= len(ALL) + 2, timeout_s=LIMIT_S, what="all changes")
        before = changes(proxy)
        server.stop()
        proxy.heartbeats.clear()
        server.start()
        first = proxy.wait_for(lambda message: message.ec_shards, LIMIT_S)
        started = [shard_fields(report) for report in first.message.ec_shards]
    return before, started


def test_shards_are_told_as_the_reference_tells_them(tmp_path: Path) -> None:
    told = []
    for kind in (WeedVolume, Volumed):
        home = tmp_path / kind.__name__
        with Master(home / "m") as master, MasterProxy(master) as proxy:
            told.append(life(kind(home / "n", master=proxy), proxy))
    theirs, ours = told
    assert ours[0] == theirs[0]
    assert ours[1] == theirs[1]


class Rig(NamedTuple):
    """A node with shards of one volume on two disks, and who watches it."""

    master: Master
    node: Node
    server: Volumed
    metrics_port: int

    def known(self) -> dict[int, list[str]]:
        """Addresses by shard, as the master tells them."""
        with grpc.insecure_channel(self.master.grpc_address) as channel:
            stub = master_pb2_grpc.SeaweedStub(channel)
            try:
                found = stub.LookupEcVolume(master_pb2.LookupEcVolumeRequest(volume_id=VOLUME), timeout=LIMIT_S)
            except grpc.RpcError:
                return {}
        return {
            entry.shard_id: [location.url for location in entry.locations]
            for entry in found.shard_id_locations
            if entry.locations
        }

    def await_known(self, *shards: int) -> None:
        expected = {shard: [self.server.address] for shard in shards}
        wait_until(lambda: self.known() == expected, timeout_s=LIMIT_S, what=f"shards {shards} at the master")

    def worker(self, disk: int) -> int:
        """Process id; OSError while there is none."""
        for pid in self.server.pids():
            if f"disk {disk}" in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
                return pid
        raise OSError(f"no worker of disk {disk}")


@pytest.fixture(scope="module")
def rig(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home = tmp_path_factory.mktemp("shards")
    port = free_port()
    with contextlib.ExitStack() as stack:
        master = stack.enter_context(Master(home / "m"))
        source = stack.enter_context(Node(stack.enter_context(Volumed(home / "s", master=master, flags=[TRUST]))))
        flags = [TRUST, f"-metricsPort={port}"]
        server = Volumed(home / "n", master=master, dirs=[home / "d0", home / "d1"], flags=flags)
        node = stack.enter_context(Node(stack.enter_context(server)))
        encode(source)
        for disk_id, shards in ((0, FIRST), (1, range(len(FIRST), 14))):
            assert node.run(copy_call(source, disk_id, shards)) == {}
        yield Rig(master, node, server, port)


def copy_call(source: Node, disk_id: int, shards: range) -> Call:
    wanted = dict.fromkeys(("copy_ecx_file", "copy_ecj_file", "copy_vif_file"), True)
    return Call(
        "VolumeEcShardsCopy",
        pb.VolumeEcShardsCopyRequest(
            volume_id=VOLUME, collection=COLLECTION, shard_ids=shards, disk_id=disk_id,
            source_data_node=source.server.peer_address, **wanted,
        ),
    )  # fmt: skip


def test_mounts_and_unmounts_are_known_at_once(rig: Rig) -> None:
    mount(rig.node, *ALL)
    rig.await_known(*ALL)
    listing = weed_shell(rig.master, "volume.list")
    for disk_id, shards in ((0, FIRST), (1, range(len(FIRST), 14))):
        sizes = " ".join(f"{shard}:1.00 MiB" for shard in shards)
        wanted = f"ec volume id:5 collection:pics shards:[{' '.join(map(str, shards))}] sizes:[{sizes}]"
        assert wanted in listing, (disk_id, listing)
    unmount(rig.node, 0, 13)
    rig.await_known(*range(1, 13))
    mount(rig.node, 0, 13)
    rig.await_known(*ALL)


def test_shards_are_counted(rig: Rig) -> None:
    mount(rig.node, *ALL)
    prefix = "SeaweedFS_volumeServer_"

    def counted(family: str, kind: str, value: int) -> bool:
        return scrape(rig.metrics_port).value(prefix + family, collection=COLLECTION, type=kind) == value

    wait_until(lambda: counted("volumes", "ec_shards", 14), timeout_s=LIMIT_S, what="14 shards")
    wait_until(lambda: counted("total_disk_size", "ec", 14 << 20), timeout_s=LIMIT_S, what="14 MiB of shards")


def killed(rig: Rig) -> None:
    """The worker of a disk is killed; the next one is waited for."""
    before = rig.worker(1)
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: rig.worker(1) != before, timeout_s=LIMIT_S, what="another worker")


def restarted(rig: Rig) -> None:
    rig.server.stop()
    rig.server.start()


def killed_whole(rig: Rig) -> None:
    rig.server.kill()
    rig.server.start()


def master_restarted(rig: Rig) -> None:
    rig.master.stop()
    rig.master.start()


@pytest.mark.parametrize("event", [killed, restarted, killed_whole, master_restarted], ids=lambda event: event.__name__)
def test_all_shards_are_known_again_after(rig: Rig, event: Callable[[Rig], None]) -> None:
    mount(rig.node, *ALL)
    rig.await_known(*ALL)
    event(rig)
    rig.await_known(*ALL)
    wait_until(lambda: answers(rig), timeout_s=LIMIT_S, what="all shards mounted")


def answers(rig: Rig) -> bool:
    """Whether the node says that all shards are mounted."""
    found = rig.node.run(Call("VolumeEcShardsInfo", pb.VolumeEcShardsInfoRequest(volume_id=VOLUME)))
    return isinstance(found, dict) and len(found["ecShardInfos"]) == len(ALL)


def test_a_disk_that_hangs_takes_its_shards_along_and_brings_them_back(rig: Rig) -> None:
    mount(rig.node, *ALL)
    rig.await_known(*ALL)
    worker = rig.worker(1)
    os.kill(worker, signal.SIGSTOP)
    try:
        rig.await_known(*FIRST)
    finally:
        os.kill(worker, signal.SIGCONT)
    rig.await_known(*ALL)


def test_a_volume_that_expires_is_gone_for_the_master_too(rig: Rig) -> None:
    """The last one: nothing is left of the volume afterwards."""
    unmount(rig.node, *ALL)
    expires_at_s = int(time.time()) + MOUNTED_WITHIN_S
    for directory in rig.server.dirs:
        path = directory / f"{COLLECTION}_{VOLUME}.vif"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"expireAtSec": str(expires_at_s)}))
    mount(rig.node, *ALL)
    wait_until(
        lambda: not [path for directory in rig.server.dirs for path in directory.glob(f"{COLLECTION}_*")],
        timeout_s=LIMIT_S, what="no files of the volume",
    )  # fmt: skip
    rig.await_known()
