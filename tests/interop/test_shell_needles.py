"""Commands of ``weed shell`` that follow, compare, merge and check needles, in a cluster of both kinds of servers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import Filer, weed_shell
from tests.grpc_kit import Node, Put, Servers, allocate, batch_delete, started_servers, status
from tests.processes import wait_until
from tests.web import assign, get, request, upload

pytestmark = pytest.mark.interop

TRUST = ["-volume.allowUntrustedRemoteEndpoints"]
BINARY = {"Content-Type": "application/x-thing"}
KEYS = range(1, 12)
LIMIT_S = 60


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with started_servers(tmp_path_factory.mktemp("shell")) as started:
        yield started


def shell(servers: Servers, *commands: str, filer: Filer | None = None) -> str:
    return weed_shell(servers.master, "lock", *commands, "unlock", filer=filer)


def put(node: Node, volume_id: int, key: int, data: bytes | None = None) -> None:
    """Into this replica alone."""
    content = f"needle {key}".encode() if data is None else data
    assert node.run(Put(f"{volume_id},{key:02x}11111111?type=replicate", content, BINARY)) in (201, 204)


def remove(node: Node, volume_id: int, key: int) -> None:
    answer = node.run(batch_delete(f"{volume_id},{key:02x}11111111"))
    assert answer["results"][0]["status"] == 202


def found(node: Node, volume_id: int) -> dict[int, bytes | int]:
    """Data of the needles there are, status of the others."""
    answers = {key: get(node.server.address, f"/{volume_id},{key:02x}11111111?readDeleted=false") for key in KEYS}
    return {key: answer.body if answer.status == 200 else answer.status for key, answer in answers.items()}


def fill(node: Node, volume_id: int) -> None:
    for key in (1, 2, 3, 4):
        put(node, volume_id, key)
    put(node, volume_id, 5, b"")
    remove(node, volume_id, 2)
    put(node, volume_id, 3, b"overwritten")


def test_move(servers: Servers) -> None:
    moves = [(41, servers.weed, servers.first), (42, servers.first, servers.weed)]
    wanted = {}
    for volume_id, source, _ in moves:
        assert source.run(allocate(volume_id)) == {}
        fill(source, volume_id)
        wanted[volume_id] = found(source, volume_id), source.run(status(volume_id))["volumeSize"]
    ends = {volume_id: (source.server.peer_address, target.server.peer_address) for volume_id, source, target in moves}
    commands = [f"volume.move -volumeId {each} -source {ends[each][0]} -target {ends[each][1]}" for each in ends]
    printed = shell(servers, *commands)
    for volume_id, source, target in moves:
        assert f"moved volume {volume_id} " in printed
        assert source.run(status(volume_id)) == ("UNKNOWN", f"not found volume id {volume_id}")
        moved = found(target, volume_id), target.run(status(volume_id))["volumeSize"]
        assert moved == wanted[volume_id]


@pytest.mark.parametrize("reference", [True, False], ids=["weed and volumed", "volumed twice"])
def test_replicas_that_differ(servers: Servers, reference: bool) -> None:
    """What one of them lacks is copied as raw records, deletions are repeated."""
    one, other = servers.weed if reference else servers.second, servers.first
    volume_id = 51 if reference else 52
    for node in (one, other):
        assert node.run(allocate(volume_id, replication="001")) == {}
        for key in (1, 2, 3, 4):
            put(node, volume_id, key)
    put(one, volume_id, 7)
    put(other, volume_id, 8)
    remove(one, volume_id, 1)
    remove(other, volume_id, 2)
    command = f"volume.check.disk -volumeId={volume_id} -slow -apply -syncDeleted"
    command += " -resurrectMissingNeedles -nonRepairThreshold=1"
    same = {1: 404, 2: 404, 3: b"needle 3", 4: b"needle 4", 7: b"needle 7", 8: b"needle 8"}
    wanted = {key: same.get(key, 404) for key in KEYS}

    def repaired() -> bool:
        # The shell asks the master, who hears of the volumes with the next heartbeat.
        shell(servers, command)
        return found(one, volume_id) == found(other, volume_id) == wanted

    wait_until(repaired, timeout_s=LIMIT_S, what="equal replicas")


def test_merge_into_volumed(servers: Servers) -> None:
    """Tails of both replicas, in the order of time, become raw writes to a third server: ours, the only one left.
    (Of two writes of a key within seconds the shell takes the first.)"""
    volume_id = 61
    for node in (servers.weed, servers.first):
        assert node.run(allocate(volume_id, replication="001")) == {}
        for key in (1, 2, 3):
            put(node, volume_id, key)
    put(servers.weed, volume_id, 4)
    put(servers.first, volume_id, 5)
    remove(servers.weed, volume_id, 1)
    put(servers.first, volume_id, 6, b"")
    printed = shell(servers, f"volume.merge -volumeId {volume_id}")
    assert f"merged volume {volume_id} from 2 replicas via {servers.second.server.address}" in printed
    same = {1: 404, 2: b"needle 2", 3: b"needle 3", 4: b"needle 4", 5: b"needle 5", 6: b""}
    wanted = {key: same.get(key, 404) for key in KEYS}
    assert found(servers.weed, volume_id) == found(servers.first, volume_id) == wanted


def test_files_that_no_filer_knows(servers: Servers, tmp_path: Path) -> None:
    with Filer(tmp_path / "filer", master=servers.master) as filer:
        for number in range(3):
            sent = request("PUT", filer.address, f"/kept/{number}", body=bytes([number]) * 5000, headers=BINARY)
            assert sent.status == 201
        orphan, url, *_ = assign(servers.master.address)
        assert upload(url, orphan, b"nobody's").status == 201
        options = "-cutoffTimeAgo=0s -verifyNeedles -reallyDeleteFromVolume -forcePurging"
        shell(servers, f"volume.fsck {options}", filer=filer)
        assert get(url, f"/{orphan}").status == 404
        for number in range(3):
            assert get(filer.address, f"/kept/{number}").body == bytes([number]) * 5000
