"""Tiered volumes in a cluster: commands of ``weed shell``, exchange with the reference, stores that fail or hang."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.cluster import Filer, Master, Volumed, VolumeServer, WeedVolume, weed_shell
from tests.fake_s3 import FakeS3
from tests.grpc_kit import Call, Node, allocate, batch_delete, mount, status, unmount
from tests.processes import wait_until
from tests.tier_kit import ObjectStore, tiered_master
from tests.web import get, get_json, request
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

TRUST = ["-volume.allowUntrustedRemoteEndpoints"]
SMALL, LARGE = b"0123456789" * 100, bytes(range(256)) * 10_000
RANGE = {"Range": "bytes=2000000-2000009"}
LIMIT_S = 60


class Servers(NamedTuple):
    store: ObjectStore
    master: Master
    filer: Filer
    weed: Node
    ours: Node
    other: Node
    """Ours, too."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    home = tmp_path_factory.mktemp("tiering")
    with ExitStack() as stack:
        store = stack.enter_context(ObjectStore(home))
        master = stack.enter_context(tiered_master(home / "m", store.endpoint))
        filer = stack.enter_context(Filer(home / "f", master=master))
        nodes = [
            stack.enter_context(Node(stack.enter_context(kind(home / name, master=master, flags=TRUST))))
            for name, kind in (("w", WeedVolume), ("a", Volumed), ("b", Volumed))
        ]
        yield Servers(store, master, filer, *nodes)


def shell(servers: Servers, *commands: str) -> str:
    return weed_shell(servers.master, "lock", *commands, "unlock", filer=servers.filer)


def upload(volume_id: int) -> Call:
    request = pb.VolumeTierMoveDatToRemoteRequest(volume_id=volume_id, destination_backend_name="s3")
    return Call("VolumeTierMoveDatToRemote", request)


def download(volume_id: int) -> Call:
    return Call("VolumeTierMoveDatFromRemote", pb.VolumeTierMoveDatFromRemoteRequest(volume_id=volume_id))


def run_to_end(node: Node, call: Call) -> None:
    """To its end, however often it is told how far it is."""
    assert isinstance(node.run(call), list)


def fill(server: VolumeServer, volume_id: int) -> None:
    for key, data in ((1, SMALL), (2, LARGE), (3, SMALL)):
        path = f"/{volume_id},0{key}11223344?type=replicate"
        assert request("PUT", server.address, path, body=data).status == 201


def is_whole(server: VolumeServer, volume_id: int) -> bool:
    """Both needles, a range of the long one, and nothing that is not there."""
    small, large = (get(server.address, f"/{volume_id},0{key}11223344") for key in (1, 2))
    part = get(server.address, f"/{volume_id},0211223344", headers=RANGE)
    missing = get(server.address, f"/{volume_id},0f11223344")
    bodies = (small.body, large.body, part.body, missing.status)
    return bodies == (SMALL, LARGE, LARGE[2_000_000:2_000_010], 404)


def is_tiered(server: VolumeServer, volume_id: int) -> bool:
    return not (server.dirs[0] / f"{volume_id}.dat").exists() and (server.dirs[0] / f"{volume_id}.idx").exists()


def is_known(servers: Servers, node: Node, volume_id: int, backend: str) -> bool:
    """The master has the volume at the node, with its data in a backend, or, when that is empty, on the disk."""
    racks = get_json(servers.master.address, "/vol/status")["Volumes"]["DataCenters"]["DefaultDataCenter"]
    volumes = racks["DefaultRack"].get(node.server.address) or []
    return (volume_id, backend) in [(volume["Id"], volume["RemoteStorageName"]) for volume in volumes]


@pytest.mark.parametrize("which", ["weed", "ours"])
def test_the_shell_uploads_and_downloads(servers: Servers, which: str) -> None:
    node: Node = getattr(servers, which)
    volume_id = {"weed": 11, "ours": 12}[which]
    assert node.run(allocate(volume_id)) == {}
    fill(node.server, volume_id)
    assert node.run(batch_delete(f"{volume_id},0311223344"))["results"][0]["status"] == 202
    wait_until(lambda: is_known(servers, node, volume_id, ""), timeout_s=LIMIT_S, what="the volume is known")
    shell(servers, f"volume.tier.upload -dest=s3 -volumeId={volume_id}")
    assert is_tiered(node.server, volume_id)
    assert is_whole(node.server, volume_id)
    keys = servers.store.keys()
    wait_until(lambda: is_known(servers, node, volume_id, "s3.default"), timeout_s=LIMIT_S, what="the tier is known")
    shell(servers, f"volume.tier.download -volumeId={volume_id}")
    assert (node.server.dirs[0] / f"{volume_id}.dat").exists()
    assert servers.store.keys() < keys
    assert is_whole(node.server, volume_id)
    assert get(node.server.address, f"/{volume_id},0311223344").status == 404
    assert "isReadOnly" not in node.run(status(volume_id))


