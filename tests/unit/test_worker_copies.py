"""`workers.copies` on a real disk, with the shell's threads and answers run by hand."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.hand_shell import HandShell, start_call
from tests.storage_kit import BreakableFiles, Rig
from volumed.bus.calls import AllocateVolume
from volumed.bus.copy_calls import (
    CloseCopy,
    CopyMounted,
    CopyOpened,
    EndCopiedFile,
    LiveDeletions,
    LiveDeletionsView,
    MountCopy,
    OpenCopy,
    WriteCopy,
)
from volumed.bus.events import VolumeStatistics
from volumed.bus.staging import StagingArea
from volumed.errors import NodeError, VolumeBusy, VolumedError, VolumeExists, VolumeLoadError, VolumeNotFound
from volumed.formats.superblock import SuperBlock
from workers.copies import Copies

VOLUME = 7
DAT = SuperBlock(3).encode()


class Front:
    """A front, the copies of one disk, and what was told about volumes."""

    def __init__(self, rig: Rig, directory: Path) -> None:
        self.rig = rig
        self.shell = HandShell()
        self.area = StagingArea(str(directory), 4096)
        self.here = True
        self.told: list[tuple[list[int], list[int]]] = []
        self.reserved = 0
        self.copies = Copies(rig.disk, self.shell, lambda: self.reserved, self._tell, self._mount)

    def _tell(self, mounted: list[VolumeStatistics], gone: list[VolumeStatistics]) -> None:
        self.told.append(([item.report.id for item in mounted], [item.report.id for item in gone]))

    def _mount(self, volume_id: int, collection: str, done: Any, failed: Any) -> None:
        try:
            done(self.rig.disk.mount(volume_id, collection))
        except VolumedError as error:
            failed(error)

    def start(self, request: Any) -> list[Any]:
        """Make a call; its answer will be in the list."""
        return start_call(self.copies.handlers, request)

    def call(self, request: Any) -> Any:
        """The answer to a call; raises if it is an error."""
        (answer,) = self.start(request)
        if isinstance(answer, VolumedError):
            raise answer
        return answer

    def leave(self) -> None:
        """The front ends."""
        if self.here:
            self.area.close()
        self.here = False

    def open(self) -> int:
        opened: CopyOpened = self.call(OpenCopy(VOLUME, "pics", "10.0.0.1:8080", self.area.path))
        return opened.copy_id

    def write(self, copy_id: int, extension: str, content: bytes) -> None:
        self.area.fill(memoryview(content))
        self.call(WriteCopy(copy_id, extension, len(content)))

    def fill(self, copy_id: int) -> None:
        """An empty volume, complete."""
        self.write(copy_id, ".dat", DAT)
        self.write(copy_id, ".idx", b"")
        self.call(EndCopiedFile(copy_id, ".dat", 1_700_000_000_000_000_000))

    def names(self) -> set[str]:
        return {path.name for path in self.rig.directory.glob("pics_7*")}


@pytest.fixture
def files() -> BreakableFiles:
    return BreakableFiles()


@pytest.fixture
def rig(tmp_path: Path, files: BreakableFiles) -> Iterator[Rig]:
    rig = Rig(tmp_path, files)
    yield rig
    rig.close()


@pytest.fixture
def front(rig: Rig, tmp_path: Path) -> Iterator[Front]:
    front = Front(rig, tmp_path)
    yield front
    front.leave()


def test_a_volume_arrives(front, rig):
    copy_id = front.open()
    front.fill(copy_id)
    assert front.names() == {"pics_7.note", "pics_7.dat.copying", "pics_7.idx.copying"}
    assert (rig.directory / "pics_7.note").read_text() == "copying from 10.0.0.1:8080"
    assert front.call(MountCopy(copy_id, 8, 0)) == CopyMounted(0, 0, 0, 1_700_000_000)
    assert front.call(LiveDeletions(copy_id)) == LiveDeletionsView(0)
    assert front.names() == {"pics_7.dat", "pics_7.idx", "pics_7.vif"}
    front.call(CloseCopy(copy_id, keep=True))
    assert front.told == [([VOLUME], [])]
    front.leave()
    front.copies.tick()
    assert VOLUME in rig.disk.volumes
    assert front.start(WriteCopy(copy_id, ".dat", 0))[0].code == NodeError("").code


def test_a_volume_that_is_not_kept_is_gone(front):
    copy_id = front.open()
    front.fill(copy_id)
    front.call(MountCopy(copy_id, 8, 0))
    front.call(CloseCopy(copy_id, keep=False))
    assert front.told == [([VOLUME], []), ([], [VOLUME])]
    assert not front.names()
    front.call(CloseCopy(copy_id, keep=False))


def test_a_front_that_is_gone_leaves_nothing(front, rig):
    front.fill(front.open())
    front.copies.tick()
    assert "pics_7.note" in front.names()
    front.leave()
    front.copies.tick()
    assert not front.names()
    with pytest.raises(VolumeNotFound):
        rig.disk.status(VOLUME)


def test_what_a_thread_still_does_is_waited_for(front):
    copy_id = front.open()
    front.shell.waiting = []
    written = front.start(WriteCopy(copy_id, ".dat", 100))
    closed = front.start(CloseCopy(copy_id, keep=False))
    assert "there" not in str(front.start(WriteCopy(copy_id, ".dat", 1))[0])
    assert (len(front.shell.waiting), written, closed) == (1, [], [])
    while front.shell.waiting:
        front.shell.waiting.pop(0)()
    assert (len(written), len(closed)) == (1, 1)
    assert not front.names()


def test_a_volume_that_is_here_or_on_its_way_is_refused(front, rig):
    front.open()
    with pytest.raises(VolumeBusy):
        front.open()
    with pytest.raises(VolumeExists):
        rig.disk.allocate(AllocateVolume(VOLUME, "", 0, 0, 3))
    with pytest.raises(VolumeNotFound):
        rig.disk.mount(VOLUME)
    rig.disk.rescan()
    assert "pics_7.note" in front.names()


@pytest.mark.parametrize(
    ("sizes", "text"),
    [
        ((16, 0), "the dat file size [8] is not same as origin file size [16]"),
        ((8, 17), "pics_7.idx size [0] is not same as origin file size [17]"),
    ],
)
def test_sizes_must_be_as_announced(front, sizes, text):
    copy_id = front.open()
    front.fill(copy_id)
    with pytest.raises(VolumedError) as caught:
        front.call(MountCopy(copy_id, *sizes))
    assert caught.value.text.endswith(text)
    front.call(CloseCopy(copy_id, keep=False))
    assert not front.names()


def test_what_is_no_volume_is_not_mounted(front):
    copy_id = front.open()
    front.write(copy_id, ".dat", b"nonsense")
    front.write(copy_id, ".idx", b"")
    with pytest.raises(VolumeLoadError, match="^failed to mount or validate volume 7: "):
        front.call(MountCopy(copy_id, 8, 0))
    front.call(CloseCopy(copy_id, keep=False))
    assert not front.names()


def test_a_full_disk_is_told_and_leaves_nothing(front, files):
    copy_id = front.open()
    files.break_next("write_at", ".dat.copying", errno.ENOSPC)
    with pytest.raises(VolumedError, match=r"the copy of volume 7: \S+\.dat\.copying: no space left on device"):
        front.write(copy_id, ".dat", DAT)
    front.call(CloseCopy(copy_id, keep=False))
    assert not front.names()


@pytest.mark.parametrize("names", [(".note",), (".note", ".dat.copying"), (".note", ".dat", ".idx", ".vif.copying")])
def test_an_incomplete_volume_is_removed_at_the_start(rig, names):
    rig.close()
    for name in names:
        (rig.directory / f"pics_7{name}").write_bytes(DAT)
    (rig.directory / "pics_8.dat.copying").write_bytes(DAT)
    assert not rig.disk.volumes
    assert [path.name for path in rig.directory.glob("pics*")] == ["pics_8.dat.copying"]


def test_a_block_must_be_in_the_shared_memory(front):
    copy_id = front.open()
    for request in (WriteCopy(copy_id, ".dat", 5000), WriteCopy(copy_id, ".dat", -1), WriteCopy(copy_id, ".cpc", 1)):
        with pytest.raises(NodeError):
            front.call(request)
