"""Shards of other servers, played by a server of the test."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.erasure_kit import SmallVolume
from tests.processes import wait_until
from tests.shards_kit import mounted
from volumed.bus.calls import EcLocations, Location, LookupEcVolume
from volumed.config.node import NodeConfig
from volumed.erasure.layout import Interval
from volumed.errors import NeedleDeleted, RetryError, VolumedError
from volumed.security.settings import SecuritySettings, write_security
from volumed.shards import locations
from volumed.shards.elsewhere import OtherServers
from volumed.shards.gathering import NoAnswer, Patience
from volumed.shards.peers import ShardPeers, peer_address
from volumed.shards.view import EcView, NodeEcVolume
from volumed.storage.mounted_shards import MountedShards
from volumed.wire import volume_server_pb2 as pb
from volumed.wire import volume_server_pb2_grpc

WANTED = Interval(2, 100, 8)
RUN = 1_800_000_000 * 10**9
"""Identity of the encode run of `SmallVolume`."""
LIMIT = Patience(20.0, 20.0)


class Holder(volume_server_pb2_grpc.VolumeServerServicer):
    """Answers every read of a shard with these messages."""

    def __init__(self) -> None:
        self.answers: list[pb.VolumeEcShardReadResponse] = []
        self.asked: list[pb.VolumeEcShardReadRequest] = []
        self.deleted: list[int] = []

    def VolumeEcShardRead(self, request: Any, context: Any) -> Iterator[Any]:
        self.asked.append(request)
        if not self.answers:
            context.abort(grpc.StatusCode.UNKNOWN, "not found ec shard")
        yield from self.answers

    def VolumeEcBlobDelete(self, request: Any, _context: Any) -> Any:
        self.deleted.append(request.file_key)
        return pb.VolumeEcBlobDeleteResponse()


class Mounted:
    def __init__(self, disk: MountedShards) -> None:
        self._disk = disk

    def shards(self, _volume_id: int) -> list[MountedShards]:
        return [self._disk]


class Rig:
    """A volume with shard 0 here, a holder, and a master's answer."""

    def __init__(self, root: Path, holder: Holder, port: int) -> None:
        write_security(SecuritySettings(), str(root))
        small = SmallVolume(root / "d", needles=10)
        disk = mounted(small, small.encode(), [0])
        volume = EcView(Mounted(disk)).find(9)
        assert volume is not None
        self.volume: NodeEcVolume = volume
        self.holder = holder
        self.location = Location(f"127.0.0.1:{port - 1}", "", port)
        self.answer: EcLocations | RetryError = EcLocations({2: [self.location]})
        self.lookups = 0
        config = NodeConfig(
            runtime_dir=str(root), map_dir="", state_dir="", disks=(), ip="here", port=80, masters=("m:9333",)
        )
        self.peers = ShardPeers(str(root))
        self.elsewhere = OtherServers(config, self.look_up, self.peers)

    def look_up(self, request: LookupEcVolume, _timeout_s: float) -> EcLocations:
        assert request.volume_id == 9
        self.lookups += 1
        if isinstance(self.answer, RetryError):
            raise self.answer
        return self.answer

    def read(self, wanted: Interval = WANTED) -> bytes | None:
        started = self.elsewhere.start(self.volume, 5, wanted, LIMIT)
        return None if started is None else started.result(LIMIT.peer_s)


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    server = grpc.server(futures.ThreadPoolExecutor(2))
    holder = Holder()
    volume_server_pb2_grpc.add_VolumeServerServicer_to_server(holder, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield Rig(tmp_path, holder, port)
    server.stop(None).wait()


def message(data: bytes = b"", identity: int = RUN, *, deleted: bool = False) -> pb.VolumeEcShardReadResponse:
    return pb.VolumeEcShardReadResponse(data=data, encode_ts_ns=identity, is_deleted=deleted)


def test_a_piece_is_asked_for_by_needle_and_encode_run(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "_DOUBTED_S", 1000.0)
    rig.holder.answers = [message(b"1234"), message(b"5678")]
    assert rig.read() == b"12345678"
    (asked,) = rig.holder.asked
    assert (asked.volume_id, asked.shard_id, asked.offset, asked.size) == (9, 2, 100, 8)
    assert (asked.file_key, asked.encode_ts_ns) == (5, RUN)
    assert rig.read() == b"12345678"
    assert rig.lookups == 1, "what is known is not asked again"


@pytest.mark.parametrize(
    "answers",
    [[], [message(b"1234")], [message(b"12345678", 7)], [message(b"123456789")]],
    ids=["error", "too short", "another run", "too long"],
)
def test_answers_that_are_none(rig: Rig, answers: list[pb.VolumeEcShardReadResponse]) -> None:
    rig.holder.answers = answers
    assert rig.read() is None


def test_a_needle_that_is_deleted_there(rig: Rig) -> None:
    rig.holder.answers = [message(deleted=True)]
    with pytest.raises(NeedleDeleted):
        rig.read()


def test_the_next_server_is_asked(rig: Rig) -> None:
    rig.holder.answers = [message(b"12345678")]
    nobody = Location("127.0.0.1:1", "", 1)
    rig.answer = EcLocations({2: [nobody, rig.location]})
    assert rig.read() == b"12345678"


def test_a_server_that_does_not_answer_is_late(rig: Rig) -> None:
    rig.answer = EcLocations({2: [Location("127.0.0.1:1", "", 1)]})
    for _ in range(2):
        with pytest.raises(NoAnswer) as failure:
            rig.read()
        assert failure.value.late


def test_this_server_and_shards_that_nobody_has(rig: Rig) -> None:
    rig.answer = EcLocations({2: [Location("here:80", "", 18080)]})
    assert rig.elsewhere.start(rig.volume, 5, WANTED, LIMIT) is None
    assert rig.elsewhere.start(rig.volume, 5, Interval(3, 0, 8), LIMIT) is None
    assert rig.elsewhere.locations(rig.volume, 2, LIMIT) == []


def test_a_master_that_cannot_be_asked(rig: Rig) -> None:
    rig.answer = RetryError("lookup ec volume 9: rpc error: code = Unavailable desc = gone")
    assert rig.read() is None
    assert rig.elsewhere.lookup_failure(9) == (
        "failed to locate shard via master grpc m:9333: lookup ec volume 9: rpc error: code = Unavailable desc = gone"
    )
    assert rig.elsewhere.lookup_failure(8) == ""


def test_one_look_up_for_all_who_want_to_know(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locations, "_DOUBTED_S", 1000.0)
    rig.holder.answers = [message(b"12345678")]
    found: list[bytes | None] = []
    threads = [threading.Thread(target=lambda: found.append(rig.read())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"12345678"] * 8
    assert rig.lookups == 1


def test_who_only_wants_to_know_what_is_lost_has_the_master_asked_ahead(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No read waits for that, as long as reads go on."""
    monkeypatch.setattr(locations, "_DOUBTED_S", 1000.0)
    assert rig.read(Interval(4, 0, 8)) is None
    assert rig.elsewhere.is_lost(9, 4)
    assert rig.lookups == 1, "what has just been said is believed"
    monkeypatch.setattr(locations, "_AHEAD_S", 1000.0)

    def has_asked_again() -> bool:
        assert rig.elsewhere.is_lost(9, 4), "all the time"
        return rig.lookups > 2

    wait_until(has_asked_again, timeout_s=LIMIT.peer_s, what="the master is asked again")
    rig.answer = EcLocations({4: [rig.location]})
    wait_until(lambda: not rig.elsewhere.is_lost(9, 4), timeout_s=LIMIT.peer_s, what="the shard is found")


def test_a_deletion_there(rig: Rig) -> None:
    rig.holder.answers = [message(deleted=True)]
    rig.peers.delete(peer_address(rig.location), rig.volume, 5, 2, LIMIT.peer_s)
    assert rig.holder.deleted == [5]
    (asked,) = rig.holder.asked
    assert (asked.shard_id, asked.file_key, asked.encode_ts_ns) == (2, 5, RUN)


@pytest.mark.parametrize("answers", [[], [message(b"1", 7)]], ids=["no such shard", "another run"])
def test_a_deletion_where_the_shard_is_no_more(rig: Rig, answers: list[pb.VolumeEcShardReadResponse]) -> None:
    """Who has the volume no more says yes to any deletion."""
    rig.holder.answers = answers
    with pytest.raises(VolumedError):
        rig.peers.delete(peer_address(rig.location), rig.volume, 5, 2, LIMIT.peer_s)
