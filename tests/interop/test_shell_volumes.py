"""Commands of ``weed shell`` that list, mark, vacuum, mount, scrub, delete and replace copies of volumes, on two of our
nodes and on one beside ``weed volume``. After each, every object is compared in every copy."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import WEED, Master, Volumed, WeedVolume
from tests.grpc_kit import Call, Node, batch_delete, status
from tests.processes import ServerError, wait_until
from tests.shell_kit import LIMIT_S, OBJECTS, TRUST, Cluster, Volume
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The reference and two of ours."""
    home: Path = tmp_path_factory.mktemp("shell")
    with (
        Master(home / "m") as master,
        WeedVolume(home / "w", master=master, flags=TRUST) as weed,
        Volumed(home / "a", master=master, flags=TRUST) as first,
        Volumed(home / "b", master=master, flags=TRUST) as second,
        Node(weed) as one,
        Node(first) as two,
        Node(second) as three,
    ):
        yield Cluster(master, one, two, three)


@pytest.fixture(params=["ours", "mixed"])
def pair(request: pytest.FixtureRequest, cluster: Cluster) -> tuple[Node, Node]:
    """Two servers for the copies of a volume."""
    weed, first, second = cluster.nodes
    return (first, second) if request.param == "ours" else (weed, first)


def on_each(command: str, volume: Volume, *nodes: Node) -> list[str]:
    return [f"{command} -volumeId {volume.id} -node {node.server.peer_address}" for node in nodes]


def test_list(cluster: Cluster, pair: tuple[Node, Node]) -> None:
    """Both copies are told alike, and as they are."""
    volume = cluster.fill(*pair)
    expected = (int(pair[0].run(status(volume.id))["volumeSize"]), OBJECTS + 1, 2)
    # It tells what came with the heartbeat.
    wait_until(lambda: cluster.listed(volume) == [expected] * 2, timeout_s=LIMIT_S, what=f"{expected} in the list")


def test_marks(cluster: Cluster, pair: tuple[Node, Node]) -> None:
    volume = cluster.fill(*pair)
    servers = [node.server for node in pair]
    cluster.shell(*on_each("volume.mark -readonly", volume, *pair))
    assert [volume.put(server, 1, b"refused") for server in servers] == [500, 500]
    refused = [node.run(batch_delete(volume.fid(4)))["results"][0]["status"] for node in pair]
    assert refused == [500, 500]
    cluster.check(volume, *pair)
    cluster.shell(*on_each("volume.mark -readonlyCanDelete", volume, *pair))
    assert [volume.put(server, 1, b"refused") for server in servers] == [500, 500]
    assert [node.run(batch_delete(volume.fid(4)))["results"][0]["status"] for node in pair] == [202, 202]
    volume.objects[volume.fid(4)] = None
    cluster.check(volume, *pair)
    cluster.shell(*on_each("volume.mark -writable", volume, *pair))
    for server in servers:
        wait_until(lambda s=server: volume.put(s, 1, os.urandom(99)) == 201, timeout_s=LIMIT_S, what="writable copies")
        cluster.check(volume, *pair)


def vacuum(cluster: Cluster, volume: Volume, *nodes: Node) -> None:
    """The first one, in all copies."""
    revision = Call("VolumeSyncStatus", pb.VolumeSyncStatusRequest(volume_id=volume.id))

    def vacuumed() -> bool:
        # The master asks only about volumes of which it has heard that they are complete.
        cluster.shell(f"volume.vacuum -garbageThreshold=0.1 -volumeId={volume.id}")
        return all(node.run(revision).get("compactRevision") == 1 for node in nodes)

    wait_until(vacuumed, timeout_s=LIMIT_S, what="a vacuum of all copies")


def test_vacuum(cluster: Cluster, pair: tuple[Node, Node]) -> None:
    volume = cluster.fill(*pair)
    for key in range(4, OBJECTS):
        volume.delete(pair[0].server, key)
    before = [int(node.run(status(volume.id))["volumeSize"]) for node in pair]
    vacuum(cluster, volume, *pair)
    after = [int(node.run(status(volume.id))["volumeSize"]) for node in pair]
    assert before[0] == before[1]
    assert after[0] == after[1] < before[0] / 2
    cluster.check(volume, *pair)
    assert volume.put(pair[1].server, 4, b"behind the vacuum") == 201
    cluster.check(volume, *pair)