@pytest.mark.parametrize("which", ["weed", "ours"])
def test_the_shell_compacts_what_is_tiered(servers: Servers, which: str) -> None:
    """volume.tier.compact: download, vacuum, upload."""
    node: Node = getattr(servers, which)
    volume_id = {"weed": 13, "ours": 14}[which]
    assert node.run(allocate(volume_id)) == {}
    fill(node.server, volume_id)
    assert request("PUT", node.server.address, f"/{volume_id},0411223344", body=LARGE[1:]).status == 201
    deleted = [f"{volume_id},0{key}11223344" for key in (3, 4)]
    assert [result["status"] for result in node.run(batch_delete(*deleted))["results"]] == [202, 202]
    wait_until(lambda: is_known(servers, node, volume_id, ""), timeout_s=LIMIT_S, what="the volume is known")
    shell(servers, f"volume.tier.upload -dest=s3 -volumeId={volume_id}")
    wait_until(lambda: is_known(servers, node, volume_id, "s3.default"), timeout_s=LIMIT_S, what="the tier is known")
    before, keys = int(node.run(status(volume_id))["volumeSize"]), servers.store.keys()
    shell(servers, f"volume.tier.compact -volumeId={volume_id} -garbageThreshold=0.1")
    assert is_tiered(node.server, volume_id)
    assert int(node.run(status(volume_id))["volumeSize"]) < before - len(LARGE) + 1000
    assert is_whole(node.server, volume_id)
    assert [get(node.server.address, f"/{fid}").status for fid in deleted] == [404, 404]
    assert len(servers.store.keys()) == len(keys)
    assert servers.store.keys() != keys


@pytest.mark.parametrize(
    ("volume_id", "pair"), [(21, ("ours", "weed")), (22, ("weed", "ours")), (23, ("ours", "other"))],
    ids=["from ours", "to ours", "ours"],
)  # fmt: skip
def test_a_replica_of_a_tiered_volume_is_its_index(servers: Servers, volume_id: int, pair: tuple[str, str]) -> None:
    """The first one uploads, the second one is told where its data are."""
    nodes: list[Node] = [getattr(servers, which) for which in pair]
    for node in nodes:
        assert node.run(allocate(volume_id, replication="001")) == {}
        fill(node.server, volume_id)
        wait_until(lambda n=node: is_known(servers, n, volume_id, ""), timeout_s=LIMIT_S, what="it is known")
    shell(servers, f"volume.tier.upload -dest=s3.cold -volumeId={volume_id}")
    for node in nodes:
        assert is_tiered(node.server, volume_id)
        assert is_whole(node.server, volume_id)
        wait_until(lambda n=node: is_known(servers, n, volume_id, "s3.cold"), timeout_s=LIMIT_S, what="it is tiered")
    shell(servers, f"volume.tier.download -volumeId={volume_id}")
    for node in nodes:
        assert is_whole(node.server, volume_id)
        assert not is_tiered(node.server, volume_id)


def test_one_serves_what_the_other_has_tiered(servers: Servers) -> None:
    for node, volume_id in ((servers.weed, 31), (servers.ours, 32)):
        assert node.run(allocate(volume_id)) == {}
        fill(node.server, volume_id)
        run_to_end(node, upload(volume_id))
        assert node.run(batch_delete(f"{volume_id},0311223344"))["results"][0]["status"] == 202
        node.run(unmount(volume_id))
    for source, target, volume_id in ((servers.weed, servers.ours, 31), (servers.ours, servers.weed, 32)):
        for extension in (".idx", ".vif"):
            name = f"{volume_id}{extension}"
            (source.server.dirs[0] / name).rename(target.server.dirs[0] / name)
        assert target.run(mount(volume_id)) == {}
        assert is_whole(target.server, volume_id)
        assert get(target.server.address, f"/{volume_id},0311223344").status == 404
        run_to_end(target, download(volume_id))
        assert is_whole(target.server, volume_id)


# With a store that fails on demand


class Rig(NamedTuple):
    store: FakeS3
    server: Volumed
    node: Node


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    home = tmp_path_factory.mktemp("store")
    with (
        FakeS3() as store,
        tiered_master(home / "m", store.endpoint) as master,
        Volumed(home / "v", master=master, flags=TRUST) as server,
    ):
        with Node(server) as node:
            assert node.run(allocate(1)) == {}
        fill(server, 1)
        yield Rig(store, server, node)


