"""Shards spread over servers of both kinds: every server reads every needle, and learns what another one deleted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.cluster import Master, Volumed
from tests.ec_files_kit import ALL_SHARDS, LIMIT_S, EcFiles, mount, unmount, wait_for_shards
from tests.grpc_kit import Call, Node, Servers, allocate, batch_delete, started_servers
from tests.processes import wait_until
from tests.web import delete, get, upload
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

VOLUME = 5
AT_WEED, AT_FIRST, AT_SECOND = range(5), range(5, 10), range(10, 14)


class Spread(NamedTuple):
    """The volume, and who has it: data shards at the reference and at one of ours, parity at the other one of ours."""

    files: EcFiles
    servers: Servers

    def holders(self) -> dict[int, set[str]]:
        return {
            shard: {node.server.address}
            for node, shards in zip(self.servers[1:], (AT_WEED, AT_FIRST, AT_SECOND), strict=True)
            for shard in shards
        }


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> EcFiles:
    directory = tmp_path_factory.mktemp("made") / "data"
    return EcFiles(VOLUME, directory).make(32)


@pytest.fixture(scope="module")
def spread(files: EcFiles, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Spread]:
    with started_servers(tmp_path_factory.mktemp("ec")) as servers:
        found = Spread(files, servers)
        for node, shards in zip(servers[1:], (AT_WEED, AT_FIRST, AT_SECOND), strict=True):
            files.lay(node.server.dirs[0], shards)
            mount(node, VOLUME, shards)
        wait_for_shards(servers.master, VOLUME, found.holders())
        yield found


def needle_status(node: Node, fid: str) -> object:
    key = int(fid.partition(",")[2][:-8], 16)
    return node.run(Call("VolumeNeedleStatus", pb.VolumeNeedleStatusRequest(volume_id=VOLUME, needle_id=key)))


def test_every_server_reads_every_needle(spread: Spread) -> None:
    for node in spread.servers[1:]:
        assert spread.files.wrong_at(node.server) == {}


def test_a_needle_is_deleted_for_all_wherever_it_is_deleted(spread: Spread) -> None:
    """Its first shard is at either kind of server, or at the one that is asked."""
    files, servers = spread.files, spread.servers
    nodes = servers[1:]
    theirs, ours = (iter(files.with_first_shard(shards)) for shards in (AT_WEED, AT_FIRST))
    for asked in nodes:
        for fid in (next(theirs), next(ours)):
            answer = delete(asked.server.address, fid)
            assert (answer.status, "size" in answer.json()) == (202, True), answer
            for node in nodes:
                assert get(node.server.address, f"/{fid}").status == 404
                assert needle_status(node, fid) == ("UNKNOWN", "already deleted")
                again = delete(node.server.address, fid)
                assert (again.status, again.json()) == (404, {"size": 0})
            del files.objects[fid]
    fid = next(ours)
    (result,) = servers.second.run(batch_delete(fid))["results"]
    assert result["status"] == 202
    del files.objects[fid]
    assert get(servers.weed.server.address, f"/{fid}").status == 404


def test_a_negative_size_is_refused(spread: Spread) -> None:
    """It ends the reference process."""
    request = pb.VolumeEcShardReadRequest(volume_id=VOLUME, shard_id=AT_FIRST[0], size=-1)
    assert spread.servers.first.run(Call("VolumeEcShardRead", request)) == ("INVALID_ARGUMENT", "invalid size -1")


def test_with_a_server_away(spread: Spread) -> None:
    """The four shards that are lost are recovered by either kind of server."""
    weed, first, second = spread.servers[1:]
    unmount(weed, VOLUME, AT_WEED)
    mount(weed, VOLUME, [4])
    holders = {shard: urls for shard, urls in spread.holders().items() if shard >= 4}
    wait_for_shards(spread.servers.master, VOLUME, holders)
    for node in (first, second):
        wait_until(lambda node=node: not spread.files.wrong_at(node.server), timeout_s=LIMIT_S, what="all is read")
    unmount(weed, VOLUME, [4])
    del holders[4]
    wait_for_shards(spread.servers.master, VOLUME, holders)
    lost = spread.files.with_first_shard(AT_WEED)
    assert get(first.server.address, f"/{lost[0]}").status == 500
    code, text = needle_status(second, lost[0])  # type: ignore[misc]
    assert code == "UNKNOWN"
    assert f"ReadEcShardIntervals: cannot recover shard {VOLUME}." in text
    assert "only 9 shards available [5 6 7 8 9 10 11 12 13], need at least 10" in text
    mount(weed, VOLUME, AT_WEED)
    wait_for_shards(spread.servers.master, VOLUME, spread.holders())
    for node in (first, second):
        wait_until(lambda node=node: not spread.files.wrong_at(node.server), timeout_s=LIMIT_S, what="all is read")


def test_a_server_without_shards_passes_reads_on(spread: Spread, tmp_path: Path) -> None:
    with Volumed(tmp_path / "v", master=spread.servers.master) as node:
        assert spread.files.wrong_at(node) == {}


def test_a_server_with_too_few_shards_passes_reads_on(files: EcFiles, tmp_path: Path) -> None:
    """While a decode removes shards, the volume is on one server, and others still have some of them."""
    data = tmp_path / "data"
    data.mkdir()
    for extension in (".dat", ".idx", ".vif"):
        shutil.copy(files.path(extension), data)
    with (
        Master(tmp_path / "m") as master,
        Volumed(tmp_path / "a", master=master, dirs=[data]),
        Volumed(tmp_path / "b", master=master) as left,
        Node(left) as node,
    ):
        files.lay(left.dirs[0], range(9))
        mount(node, VOLUME, range(9))
        wait_for_shards(master, VOLUME, {shard: {left.address} for shard in range(9)})
        unmount(node, VOLUME, range(5))
        wait_until(lambda: not files.wrong_at(left), timeout_s=LIMIT_S, what="all is read")
        fid = files.with_first_shard([0])[0]
        assert get(left.address, f"/{fid}?proxied=true").status == 500


def test_without_a_master(files: EcFiles, tmp_path: Path) -> None:
    """Rule R4: what is here is read and deleted; only what is not here cannot be found."""
    with Master(tmp_path / "m") as master, Volumed(tmp_path / "v", master=master) as server, Node(server) as node:
        files.lay(server.dirs[0], ALL_SHARDS)
        mount(node, VOLUME)
        master.stop()
        assert files.wrong_at(server) == {}
        fid = files.with_first_shard([3])[0]
        assert delete(server.address, fid).status == 202
        assert get(server.address, f"/{fid}").status == 404
        unmount(node, VOLUME, range(5))
        lost = files.with_first_shard([4])[0]
        assert get(server.address, f"/{lost}", timeout_s=LIMIT_S).status == 500
        code, text = needle_status(node, lost)  # type: ignore[misc]
        assert (code, text.partition(": rpc error")[0]) == (
            "UNKNOWN",
            f"ReadEcShardIntervals: failed to locate shard via master grpc {master.address}: lookup ec volume {VOLUME}",
        )
        mount(node, VOLUME, [4])
        assert files.wrong_at(server) == {fid: 404}


def test_chunks_in_shards_are_read_and_deleted_with_their_manifest(files: EcFiles, tmp_path: Path) -> None:
    """All shards are here, where no other server deletes anything."""
    with Master(tmp_path / "m") as master, Volumed(tmp_path / "v", master=master) as server, Node(server) as node:
        files.lay(server.dirs[0], ALL_SHARDS)
        mount(node, VOLUME)
        node.run(allocate(VOLUME + 1))
        fids = [fid for fid, data in files.objects.items() if data][:3]
        sizes = [len(files.objects[fid]) for fid in fids]
        chunks = [{"fid": fid, "offset": sum(sizes[:index]), "size": sizes[index]} for index, fid in enumerate(fids)]
        whole, manifest = f"{VOLUME + 1},01637037d6", json.dumps({"size": sum(sizes), "chunks": chunks}).encode()
        assert upload(server.address, whole, manifest, query="cm=true").status == 201
        assert get(server.address, f"/{whole}").body == b"".join(files.objects[fid] for fid in fids)
        assert delete(server.address, fids[0]).status == 202, "one that is gone before does not matter"
        answer = delete(server.address, whole)
        assert (answer.status, answer.json()) == (202, {"size": sum(sizes)})
        assert files.wrong_at(server, fids) == dict.fromkeys(fids, 404)
