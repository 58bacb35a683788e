"""Shards whose files somebody removes while they are mounted."""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.ec_sets import EncodedSet
from tests.hand_shell import HandShell
from tests.storage_kit import Rig
from volumed.bus.ec_calls import MountShards
from volumed.bus.events import DiskHealth, ShardsChanged
from volumed.storage.fileio import FileIO, FileStatus
from volumed.storage.needle_map import MapError
from workers.ec_volumes import EcVolumes
from workers.ec_watch import EcWatch
from workers.volumes import VolumeHost

VOLUME = 7


class SickFiles(FileIO):
    """A disk that can fail to tell what is on it."""

    listing: OSError | None = None
    looking: OSError | None = None
    hidden = ""
    """A name that listings leave out."""

    def list_directory(self, path: str) -> list[str]:
        if self.listing is not None:
            raise self.listing
        return [name for name in super().list_directory(path) if name != self.hidden]

    def look(self, path: str) -> FileStatus:
        if self.looking is not None:
            raise self.looking
        return super().look(path)


class Watched:
    """Volume 7 with shards 1, 3 and 4 on a disk of its own."""

    def __init__(self, root: Path, encoded: EncodedSet) -> None:
        self.files = SickFiles()
        self.rig = Rig(root, self.files)
        encoded.place(self.rig.directory, VOLUME, (1, 3, 4))
        self.shell = HandShell()
        self.volumes = EcVolumes(self.rig.disk, self.shell, 1)
        self.watch = EcWatch(self.rig.disk, self.shell, self.volumes)
        self.mount()

    def mount(self) -> None:
        errors: list[Exception] = []
        self.volumes.mount(MountShards(VOLUME, "", []), lambda _: None, errors.append)
        assert errors == []

    def minute(self) -> list[int]:
        """What is mounted after a minute."""
        for _ in range(60):
            self.watch.tick()
        volume = self.volumes.volumes.get(VOLUME)
        return sorted(volume.shards) if volume else []

    def remove(self, *shards: int) -> None:
        for shard in shards:
            self.rig.path(f"{VOLUME}.ec{shard:02}").unlink()

    @property
    def gone(self) -> list[dict[int, int]]:
        """Shards that the supervisor was told are gone."""
        events = [event for event in self.shell.published if isinstance(event, ShardsChanged)]
        return [report.shards for event in events for report in event.gone]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    return EncodedSet(tmp_path_factory.mktemp("set") / "files")


@pytest.fixture
def watched(tmp_path: Path, encoded: EncodedSet) -> Iterator[Watched]:
    watched = Watched(tmp_path, encoded)
    yield watched
    watched.rig.close()


def test_a_shard_that_is_removed_is_unmounted_told_and_logged(
    watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    assert watched.minute() == [1, 3, 4]
    watched.remove(3)
    with caplog.at_level(logging.ERROR):
        assert watched.minute() == [1, 4]
    assert watched.gone == [{3: 0}]
    assert [record.message for record in caplog.records] == [
        f"{watched.rig.directory}: shard 7.3 is lost: somebody has removed its file; it is unmounted"
    ]
    assert watched.watch.problem == ""
    watched.remove(1, 4)
    assert watched.minute() == []


def test_it_can_be_mounted_again_when_it_is_back(watched: Watched, encoded: EncodedSet) -> None:
    watched.remove(3)
    assert watched.minute() == [1, 4]
    encoded.place(watched.rig.directory, VOLUME, (3,), ())
    watched.mount()
    assert watched.minute() == [1, 3, 4]


def test_a_directory_that_is_not_the_disks_says_nothing(watched: Watched) -> None:
    """As after an unmount: the directory is there, and empty or another disk's."""
    elsewhere = watched.rig.directory.with_name("elsewhere")
    watched.rig.directory.rename(elsewhere)
    watched.rig.directory.mkdir()
    try:
        for found in (None, "", "6a0d9b5e-2f10-4c57-8a5c-6d8f3b7b2a11"):
            if found is not None:
                (watched.rig.directory / "vol_dir.uuid").write_text(found)
            assert watched.minute() == [1, 3, 4]
            assert watched.watch.problem == (
                f"{watched.rig.directory} does not hold this disk any more: is it unmounted?"
            )
        (watched.rig.directory / "vol_dir.uuid").unlink()
    finally:
        watched.rig.directory.rmdir()
        elsewhere.rename(watched.rig.directory)
    assert watched.minute() == [1, 3, 4]
    assert watched.watch.problem == ""
    assert watched.gone == []


def test_a_disk_that_fails_says_nothing(watched: Watched) -> None:
    watched.remove(3)
    watched.files.listing = OSError(errno.EIO, os.strerror(errno.EIO))
    assert watched.minute() == [1, 3, 4]
    watched.files.listing, watched.files.looking = None, OSError(errno.EIO, os.strerror(errno.EIO))
    assert watched.minute() == [1, 3, 4]
    watched.files.looking = None
    assert watched.minute() == [1, 4]


def test_a_listing_alone_convinces_nobody(watched: Watched) -> None:
    watched.files.hidden = f"{VOLUME}.ec03"
    assert watched.minute() == [1, 3, 4]


def test_a_disk_that_hangs_is_asked_once(watched: Watched) -> None:
    watched.shell.waiting = []
    assert watched.minute() == [1, 3, 4]
    assert watched.minute() == [1, 3, 4]
    assert len(watched.shell.waiting) == 1
    watched.shell.go_on()


def test_a_shard_that_is_being_replaced_is_looked_at_after_that(watched: Watched, encoded: EncodedSet) -> None:
    watched.remove(3)
    ends: list[Any] = []
    watched.volumes.turns.take(VOLUME, ends.append)
    assert watched.minute() == [1, 3, 4]
    encoded.place(watched.rig.directory, VOLUME, (3,), ())
    ends[0]()
    assert watched.minute() == [1, 3, 4]
    assert watched.gone == []


def test_what_is_unmounted_meanwhile_is_not_told_twice(watched: Watched, caplog: pytest.LogCaptureFixture) -> None:
    watched.remove(3)
    for _ in range(59):
        watched.watch.tick()
    watched.shell.waiting = []
    watched.watch.tick()
    watched.volumes.unmount(VOLUME, [3])
    watched.shell.go_on()
    assert watched.gone == [{3: 0}]
    assert "is lost" not in caplog.text


def test_a_map_that_cannot_be_written_leaves_all_as_it_is(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise MapError("it is full")

    watched.remove(3)
    monkeypatch.setattr(watched.rig.disk.site.map, "begin", fail)
    assert watched.minute() == [1, 3, 4]
    assert "unmount ec volume 7: it is full" in caplog.text


def test_a_worker_looks_by_itself_and_tells_when_the_disk_is_away(watched: Watched) -> None:
    shell: Any = watched.shell
    host = VolumeHost(watched.rig.disk, msgspec.structs.replace(watched.rig.node, probe=None), 1, shell)
    host.introduce()
    watched.remove(3)
    for _ in range(60):
        host.tick()
    assert watched.gone == [{3: 0}]
    uuid = watched.rig.directory / "vol_dir.uuid"
    uuid.rename(watched.rig.directory / "away")
    watched.remove(4)
    for _ in range(60):
        host.tick()
    (watched.rig.directory / "away").rename(uuid)
    for _ in range(60):
        host.tick()
    assert watched.gone == [{3: 0}, {4: 0}]
    problems = [event.problem for event in watched.shell.published if isinstance(event, DiskHealth)]
    assert problems == [f"{watched.rig.directory} does not hold this disk any more: is it unmounted?", ""]
