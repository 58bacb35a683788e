"""A server that does not answer keeps nobody waiting who does not need it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.erasure_kit import SmallVolume
from tests.processes import wait_until
from tests.shards_kit import FakeElsewhere, SmallNode, mounted
from volumed.bus.calls import EcLocations, Location, LookupEcVolume
from volumed.codes import Code
from volumed.config.node import NodeConfig
from volumed.erasure.layout import Interval
from volumed.errors import NeedleDeleted
from volumed.shards import elsewhere
from volumed.shards.elsewhere import OtherServers
from volumed.shards.gathering import HASTY, PATIENT, NoAnswer
from volumed.shards.peers import PeerError, peer_address
from volumed.shards.view import NodeEcVolume

LIMIT_S = 30.0
SILENT, SOUND = Location("silent:1", "", 1), Location("sound:1", "", 1)
ON_SILENT, ON_SOUND, ON_BOTH = Interval(2, 0, 8), Interval(3, 0, 8), Interval(4, 0, 8)
READS = 200


class Peers:
    """In place of `ShardPeers`: the time of the silent server is up when it is `released`."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.asked: list[str] = []
        self.limits: list[float] = []
        self.answer: bytes | NeedleDeleted | None = None
        """Of the silent server, when it is silent no more."""

    def read(self, address: str, _volume: Any, _key: int, wanted: Interval, timeout_s: float) -> bytes:
        self.asked.append(address)
        self.limits.append(timeout_s)
        if address == peer_address(SILENT):
            self.released.wait()
            if isinstance(self.answer, NeedleDeleted):
                raise self.answer
            if self.answer is not None:
                return self.answer
            late = PeerError("deadline exceeded", Code.DEADLINE_EXCEEDED)
            late.silent = True
            raise late
        return bytes(wanted.length)

    def count(self, location: Location) -> int:
        return self.asked.count(peer_address(location))


class Rig:
    def __init__(self, root: Path) -> None:
        small = SmallVolume(root / "d", needles=10)
        node = SmallNode(FakeElsewhere(small), mounted(small, small.encode(), [0]))
        self.volume: NodeEcVolume = node.volume
        self.peers: Any = Peers()
        config = NodeConfig(runtime_dir="", map_dir="", state_dir="", disks=(), ip="here", port=80)
        self.elsewhere = OtherServers(config, self.look_up, self.peers)

    def look_up(self, _request: LookupEcVolume, _timeout_s: float) -> EcLocations:
        return EcLocations({2: [SILENT], 3: [SOUND], 4: [SILENT, SOUND]})

    def start(self, wanted: Interval, patience: Any = PATIENT) -> Any:
        return self.elsewhere.start(self.volume, 5, wanted, patience, recovers=False)

    def is_late(self, started: Any) -> bool:
        error = started.exception(LIMIT_S)
        return isinstance(error, NoAnswer) and error.late


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    made = Rig(tmp_path)
    yield made
    made.peers.released.set()


def test_others_are_asked_while_a_server_is_silent(rig: Rig) -> None:
    for _ in range(READS):
        rig.start(ON_SILENT)
    wait_until(lambda: rig.peers.count(SILENT) > 0, timeout_s=LIMIT_S, what="a question")
    assert rig.start(ON_SOUND).result(LIMIT_S) == bytes(8)


def test_one_read_finds_out_whether_a_server_answers_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others do without it meanwhile, and do not wait for it every few seconds."""
    rig.peers.released.set()
    monkeypatch.setattr(elsewhere, "_SILENT_S", 0.0)
    assert rig.is_late(rig.start(ON_SILENT, HASTY))
    rig.peers.released.clear()
    monkeypatch.setattr(elsewhere, "_SILENT_S", LIMIT_S)
    first = rig.start(ON_SILENT, HASTY)
    wait_until(lambda: rig.peers.count(SILENT) == 2, timeout_s=LIMIT_S, what="the first question")
    assert all(rig.is_late(rig.start(ON_SILENT, HASTY)) for _ in range(20))
    assert rig.peers.count(SILENT) == 2
    rig.peers.released.set()
    assert rig.is_late(first)


@pytest.mark.parametrize("answer", [b"12345678", b"", NeedleDeleted()], ids=["bytes", "none", "deleted"])
def test_who_answers_is_not_silent_any_more(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, answer: bytes | NeedleDeleted
) -> None:
    rig.peers.released.set()
    monkeypatch.setattr(elsewhere, "_SILENT_S", 0.0)
    assert rig.is_late(rig.start(ON_SILENT, HASTY))
    monkeypatch.setattr(elsewhere, "_SILENT_S", LIMIT_S)
    rig.peers.answer = answer
    for _ in range(3):
        started = rig.start(ON_SILENT, HASTY)
        if isinstance(answer, NeedleDeleted):
            assert isinstance(started.exception(LIMIT_S), NeedleDeleted)
        else:
            assert started.result(LIMIT_S) == (answer or None)


def test_who_waits_hears_that_a_server_is_silent_before_he_gives_up(rig: Rig) -> None:
    """Else he asks it again at once, to recover what it has not given."""
    for patience in (HASTY, PATIENT):
        assert rig.start(ON_SOUND, patience).result(LIMIT_S) == bytes(8)
    hasty_s, patient_s = rig.peers.limits
    assert hasty_s < HASTY.peer_s
    assert patient_s < PATIENT.peer_s


def test_who_answers_is_asked_first(rig: Rig) -> None:
    """Also by who has the patience to wait for the other one, which would take all his time."""
    rig.peers.released.set()
    assert rig.is_late(rig.start(ON_SILENT))
    rig.peers.released.clear()
    assert rig.start(ON_BOTH).result(LIMIT_S) == bytes(8)
