"""The erasure coding commands of ``weed shell`` on five servers: all ours, one of them a reference, and mixed. Objects
are compared before, while the shell works, and after; what was deleted stays so."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import WeedVolume
from tests.ec_cluster import ALL_SHARDS, MAKE_UPS, EcCluster, EcVolume, Readers, Wrong, started_cluster
from tests.grpc_kit import Call
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module", params=["ours", "one reference", "mixed"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[EcCluster]:
    with started_cluster(tmp_path_factory.mktemp(request.param), MAKE_UPS[request.param]) as found:
        yield found


def encoded(cluster: EcCluster, home: int = 0) -> EcVolume:
    volume = cluster.fill(cluster.nodes[home])
    cluster.encode(volume)
    return volume


@pytest.mark.parametrize("home", [0, 1], ids=["ours first", "the other first"])
def test_encode(cluster: EcCluster, home: int) -> None:
    volume = cluster.fill(cluster.nodes[home])
    cluster.check(volume)
    with Readers(volume, cluster.servers) as readers:
        cluster.encode(volume)
    assert readers.wrong == []
    assert len(cluster.shards(volume)) == len(cluster.nodes)
    assert cluster.files(volume, ".dat") == []
    cluster.check(volume)
    for key, node in zip(range(1, 4), cluster.nodes[::2], strict=True):
        cluster.delete(volume, key, node)
    cluster.check(volume)


@pytest.mark.parametrize("lost", [(3,), (2, 12), (4, 9, 10), (0, 1, 11, 13)], ids=["one", "two", "three", "four"])
def test_rebuild(cluster: EcCluster, lost: tuple[int, ...]) -> None:
    volume = encoded(cluster, home=2)
    cluster.delete(volume, 2, cluster.nodes[0])
    before = cluster.lose(volume, *lost)
    cluster.check(volume)
    with Readers(volume, cluster.servers) as readers:
        cluster.shell(f"ec.rebuild -collection {volume.collection} -apply")
        cluster.await_all_shards(volume)
    assert readers.wrong == []
    for shard_id, content in before.items():
        assert [path.read_bytes() == content for path in cluster.files(volume, f".ec{shard_id:02}")] == [True]
    cluster.delete(volume, 3, cluster.nodes[4])
    cluster.check(volume)


@pytest.mark.parametrize("cluster", ["ours"], indirect=True)
def test_what_is_deleted_stays_so_over_many_rebuilds(cluster: EcCluster) -> None:
    """Each of them folds journals into the index of one server, which then loses what it has rebuilt."""
    volume = encoded(cluster)
    for key, node in zip((1, 2, 3, 4, 6), cluster.nodes, strict=True):
        cluster.delete(volume, key, node)
    for lost in [(4, 9, 10), (0, 1, 11, 13), (2, 3, 5), (0, 4, 6, 12)]:
        cluster.lose(volume, *lost)
        cluster.shell(f"ec.rebuild -collection {volume.collection} -apply")
        cluster.await_all_shards(volume)
        cluster.check(volume)


def test_balance(cluster: EcCluster) -> None:
    """All shards are on one server at first."""
    node = cluster.nodes[2]
    volume = cluster.fill(node)
    fields = {"volume_id": volume.id, "collection": volume.collection}
    assert node.run(Call("VolumeMarkReadonly", pb.VolumeMarkReadonlyRequest(volume_id=volume.id))) == {}
    assert node.run(Call("VolumeEcShardsGenerate", pb.VolumeEcShardsGenerateRequest(**fields))) == {}
    mount = pb.VolumeEcShardsMountRequest(shard_ids=sorted(ALL_SHARDS), **fields)
    assert node.run(Call("VolumeEcShardsMount", mount)) == {}
    assert node.run(Call("VolumeDelete", pb.VolumeDeleteRequest(volume_id=volume.id))) == {}
    cluster.await_all_shards(volume)
    cluster.check(volume)
    with Readers(volume, cluster.servers) as readers:
        cluster.shell(f"ec.balance -collection {volume.collection} -apply")
    assert readers.wrong == []
    cluster.await_all_shards(volume)
    assert len(cluster.shards(volume)) == len(cluster.nodes)
    cluster.delete(volume, 1, node)
    cluster.check(volume)


def is_recovered_by_the_reference(cluster: EcCluster, volume: EcVolume, wrong: Wrong) -> bool:
    """Not every server is told of a deletion. When the shards of those that were told are gone already, the reference
    puts the needle together from the others."""
    asks_the_reference = isinstance(cluster.node(wrong.server).server, WeedVolume)
    return asks_the_reference and wrong.status == 200 and volume.objects[wrong.fid] is None


def test_decode(cluster: EcCluster) -> None:
    volume = encoded(cluster)
    for key, node in zip(range(1, 4), cluster.nodes[::2], strict=True):
        cluster.delete(volume, key, node)
    with Readers(volume, cluster.servers) as readers:
        cluster.shell(f"ec.decode -collection {volume.collection} -volumeId {volume.id} -checkMinFreeSpace=false")
    # While the shell removes shards, the reference cannot read where some of them are left; and ours may ask it.
    has_references = any(isinstance(server, WeedVolume) for server in cluster.servers)
    failed = [wrong for wrong in readers.wrong if not (has_references and wrong.status == 500)]
    assert [wrong for wrong in failed if not is_recovered_by_the_reference(cluster, volume, wrong)] == []
    cluster.await_shards(volume, lambda found: not found, "no shards")
    assert len(cluster.files(volume, ".dat")) == 1
    assert cluster.files(volume, ".ec*") == []
    cluster.check(volume)


def test_scrub(cluster: EcCluster) -> None:
    volume = encoded(cluster)
    scrub = f"ec.scrub -details -mode checksum -volumeId {volume.id}"
    assert "failures" not in cluster.shell(scrub)
    (path,) = cluster.files(volume, ".ec06")
    with open(path, "r+b") as file:
        file.seek(12_345)
        byte = file.read(1)
        file.seek(12_345)
        file.write(bytes([byte[0] ^ 1]))
    printed = cluster.shell(scrub)
    assert f"ec volume {volume.id} shard 6: checksum mismatch at block 0 (offset 0)" in printed
    cluster.check(volume)