def test_unmount_mount_and_delete(cluster: Cluster, pair: tuple[Node, Node]) -> None:
    volume = cluster.fill(*pair)
    for node, other in (pair, pair[::-1]):
        cluster.shell(*on_each("volume.unmount", volume, node))
        cluster.check(volume, other)
        assert node.run(status(volume.id)) == ("UNKNOWN", f"not found volume id {volume.id}")
        cluster.shell(*on_each("volume.mount", volume, node))
        cluster.check(volume, *pair)
    cluster.shell(*on_each("volume.delete", volume, pair[1]))
    cluster.check(volume, pair[0])
    assert not [name for folder in pair[1].server.dirs for name in folder.glob(f"{volume.collection}_*")]


def test_empty_volumes_are_deleted(cluster: Cluster, pair: tuple[Node, Node]) -> None:
    full, empty = cluster.fill(*pair), cluster.allocate(*pair)
    names = f"{full.collection},{empty.collection}"
    command = f"volume.deleteEmpty -quietFor=1ns -collectionPattern={names} -apply"

    def deleted() -> bool:
        # The shell goes by times of change and sizes that come with the heartbeat; until those have come the nodes
        # refuse to delete what only looks empty.
        with contextlib.suppress(ServerError):
            cluster.shell(command)
        return not cluster.holders(empty)

    wait_until(deleted, timeout_s=LIMIT_S, what="the empty volume to be gone")
    cluster.check(full, *pair)


def test_collections_are_deleted(cluster: Cluster, pair: tuple[Node, Node]) -> None:
    stays, goes = cluster.fill(*pair), cluster.fill(*pair)
    cluster.shell(f"collection.delete -collection {goes.collection} -apply")
    wait_until(lambda: not cluster.holders(goes), timeout_s=LIMIT_S, what="the collection to be gone")
    for node in pair:
        assert not [name for folder in node.server.dirs for name in folder.glob(f"{goes.collection}_*")]
    cluster.check(stays, *pair)


def test_backups(cluster: Cluster, tmp_path: Path) -> None:
    """``weed backup`` of a volume of ours, and again of what is new."""
    node = cluster.nodes[1]
    volume = cluster.fill(node, replication="000")
    name = f"{volume.collection}_{volume.id}.dat"
    backup = [str(WEED), "backup", f"-master={cluster.master.peer_address}", f"-dir={tmp_path}"]
    backup += [f"-collection={volume.collection}", f"-volumeId={volume.id}"]
    for is_first in (True, False):
        if not is_first:
            assert volume.put(node.server, 0x77, os.urandom(3_000_000)) == 201
            volume.delete(node.server, 4)
        subprocess.run(backup, env=cluster.master.environment(), timeout=LIMIT_S, check=True, capture_output=True)
        assert (tmp_path / name).read_bytes() == (node.server.dirs[0] / name).read_bytes()
    cluster.check(volume, node)


def damage(volume: Volume, node: Node) -> None:
    """Change a byte of the last object but two."""
    (path,) = [path for folder in node.server.dirs for path in folder.glob(f"{volume.collection}_*.dat")]
    with path.open("r+b") as file:
        file.seek(-5000, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-5000, os.SEEK_END)
        file.write(bytes([byte ^ 1]))


def test_broken_copies_are_found_and_replaced(cluster: Cluster) -> None:
    """By volume.scrub, volume.delete and volume.fix.replication, which also deletes a copy that is too many."""
    weed, first, second = cluster.nodes
    crowded = cluster.fill(*cluster.nodes)
    fixed = [crowded]
    for sound, broken in ((first, second), (weed, first), (first, weed)):
        volume = cluster.fill(sound, broken)
        scrub = on_each("volume.scrub -details -markBrokenReadonly", volume, sound, broken)
        assert "is now read-only" not in cluster.shell(*scrub)
        damage(volume, broken)
        printed = cluster.shell(*scrub)
        assert printed.count(f" on volume {volume.id}: invalid CRC for needle {OBJECTS:x} (") == 1
        assert printed.count(f"volume {volume.id} is now read-only") == 1
        assert broken.run(status(volume.id))["isReadOnly"]
        cluster.shell(*on_each("volume.delete", volume, broken))
        cluster.check(volume, sound)
        fixed.append(volume)
    cluster.fix_replication(*fixed)
    for volume in fixed:
        cluster.check_wherever_it_is(volume)
