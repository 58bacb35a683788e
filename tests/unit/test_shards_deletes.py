"""Who writes a deletion in shards to its journal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.erasure_kit import RATIO, SmallVolume
from tests.shards_kit import FakeElsewhere, SmallNode, mounted
from volumed.bus.calls import Location, Request
from volumed.erasure.errors import EcCookieMismatch
from volumed.errors import DiskUnavailable, RetryError, VolumedError, VolumeNotFound
from volumed.shards.deletes import EcDeletes
from volumed.shards.gathering import Patience
from volumed.shards.view import NodeEcVolume

LIMIT_S = 60.0
KEY = 5
OLD, NEW = Location("old:80", ""), Location("new:80", "")


class Workers:
    """They journal, unless told what goes wrong on a disk."""

    def __init__(self, **wrong: VolumedError) -> None:
        self._wrong = wrong
        self.journaled: list[int] = []
        self.then: Callable[[], object] = lambda: None
        """Called when a disk has journalled."""

    def worker(self, disk_id: int, _request: Request, _timeout_s: float) -> None:
        if error := self._wrong.get(f"disk_{disk_id}"):
            raise error
        self.journaled.append(disk_id)
        self.then()

    def supervisor(self, _request: Request, _timeout_s: float) -> Any:
        raise AssertionError("nobody asks it")


class Peers:
    """Only one server knows the volume."""

    def __init__(self, knows: str = "") -> None:
        self._knows = knows
        self.asked: list[str] = []

    def delete(self, address: str, _volume: NodeEcVolume, _key: int, _shard: int, _timeout_s: float) -> None:
        self.asked.append(address)
        if address != self._knows:
            raise RetryError(f"{address} has not deleted it")


class Moving(FakeElsewhere):
    """The shards that are not here have moved; the master tells of it when it is asked again."""

    def locations(self, volume: NodeEcVolume, _shard: int, _patience: Patience) -> list[Location]:
        del volume
        return [NEW] if self.asked_again else [OLD]

    asked_again = False

    def renew(self, volume_id: int) -> None:
        del volume_id
        self.asked_again = True


class Rig:
    """A volume with shard 0, in which all needles begin, on two disks or none."""

    def __init__(self, volume: SmallVolume, workers: Workers, peers: Peers, *, is_here: bool = True) -> None:
        encoded = volume.encode()
        shards = range(RATIO.total) if is_here else range(1, RATIO.total)
        self.node = SmallNode(Moving(volume), *(mounted(volume, encoded, shards, disk_id=disk) for disk in range(2)))
        self.deletes = EcDeletes(self.node.reader, self.node.elsewhere, peers, workers)  # type: ignore[arg-type]
        self.cookie = self.node.reader.read(self.node.volume, KEY).needle.cookie

    def delete(self) -> int:
        return self.deletes.delete(self.node.volume, KEY, self.cookie)


@pytest.fixture
def volume(tmp_path_factory: pytest.TempPathFactory) -> SmallVolume:
    return SmallVolume(tmp_path_factory.mktemp("deletes") / "d", needles=10)


def test_every_disk_journals(volume: SmallVolume) -> None:
    workers = Workers()
    assert Rig(volume, workers, Peers()).delete() > 0
    assert sorted(workers.journaled) == [0, 1]


def test_another_cookie(volume: SmallVolume) -> None:
    workers = Workers()
    rig = Rig(volume, workers, Peers())
    with pytest.raises(EcCookieMismatch) as mismatch:
        rig.deletes.delete(rig.node.volume, KEY, rig.cookie + 1)
    assert mismatch.value.text == f"unexpected cookie {rig.cookie + 1:x}"
    assert workers.journaled == []
    rig.deletes.delete(rig.node.volume, KEY, 0)
    assert sorted(workers.journaled) == [0, 1], "none is any"


def test_the_disks_journal_at_the_same_time(volume: SmallVolume) -> None:
    workers, both = Workers(), threading.Barrier(2)
    workers.then = lambda: both.wait(LIMIT_S)
    Rig(volume, workers, Peers()).delete()
    assert sorted(workers.journaled) == [0, 1]


def test_a_disk_that_has_unmounted_it_need_not(volume: SmallVolume) -> None:
    workers = Workers(disk_0=VolumeNotFound.of(9))
    Rig(volume, workers, Peers()).delete()
    assert workers.journaled == [1]


def test_a_disk_that_comes_back_meanwhile_journals_too(volume: SmallVolume) -> None:
    """Later it could learn it only from the others, which may have been asked already."""
    workers = Workers()
    rig = Rig(volume, workers, Peers())
    back = rig.node.disks.pop()
    workers.then = lambda: rig.node.disks.append(back) if back not in rig.node.disks else None
    rig.delete()
    assert workers.journaled == [0, 1]


def test_an_error_of_one_disk_is_told_after_all_have_tried(volume: SmallVolume) -> None:
    workers = Workers(disk_0=DiskUnavailable("disk 0 is stuck"))
    with pytest.raises(DiskUnavailable):
        Rig(volume, workers, Peers()).delete()
    assert workers.journaled == [1]


def test_no_deletion_is_acknowledged_that_no_journal_has(volume: SmallVolume) -> None:
    """The volume was unmounted here after it was read: another server is asked, and if none helps, it has failed."""
    gone = VolumeNotFound.of(9)
    helped = Peers(knows="new:80")
    Rig(volume, Workers(disk_0=gone, disk_1=gone), helped).delete()
    assert helped.asked == ["old:80", "new:80"]
    with pytest.raises(RetryError):
        Rig(volume, Workers(disk_0=gone, disk_1=gone), Peers()).delete()


def test_shards_that_have_moved_are_looked_for_again(volume: SmallVolume) -> None:
    workers, peers = Workers(), Peers(knows="new:80")
    Rig(volume, workers, peers, is_here=False).delete()
    assert (peers.asked, workers.journaled) == (["old:80", "new:80"], [])
