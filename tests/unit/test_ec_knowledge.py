"""What a worker learns from the files of other disks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.ec_sets import EncodedSet
from tests.erasure_kit import WIDTH, SmallVolume
from tests.hand_shell import HandShell, start_call
from tests.storage_kit import Rig
from volumed.bus.calls import Empty
from volumed.bus.ec_calls import EcDirectories, MergeDeletions, MountShards
from volumed.erasure.index import fold
from volumed.erasure.journal import decode_journal, encode_journal
from volumed.formats.vif import decode_vif, encode_vif
from volumed.storage.fileio import FileIO
from workers.ec_journals import EcJournals
from workers.ec_volumes import EcVolumes

VOLUME = 7


class Disks:
    """One with a worker, and the directories of two others."""

    def __init__(self, home: Path, encoded: EncodedSet) -> None:
        self.home = home
        self.rig = Rig(home)
        self.directories = {"own": self.rig.directory, "a": home / "a", "b": home / "b"}
        for directory in self.directories.values():
            encoded.place(directory, VOLUME)
        self.volumes = EcVolumes(self.rig.disk, HandShell(), 1)
        journals = EcJournals(self.rig.disk, HandShell(), self.volumes)
        self.handlers = self.volumes.handlers | journals.handlers

    def mount(self) -> None:
        start_call(self.handlers, MountShards(VOLUME, "", [0, 1]))

    def path(self, disk: str, extension: str) -> Path:
        return self.directories[disk] / f"{VOLUME}{extension}"

    def delete(self, disk: str, *keys: int) -> None:
        self.path(disk, ".ecj").write_bytes(encode_journal(keys))

    def fold(self, disk: str, *keys: int) -> None:
        files = FileIO()
        fold(files, files.open(str(self.path(disk, ".ecx"))), keys, WIDTH)

    def learn(self, *, indexes: bool = False) -> object:
        sources = [EcDirectories(str(self.directories[name]), str(self.directories[name])) for name in ("a", "b")]
        (answer,) = start_call(self.handlers, MergeDeletions(VOLUME, "", sources, indexes))
        return answer

    def journal(self) -> list[int]:
        path = self.path("own", ".ecj")
        return decode_journal(path.read_bytes()) if path.exists() else []

    def deleted(self) -> set[int]:
        """What readers see of the journal."""
        map_id = self.volumes.volumes[VOLUME].map_id
        return {key for key in range(1, 13) if self.rig.disk.site.map.lookup(map_id, key)}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    return EncodedSet(tmp_path_factory.mktemp("set") / "files")


@pytest.fixture
def disks(tmp_path: Path, encoded: EncodedSet) -> Iterator[Disks]:
    made = Disks(tmp_path, encoded)
    yield made
    made.rig.close()


def test_the_journals_of_others_are_added_and_readers_know(disks: Disks) -> None:
    disks.delete("own", 2)
    disks.mount()
    disks.delete("a", 3, 2)
    disks.delete("b", 4, 3)
    assert disks.learn() == Empty()
    assert disks.journal() == [2, 3, 4]
    assert disks.deleted() == {2, 3, 4}
    assert disks.learn() == Empty()
    assert disks.journal() == [2, 3, 4]


def test_a_volume_that_is_not_mounted_learns_too(disks: Disks) -> None:
    disks.delete("a", 3)
    assert disks.learn() == Empty()
    assert disks.journal() == [3]


def test_what_only_another_index_marks_is_learnt_when_indexes_are_read(disks: Disks) -> None:
    disks.mount()
    disks.fold("a", 5)
    disks.fold("b", 5, 6)
    disks.fold("own", 6)
    assert disks.learn() == Empty()
    assert disks.journal() == []
    assert disks.learn(indexes=True) == Empty()
    assert (disks.journal(), disks.deleted()) == ([5], {5})


def test_another_encode_run_tells_nothing(disks: Disks) -> None:
    """Its needles may have been written again since."""
    info = decode_vif(disks.path("a", ".vif").read_bytes())
    assert info.ec_shard_config is not None
    config = replace(info.ec_shard_config, encode_ts_ns=info.ec_shard_config.encode_ts_ns + 1)
    disks.path("a", ".vif").write_bytes(encode_vif(replace(info, ec_shard_config=config)))
    disks.path("a", ".ecsum").unlink()
    disks.delete("a", 3)
    disks.delete("b", 4)
    assert disks.learn() == Empty()
    assert disks.journal() == [4]


def other_index(home: Path) -> bytes:
    """Of another volume with as many needles."""
    volume = SmallVolume(home, needles=12, needle_bytes=900)
    volume.encode()
    return (home / "9.ecx").read_bytes()


@pytest.mark.parametrize("unknown", ["own", "a"])
def test_where_the_run_is_unknown_the_index_tells_who_belongs_together(disks: Disks, unknown: str) -> None:
    """As after an upgrade: the `.vif` does not say it."""
    disks.path(unknown, ".vif").unlink()
    disks.delete("a", 3)
    assert disks.learn() == Empty()
    assert disks.journal() == [3]
    disks.path("a", ".ecx").write_bytes(other_index(disks.home / "other"))
    disks.delete("a", 5)
    assert disks.learn() == Empty()
    assert disks.journal() == [3]


def test_a_disk_that_cannot_be_read_is_left_out(disks: Disks, caplog: pytest.LogCaptureFixture) -> None:
    disks.path("a", ".ecj").mkdir()
    disks.delete("b", 4)
    assert disks.learn() == Empty()
    assert disks.journal() == [4]
    assert f"{disks.home}/a/{VOLUME}: deletions that it alone knows are left out" in caplog.text
