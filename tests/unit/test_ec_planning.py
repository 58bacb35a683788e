"""Shards are brought together on the disks that answer, whatever the others do."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from supervisor import shard_lanes
from supervisor.ec_start import EcStart
from supervisor.loop import Loop
from volumed.bus import ec_calls
from volumed.bus.calls import Request
from volumed.errors import RetryError
from volumed.shards import planner

DISKS = 3
HUNG, SOUND, OTHER = range(DISKS)
OF_HUNG, OF_OTHER = 5, 6
"""Volumes whose index is on that disk only; all disks have shards of both."""
LIMIT_S = 30.0
SHORT_S, AT_ONCE_S = 0.05, 1.0


class Workers:
    """Disks that note what they have done; ``hangs`` tells which calls wait for `thawed`."""

    def __init__(self) -> None:
        self.thawed = threading.Event()
        self.done: list[tuple[int, str, int]] = []
        self.hangs: Callable[[int, Request], bool] = lambda _disk, _request: False
        self.indexed = {OF_HUNG: {HUNG}, OF_OTHER: {OTHER}}
        self.deletions: tuple[int, int] | None = None

    def call(self, disk_id: int, request: Any, timeout_s: float) -> Any:
        limit_s = timeout_s if timeout_s < AT_ONCE_S else LIMIT_S
        if self.hangs(disk_id, request) and not self.thawed.wait(limit_s):
            raise RetryError(f"no answer within {timeout_s:g} s")
        self.done.append((disk_id, type(request).__name__, request.volume_id))
        if isinstance(request, ec_calls.ListEcFiles):
            return self._listing(disk_id)
        return ec_calls.ShardsMounted([]) if isinstance(request, ec_calls.MountShards) else None

    def mounted(self) -> set[tuple[int, int]]:
        return {(disk, volume) for disk, name, volume in list(self.done) if name == "MountShards"}

    def merged(self) -> set[tuple[int, int]]:
        return {(disk, volume) for disk, name, volume in list(self.done) if name == "MergeDeletions"}

    def _listing(self, disk_id: int) -> ec_calls.EcListing:
        volumes = []
        for volume_id, disks in self.indexed.items():
            data = {".ecx": 17, ".ecj": 8, ".vif": 9} if disk_id in disks else {}
            view = ec_calls.EcFilesView("", volume_id, {disk_id: 100}, [], data, {}, [], deletions=self.deletions)
            volumes.append(view)
        return ec_calls.EcListing(ec_calls.EcDirectories(f"/{disk_id}", f"/{disk_id}"), volumes)


class Rig:
    def __init__(self) -> None:
        self.loop = Loop()
        self.workers = Workers()
        self.start = EcStart(self.loop, self.workers.call, lambda: list(range(DISKS)), DISKS)
        self.has_begun = threading.Event()

    def begin(self) -> None:
        self.start.begin(self.has_begun.set)

    def until(self, holds: Callable[[], bool]) -> None:
        late = self.loop.call_later(LIMIT_S, self.loop.stop)

        def look() -> None:
            if holds():
                self.loop.stop()
            else:
                self.loop.call_later(0.005, look)

        look()
        if not holds():
            self.loop.run()
        late.cancel()
        assert holds()


@pytest.fixture
def rig(monkeypatch: pytest.MonkeyPatch) -> Iterator[Rig]:
    monkeypatch.setattr(planner, "_LIST_TIMEOUT_S", SHORT_S)
    monkeypatch.setattr(shard_lanes, "_SHORT_S", SHORT_S)
    made = Rig()
    yield made
    made.workers.thawed.set()


def test_all_disks_answer(rig: Rig) -> None:
    rig.begin()
    rig.until(rig.has_begun.is_set)
    assert rig.workers.mounted() == {(disk, volume) for disk in range(DISKS) for volume in (OF_HUNG, OF_OTHER)}


def test_a_disk_that_is_not_even_listed(rig: Rig) -> None:
    rig.workers.hangs = lambda disk, _: disk == HUNG
    rig.begin()
    rig.until(rig.has_begun.is_set)
    assert rig.workers.mounted() == {(SOUND, OF_OTHER), (OTHER, OF_OTHER)}


def test_a_disk_that_hangs_while_it_mounts(rig: Rig) -> None:
    """Then comes back, and hangs again; meanwhile another one comes back."""
    rig.workers.hangs = lambda disk, request: disk == HUNG and isinstance(request, ec_calls.MountShards)
    rig.begin()
    both = {OF_HUNG, OF_OTHER}
    sound = {(disk, volume) for disk in (SOUND, OTHER) for volume in both}
    rig.until(lambda: rig.workers.mounted() == sound)
    for _ in range(10):
        rig.start.disk_ready(HUNG)
    rig.workers.done.clear()
    rig.start.disk_ready(SOUND)
    rig.until(lambda: rig.workers.mounted() >= {(SOUND, volume) for volume in both})


def test_a_disk_that_hangs_while_others_read_it(rig: Rig) -> None:
    """What is read from it comes when it can; deletions are merged after it is mounted."""

    def reads_hung(_disk: int, request: Request) -> bool:
        if isinstance(request, ec_calls.MirrorSidecars):
            return request.source.data == f"/{HUNG}"
        return False

    rig.workers.hangs = reads_hung
    rig.begin()
    rig.until(rig.has_begun.is_set)
    own = {(HUNG, OF_HUNG), (OTHER, OF_OTHER), (SOUND, OF_OTHER), (HUNG, OF_OTHER)}
    assert rig.workers.mounted() == own
    rig.workers.indexed = {volume: set(range(DISKS)) for volume in (OF_HUNG, OF_OTHER)}
    rig.workers.done.clear()
    rig.workers.thawed.set()
    late = {(SOUND, OF_HUNG), (OTHER, OF_HUNG)}
    rig.until(lambda: rig.workers.mounted() >= late and rig.workers.merged() >= late)


def test_disks_that_know_the_same_tell_each_other_nothing(rig: Rig) -> None:
    rig.workers.indexed = {OF_HUNG: set(range(DISKS))}
    steps = planner.ShardPlanner(rig.workers.call, DISKS).merges(range(DISKS))
    assert [step.disk_id for step in steps] == list(range(DISKS))
    rig.workers.deletions = (1, 5)
    assert not planner.ShardPlanner(rig.workers.call, DISKS).merges(range(DISKS))
