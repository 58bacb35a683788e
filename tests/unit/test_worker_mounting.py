"""Mounting in steps: what happens between them, and that a volume is the same however it was mounted."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.storage_kit import Rig, put
from volumed.bus.calls import AllocateVolume
from volumed.bus.events import VolumeStatistics
from volumed.errors import VolumeExists
from volumed.formats.idx import pack_rows
from volumed.storage import map_load
from workers import map_slices
from workers.host import Work
from workers.mounting import Mounting

NEEDLES = 7
SLICE = 2


class Steps:
    """The shell's part: each step waits until the test takes it."""

    def __init__(self) -> None:
        self.waiting: deque[Callable[[], None]] = deque()

    def post(self, action: Callable[[], None]) -> None:
        self.waiting.append(action)

    def in_background(
        self, work: Callable[[], Any], done: Callable[[Any], None], failed: Callable[[Exception], None], _kind: Work
    ) -> None:
        def step() -> None:
            try:
                result = work()
            except Exception as error:
                failed(error)
            else:
                done(result)

        self.post(step)

    def take_all(self) -> int:
        """How many steps it took."""
        taken = 0
        while self.waiting:
            self.waiting.popleft()()
            taken += 1
        return taken


class Mounts:
    """A disk with volumes 1 and 2, of which 1 is not mounted and not in the map."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.steps = Steps()
        self.mounting = Mounting(rig.disk, self.steps)  # type: ignore[arg-type]
        self.outcomes: list[VolumeStatistics | Exception | None] = []
        for volume_id in (1, 2):
            rig.allocate(volume_id)
            rig.store(*(put(key, b"%d" % key, volume_id=volume_id) for key in range(1, NEEDLES + 1)))
        self.before = rig.counters()
        rig.disk.unmount(1)
        with rig.disk.site.map.begin() as txn:
            txn.drop_volume(1)

    def mount(self) -> None:
        self.mounting.mount(1, "", self.outcomes.append, self.outcomes.append)

    def contents(self) -> list[bytes]:
        return [bytes(self.rig.read(1, key).data) for key in range(1, NEEDLES + 1)]


@pytest.fixture
def mounts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mounts]:
    monkeypatch.setattr(map_slices, "SLICE_ROWS", SLICE)
    rig = Rig(tmp_path)
    yield Mounts(rig)
    rig.close()


def refuse_rebuild(*_: object) -> None:
    raise AssertionError("the whole index is read on the loop thread")


def test_the_map_fits_when_the_volume_is_mounted(mounts: Mounts, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts.mount()
    mounts.steps.waiting.popleft()()
    monkeypatch.setattr(map_load, "_scan", refuse_rebuild)
    slices = -(-NEEDLES // SLICE)
    assert mounts.steps.take_all() == slices - 1
    (mounted,) = mounts.outcomes
    assert isinstance(mounted, VolumeStatistics)
    assert mounts.rig.counters() == mounts.before
    assert mounts.contents() == [b"%d" % key for key in range(1, NEEDLES + 1)]


def test_between_steps_others_are_served_and_the_volume_is_nobodys(mounts: Mounts) -> None:
    mounts.mount()
    while mounts.steps.waiting:
        assert 1 not in mounts.rig.disk.volumes
        (stored,) = mounts.rig.store(put(99, b"meanwhile", volume_id=2))
        assert stored.error is None
        with pytest.raises(VolumeExists):
            mounts.rig.disk.allocate(AllocateVolume(1, "", 0, 0, 3))
        assert mounts.rig.disk.rescan() == []
        mounts.steps.waiting.popleft()()
    assert 1 in mounts.rig.disk.volumes


def test_who_comes_second_gets_the_same_volume(mounts: Mounts) -> None:
    mounts.mount()
    mounts.mount()
    mounts.steps.take_all()
    first, second = mounts.outcomes
    assert (isinstance(first, VolumeStatistics), second) == (True, None)
    mounts.mount()
    assert (mounts.outcomes[-1], len(mounts.steps.waiting)) == (None, 0)


def test_what_has_changed_since_is_noticed(mounts: Mounts) -> None:
    mounts.mount()
    mounts.steps.waiting.popleft()()
    with open(mounts.rig.path("1.idx"), "ab") as index:
        index.write(pack_rows([(1, 0, -1)], mounts.rig.disk.site.offset_width))
    mounts.steps.take_all()
    assert isinstance(mounts.outcomes[0], VolumeStatistics)
    assert mounts.rig.counters()[2] == 1


@pytest.mark.parametrize("missing", [[".dat"], [".dat", ".idx", ".vif"]], ids=["no data", "nothing"])
def test_what_cannot_be_prepared_fails_as_ever(mounts: Mounts, missing: list[str]) -> None:
    for extension in missing:
        mounts.rig.path(f"1{extension}").unlink()
    mounts.mount()
    mounts.steps.take_all()
    (error,) = mounts.outcomes
    assert isinstance(error, Exception)
    assert "volume 1 not found on disk" in str(error)
    assert not mounts.rig.disk.arriving


def test_a_rescan_prepares_what_appeared(mounts: Mounts, monkeypatch: pytest.MonkeyPatch) -> None:
    mounts.rig.disk.unmount(2)
    added: list[VolumeStatistics] = []
    mounts.mounting.rescan(added.extend, mounts.outcomes.append)
    mounts.steps.waiting.popleft()()
    monkeypatch.setattr(map_load, "_scan", refuse_rebuild)
    mounts.steps.take_all()
    assert ([item.report.id for item in added], mounts.outcomes) == ([1, 2], [])
    assert mounts.contents()[0] == b"1"


def test_outdated_entries_go_in_slices(mounts: Mounts) -> None:
    """Those of a map that did not fit any more."""
    mounts.mount()
    mounts.steps.take_all()
    old = mounts.rig.disk.volumes[1].map_id
    mounts.rig.disk.unmount(1)
    index = mounts.rig.path("1.idx")
    copy = index.with_suffix(".copy")
    copy.write_bytes(index.read_bytes())
    copy.replace(index)
    mounts.mount()
    mounts.steps.take_all()
    with mounts.rig.disk.site.map.begin() as txn:
        assert txn.map_ids() == {mounts.rig.disk.volumes[n].map_id for n in (1, 2)}
    assert mounts.rig.disk.volumes[1].map_id != old
    assert len(mounts.contents()) == NEEDLES