@pytest.fixture
def rig(server: Rig) -> Iterator[Rig]:
    """A store that works, and volume 1, which stays on the disk."""
    with Node(server.server) as node:
        yield Rig(server.store, server.server, node)
    server.store.works()


def allocated(rig: Rig, volume_id: int) -> int:
    assert rig.node.run(allocate(volume_id)) == {}
    fill(rig.server, volume_id)
    return volume_id


def test_a_store_that_hangs_holds_up_nothing_else(rig: Rig) -> None:
    tiered = allocated(rig, 2)
    run_to_end(rig.node, upload(tiered))
    assert is_whole(rig.server, tiered)
    rig.store.hangs()
    asked = len(rig.store.asked)
    with ThreadPoolExecutor(100) as pool:
        path = f"/{tiered},0111223344"
        waiting = [pool.submit(get, rig.server.address, path, timeout_s=60) for _ in range(100)]
        wait_until(lambda: len(rig.store.asked) > asked, timeout_s=LIMIT_S, what="a read hangs")
        assert not all(read.done() for read in waiting)
        assert is_whole(rig.server, 1)
        assert request("PUT", rig.server.address, "/1,0a11223344", body=SMALL).status == 201
        assert request("DELETE", rig.server.address, "/1,0a11223344").status == 202
        assert get(rig.server.address, f"/{tiered},0f11223344").status == 404, "is not in the map"
        assert rig.node.run(status(tiered))["isReadOnly"]
        rig.store.works()
        answers = [read.result() for read in waiting]
    assert {answer.status for answer in answers} <= {200, 500}
    assert any(answer.status == 200 for answer in answers)
    assert is_whole(rig.server, tiered)


def test_a_worker_that_is_killed_in_a_move_has_lost_nothing(rig: Rig) -> None:
    moving = allocated(rig, 3)
    rig.store.hangs()
    asked = len(rig.store.asked)
    with ThreadPoolExecutor(1) as pool:
        move = pool.submit(rig.node.run, upload(moving))
        wait_until(lambda: len(rig.store.asked) > asked, timeout_s=LIMIT_S, what="the upload is under way")
        rig.server.kill()
        assert move.result()[0] == "UNAVAILABLE"
    rig.store.works()
    rig.server.start()
    assert not is_tiered(rig.server, moving)
    assert is_whole(rig.server, moving)


def test_a_store_that_is_gone_loses_nothing(rig: Rig) -> None:
    tiered = allocated(rig, 4)
    run_to_end(rig.node, upload(tiered))
    rig.store.failing = lambda _method, _path: 503
    assert get(rig.server.address, f"/{tiered},0111223344").status == 500
    code, text = rig.node.run(download(tiered))
    assert code == "UNKNOWN"
    assert text.startswith(f"backend s3.default copy file HOME/data/{tiered}.dat: ServiceUnavailable: ")
    code, text = rig.node.run(upload(1))
    assert text.startswith("backend s3 copy file HOME/data/1.dat: ")
    assert is_whole(rig.server, 1)
    rig.server.stop()
    rig.server.start()
    assert is_whole(rig.server, 1), "the disk serves without the volume in the tier"
    assert get(rig.server.address, f"/{tiered},0111223344").status == 500, "it is not gone"
    rig.store.works()
    wait_until(lambda: is_whole(rig.server, tiered), timeout_s=LIMIT_S, what="the volume is back")
    rig.server.kill()
    rig.server.start()
    assert is_whole(rig.server, tiered)
    with Node(rig.server) as node:
        run_to_end(node, download(tiered))
    assert is_whole(rig.server, tiered)


def test_a_large_volume_goes_in_parts_and_tells_how_far_it_is(rig: Rig) -> None:
    large = allocated(rig, 5)
    body = LARGE * 8
    for key in range(0x10, 0x14):
        assert request("PUT", rig.server.address, f"/{large},{key:02x}11223344", body=bytes([key]) + body).status == 201
    first_told = threading.Event()

    def second_part_waits(_method: str, path: str) -> int:
        if "partNumber=2" in path:
            first_told.wait(LIMIT_S)
        return 0

    rig.store.failing = second_part_waits
    progress = []
    for message in rig.node.stub.VolumeTierMoveDatToRemote(upload(large).message, timeout=LIMIT_S):
        progress.append(message.processed)
        if message.processed == 64 << 20:
            first_told.set()
    assert first_told.is_set()
    assert progress == sorted(progress)
    assert is_whole(rig.server, large)
    run_to_end(rig.node, download(large))
    assert get(rig.server.address, f"/{large},1211223344").body == b"\x12" + body
