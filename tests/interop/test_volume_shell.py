"""``weed shell`` moves, copies and replicates volumes between ``weed volume`` and volumed; no object is lost."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume, weed_shell
from tests.grpc_kit import Node, allocate
from tests.processes import wait_until
from tests.web import get, get_json, upload

pytestmark = pytest.mark.interop

TRUST = ["-volume.allowUntrustedRemoteEndpoints"]
VOLUMES = (1, 2, 3, 4, 5)
OBJECTS = 18
LIMIT_S = 60


class Cluster(NamedTuple):
    """One reference server and two of ours, with some objects: file id → digest."""

    master: Master
    weed: VolumeServer
    first: VolumeServer
    second: VolumeServer
    objects: dict[str, bytes]

    def shell(self, command: str) -> str:
        return weed_shell(self.master, "lock", command, "unlock")

    def sizes(self, server: VolumeServer) -> dict[int, int]:
        """Sizes of the volumes that the master knows on a server."""
        centers = get_json(self.master.address, "/vol/status")["Volumes"]["DataCenters"]
        nodes = [node for racks in centers.values() for nodes in racks.values() for node in nodes.items()]
        return {volume["Id"]: volume["Size"] for name, found in nodes if name == server.address for volume in found}

    def holders(self, volume_id: int) -> set[str]:
        """Addresses of all copies, as the master knows them."""
        found = get_json(self.master.address, f"/dir/lookup?volumeId={volume_id}")
        return {location["url"] for location in found["locations"]}

    def await_holders(self, volume_id: int, expected: set[str]) -> None:
        wait_until(lambda: self.holders(volume_id) == expected, timeout_s=LIMIT_S, what=f"copies on {expected}")

    def check(self) -> None:
        """Every object is what it was, in every copy."""
        for fid, digest in self.objects.items():
            holders = self.holders(int(fid.partition(",")[0]))
            assert holders, fid
            for address in holders:
                assert hashlib.sha256(get(address, f"/{fid}").body).digest() == digest, (fid, address)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """All objects are on the reference server at first."""
    home: Path = tmp_path_factory.mktemp("shell")
    with (
        Master(home / "m", volume_size_limit_mb=2) as master,
        WeedVolume(home / "w", master=master, flags=TRUST) as weed,
        Node(weed) as node,
    ):
        objects = {}
        for volume_id in VOLUMES:
            node.run(allocate(volume_id))
            for number in range(OBJECTS):
                fid, data = f"{volume_id},{number:02x}637037d6", os.urandom(9999 * number)
                assert upload(weed.address, fid, data).status == 201
                objects[fid] = hashlib.sha256(data).digest()
        with (
            Volumed(home / "a", master=master, flags=TRUST) as first,
            Volumed(home / "b", master=master, flags=TRUST) as second,
        ):
            cluster = Cluster(master, weed, first, second, objects)
            # A balance goes by sizes, which come with the heartbeat.
            wait_until(lambda: all(cluster.sizes(weed).values()), timeout_s=LIMIT_S, what="sizes of all volumes")
            yield cluster


def test_a_balance_and_an_evacuation(cluster: Cluster) -> None:
    """volume.balance moves a volume, tail included, from the fullest server; volumeServer.evacuate moves it back."""
    assert len(cluster.sizes(cluster.weed)) == len(VOLUMES)
    cluster.shell("volume.balance -apply -volumesPerExec 1")
    assert len(cluster.sizes(cluster.weed)) == len(VOLUMES) - 1
    cluster.check()
    (server,) = (server for server in (cluster.first, cluster.second) if cluster.sizes(server))
    cluster.shell(f"volumeServer.evacuate -node {server.address} -target {cluster.weed.address} -apply")
    assert len(cluster.sizes(cluster.weed)) == len(VOLUMES)
    assert not cluster.sizes(server)
    cluster.check()


def test_copies(cluster: Cluster) -> None:
    """volume.copy in every direction, volume.delete of the source."""
    volume_id = min(cluster.sizes(cluster.weed))
    for source, target in pairwise((cluster.weed, cluster.first, cluster.second, cluster.weed)):
        cluster.shell(f"volume.copy -source {source.peer_address} -target {target.peer_address} -volumeId {volume_id}")
        cluster.await_holders(volume_id, {source.address, target.address})
        cluster.check()
        cluster.shell(f"volume.delete -node {source.peer_address} -volumeId {volume_id}")
        cluster.await_holders(volume_id, {target.address})
        cluster.check()


def test_another_replication(cluster: Cluster) -> None:
    """volume.configure.replication, volume.fix.replication: a copy more, that takes writes as well as the first one."""
    volume_id = min(cluster.sizes(cluster.weed))
    cluster.shell(f"volume.configure.replication -volumeId {volume_id} -replication 001")
    cluster.shell("volume.fix.replication -apply")
    assert len(cluster.holders(volume_id)) == 2
    cluster.check()
    fid = next(fid for fid in cluster.objects if int(fid.partition(",")[0]) == volume_id)
    for address in cluster.holders(volume_id):
        data = os.urandom(100)
        assert upload(address, fid, data).status == 201
        cluster.objects[fid] = hashlib.sha256(data).digest()
        cluster.check()
