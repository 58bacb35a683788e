"""Commands of ``weed shell`` that compare and merge copies, in a cluster of both kinds of servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.cluster import weed_shell
from tests.grpc_kit import Node, Put, Servers, allocate, batch_delete, started_servers
from tests.processes import wait_until
from tests.web import get, get_json

pytestmark = pytest.mark.interop

TRUST = ["-volume.allowUntrustedRemoteEndpoints"]
BINARY = {"Content-Type": "application/x-thing"}
KEYS = range(1, 12)
LIMIT_S = 60


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with started_servers(tmp_path_factory.mktemp("shell")) as started:
        yield started


def shell(servers: Servers, *commands: str) -> str:
    return weed_shell(servers.master, "lock", *commands, "unlock")


def put(node: Node, volume_id: int, key: int, data: bytes | None = None) -> None:
    """Into this replica alone."""
    content = f"needle {key}".encode() if data is None else data
    assert node.run(Put(f"{volume_id},{key:02x}11111111?type=replicate", content, BINARY)) in (201, 204)


def remove(node: Node, volume_id: int, key: int) -> None:
    answer = node.run(batch_delete(f"{volume_id},{key:02x}11111111"))
    assert answer["results"][0]["status"] == 202


def await_replicas(servers: Servers, volume_id: int, count: int) -> None:
    """Until the master, whom the shell asks, knows so many."""
    path = f"/dir/lookup?volumeId={volume_id}"
    wait_until(
        lambda: len(get_json(servers.master.address, path)["locations"]) == count,
        timeout_s=LIMIT_S, what=f"{count} replicas",
    )  # fmt: skip


def found(node: Node, volume_id: int) -> dict[int, bytes | int]:
    """Data of the needles there are, status of the others."""
    answers = {key: get(node.server.address, f"/{volume_id},{key:02x}11111111?readDeleted=false") for key in KEYS}
    return {key: answer.body if answer.status == 200 else answer.status for key, answer in answers.items()}


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
    await_replicas(servers, volume_id, 2)
    printed = shell(servers, f"volume.merge -volumeId {volume_id}")
    assert f"merged volume {volume_id} from 2 replicas via {servers.second.server.address}" in printed
    same = {1: 404, 2: b"needle 2", 3: b"needle 3", 4: b"needle 4", 5: b"needle 5", 6: b""}
    wanted = {key: same.get(key, 404) for key in KEYS}
    assert found(servers.weed, volume_id) == found(servers.first, volume_id) == wanted
