"""Commands of ``weed shell`` that merge copies and move volumes to other disks, between ``weed volume`` and ours. After
each, every object is compared in every copy."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Master, Volumed, WeedVolume
from tests.grpc_kit import Node
from tests.processes import wait_until
from tests.shell_kit import LIMIT_S, TRUST, Cluster

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The reference, one of ours, and another of ours; the first and the last have disks of two types."""
    home: Path = tmp_path_factory.mktemp("shell")
    types = [*TRUST, "-disk=hdd,ssd", "-max=16,16"]
    with (
        Master(home / "m", volume_size_limit_mb=16) as master,
        WeedVolume(home / "w", master=master, dirs=[home / "w0", home / "w1"], flags=types) as weed,
        Volumed(home / "a", master=master, flags=TRUST) as first,
        Volumed(home / "b", master=master, dirs=[home / "b0", home / "b1"], flags=types) as second,
        Node(weed) as one,
        Node(first) as two,
        Node(second) as three,
    ):
        yield Cluster(master, one, two, three)


def test_merge_through_the_reference(cluster: Cluster) -> None:
    """Copies of ours that differ are merged at the reference and come back."""
    weed, *pair = cluster.nodes
    # Of two writes of a key within seconds the shell takes the first, and the reference makes deletions empty objects.
    volume = cluster.fill(*pair, changed=False)
    for key, node in ((0xA1, pair[0]), (0xA2, pair[1])):
        assert volume.put(node.server, key, os.urandom(1000), query="type=replicate") == 201
    printed = cluster.shell(f"volume.merge -volumeId {volume.id} -target {weed.server.peer_address}")
    assert f"merged volume {volume.id} from 2 replicas via {weed.server.address}" in printed
    cluster.check(volume, *pair)


def test_other_disks(cluster: Cluster) -> None:
    """volume.tier.move: from the reference to us and from us to the reference, then a copy at the other one."""
    weed, _, ours = cluster.nodes
    volumes = [cluster.fill(node, replication="000") for node in (weed, ours)]
    names = ",".join(volume.collection for volume in volumes)
    moved = f"volume.tier.move -fromDiskType=hdd -toDiskType=ssd -collectionPattern={names}"

    def all_moved() -> bool:
        # Sizes and times of change come with the heartbeat.
        cluster.shell(f"{moved} -fullPercent=0.1 -quietFor=1s -toReplication=001 -apply")
        return all(len(cluster.holders(volume)) == 2 for volume in volumes)

    wait_until(all_moved, timeout_s=2 * LIMIT_S, what="copies on other disks")
    for volume in volumes:
        cluster.check(volume, weed, ours)
        for node in (weed, ours):
            assert (node.server.dirs[1] / f"{volume.collection}_{volume.id}.dat").exists()
            assert not (node.server.dirs[0] / f"{volume.collection}_{volume.id}.dat").exists()
