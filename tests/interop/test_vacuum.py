"""Vacuums that a real master and ``weed shell`` ask for, while clients write, read and delete."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cluster import Master, Volumed, WeedVolume, weed_shell
from tests.grpc_kit import Call, Node, Put, allocate, batch_delete, set_state, status
from tests.processes import wait_until
from tests.records import masked_dat, volume_files
from tests.web import assign, delete, get, request, upload
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

LIMIT_S = 60.0


def check(volume_id: int) -> Call:
    return Call("VacuumVolumeCheck", pb.VacuumVolumeCheckRequest(volume_id=volume_id))


def compact(volume_id: int) -> Call:
    return Call("VacuumVolumeCompact", pb.VacuumVolumeCompactRequest(volume_id=volume_id, preallocate=1 << 20))


def commit(volume_id: int) -> Call:
    return Call("VacuumVolumeCommit", pb.VacuumVolumeCommitRequest(volume_id=volume_id))


def cleanup(volume_id: int) -> Call:
    return Call("VacuumVolumeCleanup", pb.VacuumVolumeCleanupRequest(volume_id=volume_id))


STEPS = [
    check(999), compact(999), commit(999), cleanup(999), allocate(101), check(101), cleanup(101),
    *[Put(f"101,{key:02x}{key:08x}?ts=1700000000", body=random.Random(key).randbytes(400)) for key in (7, 3, 5, 1, 9)],
    Put("101,0200000002", body=b""), check(101), Put("101,0300000003?ts=1700000001", body=b"another"), check(101),
    batch_delete("101,0500000005"), check(101), compact(101), cleanup(101), compact(101),
    Put("101,0800000008?ts=1700000002", body=b"meanwhile"), Put("101,0100000001?ts=1700000003", body=b"changed"),
    commit(101), status(101), check(101), batch_delete("101,0100000001"), compact(101), commit(101), status(101),
    allocate(102), compact(102), commit(102), status(102), check(102),
    set_state(0, maintenance=True), check(101), compact(101), commit(101), cleanup(101),
    set_state(1, maintenance=False),
]  # fmt: skip


class Client(threading.Thread):
    """Writes, overwrites, deletes and reads keys of its own, and notes every answer that is wrong."""

    def __init__(self, address: str, volume_id: int, number: int, stop: threading.Event) -> None:
        super().__init__(daemon=True)
        self.wrong: list[str] = []
        self.contents: dict[str, bytes | None] = {}
        self.requests = 0
        self._address = address
        self._fids = [f"{volume_id},{number * 1000 + key:x}{number:08x}" for key in range(1, 60)]
        self._random = random.Random(number)
        self._stopping = stop

    def run(self) -> None:
        try:
            while not self._stopping.is_set():
                self._act(self._random.choice(self._fids))
                self.requests += 1
        except Exception as error:
            self.wrong.append(repr(error))

    def _act(self, fid: str) -> None:
        kind = self._random.random()
        if kind < 0.4:
            data = self._random.randbytes(self._random.choice([0, 10, 1000, 30_000]))
            self._expect(request("PUT", self._address, f"/{fid}", body=data).status, (201, 204), f"PUT {fid}")
            self.contents[fid] = data
        elif kind < 0.55:
            self._expect(delete(self._address, fid).status, (202, 404), f"DELETE {fid}")
            self.contents[fid] = None
        else:
            self.check(fid)

    def check(self, fid: str) -> None:
        answer = get(self._address, f"/{fid}")
        expected = self.contents.get(fid)
        if expected is None:
            self._expect(answer.status, (404,), f"GET {fid}")
        elif answer.status != 200 or answer.body != expected:
            self.wrong.append(f"GET {fid}: {answer.status}, {len(answer.body)} bytes of {len(expected)}")

    def check_all(self) -> None:
        for fid in self._fids:
            self.check(fid)

    def _expect(self, status: int, allowed: tuple[int, ...], what: str) -> None:
        if status not in allowed:
            self.wrong.append(f"{what}: {status}")


def vacuum(node: Node, volume_id: int) -> None:
    for message in node.stub.VacuumVolumeCompact(pb.VacuumVolumeCompactRequest(volume_id=volume_id), timeout=LIMIT_S):
        assert message.processed_bytes
    node.stub.VacuumVolumeCommit(pb.VacuumVolumeCommitRequest(volume_id=volume_id), timeout=LIMIT_S)


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[list[Any], dict[str, bytes]]]:
    """Answers and files of the reference and of ours."""
    home = tmp_path_factory.mktemp("vacuum")
    played = []
    for kind in (WeedVolume, Volumed):
        with Master(home / f"{kind.__name__}-m") as master, kind(home / kind.__name__, master=master) as server:
            with Node(server) as node:
                answers = [node.run(step) for step in STEPS]
            server.stop()
            played.append((answers, volume_files(server.dirs[0])))
    return played


@pytest.mark.parametrize("index", range(len(STEPS)), ids=lambda index: f"{index}")
def test_answers_are_those_of_the_reference(both: list[tuple[list[Any], dict[str, bytes]]], index: int) -> None:
    (theirs, _), (ours, _) = both
    assert ours[index] == theirs[index], STEPS[index]


@pytest.mark.parametrize("name", ["101", "102"])
def test_files_are_those_of_the_reference(both: list[tuple[list[Any], dict[str, bytes]]], name: str) -> None:
    (_, theirs), (_, ours) = both
    assert ours[f"{name}.idx"] == theirs[f"{name}.idx"]
    assert masked_dat(ours[f"{name}.dat"]) == masked_dat(theirs[f"{name}.dat"])


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with Master(tmp_path / "m") as master, Volumed(tmp_path / "v", master=master) as server, Node(server) as node:
        yield node


def test_only_ours_survives_a_commit_without_a_compaction(node: Node) -> None:
    node.run(allocate(7))
    text = "commit compact volume 7: volume 7 compact swap aborted: missing .cpd/.cpx"
    assert node.run(commit(7)) == ("UNKNOWN", text)
    assert node.run(Put("7,0111111111")) == 201
    marker = node.server.dirs[0] / "7.cpc"
    marker.touch()
    refused = "cleanup volume 7: volume 7: refusing cleanup while commit marker present"
    assert node.run(cleanup(7)) == ("UNKNOWN", refused)


def test_no_space_for_a_copy(node: Node) -> None:
    node.run(allocate(7))
    request = Call("VacuumVolumeCompact", pb.VacuumVolumeCompactRequest(volume_id=7, preallocate=1 << 50))
    code, text = node.run(request)
    assert code == "RESOURCE_EXHAUSTED"
    assert re.fullmatch(
        r"compact volume 7: insufficient free space for compaction: need 1125899906842624 bytes "
        r"\(volume: 8, index: 0\), but only \d+ bytes available: insufficient free space", text,
    )  # fmt: skip


def test_a_client_that_hangs_up_stops_the_compaction(tmp_path: Path) -> None:
    with (
        Master(tmp_path / "m") as master,
        Volumed(tmp_path / "v", master=master, flags=["-compactionMBps=1"]) as server,
        Node(server) as node,
    ):
        node.run(allocate(7))
        for key in range(1, 5):
            node.run(Put(f"7,{key:02x}00000001", body=random.Random(key).randbytes(1 << 20)))
        stream = node.stub.VacuumVolumeCompact(pb.VacuumVolumeCompactRequest(volume_id=7), timeout=LIMIT_S)
        data = server.dirs[0]
        wait_until((data / "7.cpd").exists, timeout_s=LIMIT_S, what="a compaction")
        stream.cancel()
        wait_until(lambda: not list(data.glob("7.cp*")), timeout_s=LIMIT_S, what="the end of the compaction")
        vacuum(node, 7)


def test_clients_do_not_notice_vacuums(tmp_path: Path) -> None:
    """Of one volume again and again, of others by ``weed shell`` and by the master."""
    with (
        Master(tmp_path / "m") as master,
        Volumed(tmp_path / "v", master=master) as server,
        Node(server) as node,
        ThreadPoolExecutor() as threads,
    ):
        fids = [assign(master.address).fid for _ in range(60)]
        for fid in fids:
            assert upload(server.address, fid, fid.encode() * 100).status == 201
        for fid in fids[:40]:
            assert delete(server.address, fid).status == 202
        volumes = {int(fid.split(",")[0]) for fid in fids}
        node.run(allocate(70))
        stop = threading.Event()
        places = enumerate((70, 70, *volumes))
        clients = [Client(server.address, volume_id, number, stop) for number, volume_id in places]
        for client in clients:
            client.start()
        shell = threads.submit(weed_shell, master, "lock", "volume.vacuum -garbageThreshold 0.01", "unlock")
        for _ in range(12):
            vacuum(node, 70)
        shell.result(LIMIT_S)

        def all_vacuumed() -> bool:
            # The master leaves out what it believes to be busy.
            get(master.address, "/vol/vacuum?garbageThreshold=0.01", timeout_s=LIMIT_S)
            return all(sync_status(node, volume_id).compact_revision >= 1 for volume_id in volumes)

        wait_until(all_vacuumed, timeout_s=LIMIT_S, what="a vacuum of all volumes")
        stop.set()
        for client in clients:
            client.join()
        for _ in range(2):
            for client in clients:
                client.check_all()
                assert client.wrong == []
                assert client.requests > 20
            for fid in fids[40:]:
                assert get(server.address, f"/{fid}").body == fid.encode() * 100
            server.stop()
            server.start()


def sync_status(node: Node, volume_id: int) -> pb.VolumeSyncStatusResponse:
    return node.stub.VolumeSyncStatus(pb.VolumeSyncStatusRequest(volume_id=volume_id), timeout=LIMIT_S)
