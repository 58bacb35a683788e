"""Servers that are emptied and collections that are deleted, with shards, by ``weed shell``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import Volumed, WeedVolume
from tests.ec_cluster import EcCluster, EcVolume, Readers, started_cluster
from tests.processes import wait_until
from tests.shell_kit import LIMIT_S

pytestmark = [pytest.mark.interop, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EcCluster]:
    with started_cluster(tmp_path_factory.mktemp("mixed"), [Volumed, WeedVolume, Volumed]) as found:
        yield found


def encoded(cluster: EcCluster) -> EcVolume:
    volume = cluster.fill(cluster.nodes[0])
    cluster.encode(volume)
    return volume


@pytest.mark.parametrize("leaver", [0, 1], ids=["ours", "the reference's"])
def test_an_evacuated_server_has_no_shards_and_nothing_is_lost(cluster: EcCluster, leaver: int) -> None:
    volume = encoded(cluster)
    server = cluster.nodes[leaver].server
    assert server.address in cluster.shards(volume)
    cluster.delete(volume, 3, cluster.nodes[leaver])
    with Readers(volume, cluster.servers) as readers:
        cluster.shell(f"volumeServer.evacuate -node {server.address} -apply")
        cluster.await_shards(volume, lambda found: server.address not in found, "a server without shards")
    assert readers.wrong == []
    cluster.await_all_shards(volume)
    stem = f"{volume.collection}_{volume.id}.ec[0-9]*"
    assert [path for directory in server.dirs for path in directory.glob(stem)] == []
    cluster.check(volume)


def test_a_collection_is_deleted_with_its_shards(cluster: EcCluster) -> None:
    goes, stays = encoded(cluster), encoded(cluster)
    cluster.shell(f"collection.delete -collection {goes.collection} -apply")
    cluster.await_shards(goes, lambda found: not found, "no shards at the master")
    wait_until(lambda: cluster.files(goes, ".ec*") == [], timeout_s=LIMIT_S, what="no shards on the disks")
    cluster.await_all_shards(stays)
    cluster.check(stays)
