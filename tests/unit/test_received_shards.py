"""Files of erasure coded volumes that come from other servers, by `workers.received_files` on a real disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ec_sets import EncodedSet
from tests.erasure_kit import WIDTH, SmallVolume
from tests.hand_shell import HandShell, start_call
from tests.storage_kit import Rig
from volumed.bus.calls import AllocateVolume
from volumed.bus.ec_calls import MountShards
from volumed.bus.file_calls import CloseFile, FileClosed, FileOpened, OpenEcFile, WriteFile
from volumed.bus.staging import StagingArea
from volumed.erasure.index import fold
from volumed.errors import ClientError, DiskError, VolumeBusy
from volumed.storage.ec_files import list_ec_files
from volumed.storage.fileio import FileIO
from workers.ec_volumes import EcVolumes
from workers.received_files import ReceivedFiles

VOLUME = 7
AREA_BYTES = 1 << 20


class Worker:
    """A disk, and a front that sends it files."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.shell = HandShell()
        self.volumes = EcVolumes(rig.disk, self.shell, 1)
        self.handlers = self.volumes.handlers | ReceivedFiles(rig.disk, self.shell, self.volumes).handlers

    def call(self, request: Any) -> Any:
        (answer,) = start_call(self.handlers, request)
        return answer

    def open(self, extension: str, *, in_index: bool = False) -> tuple[StagingArea, Any]:
        area = StagingArea(str(self.rig.directory.parent), AREA_BYTES)
        return area, self.call(OpenEcFile(VOLUME, "", extension, in_index, area.path))

    def receive(self, extension: str, content: bytes, *, keep: bool = True) -> Any:
        """The answer to the end of it."""
        area, opened = self.open(extension)
        assert isinstance(opened, FileOpened)
        for start in range(0, len(content), AREA_BYTES):
            block = content[start : start + AREA_BYTES]
            area.fill(memoryview(block))
            self.call(WriteFile(opened.file_id, len(block)))
        answer = self.call(CloseFile(opened.file_id, keep))
        if not isinstance(answer, FileClosed):
            self.call(CloseFile(opened.file_id, keep=False))
        area.close()
        return answer

    def names(self) -> set[str]:
        return {path.name for path in self.rig.directory.glob(f"{VOLUME}.*")}

    def content(self, extension: str) -> bytes:
        return self.rig.path(f"{VOLUME}{extension}").read_bytes()

    def mount(self) -> None:
        self.call(MountShards(VOLUME, "", [0]))
        assert list(self.volumes.volumes) == [VOLUME]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    return EncodedSet(tmp_path_factory.mktemp("set") / "files")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    rig = Rig(tmp_path)
    yield Worker(rig)
    rig.close()


def folded(encoded: EncodedSet, home: Path, *keys: int) -> bytes:
    """The index with deletions folded in, as another server may have it."""
    path = home / "folded.ecx"
    path.write_bytes(encoded.content(".ecx"))
    fold(FileIO(), FileIO().open(str(path)), keys, WIDTH)
    return path.read_bytes()


def test_a_shard_has_its_name_when_it_is_complete(worker: Worker) -> None:
    worker.rig.path(f"{VOLUME}.ec00").write_bytes(b"old")
    area, opened = worker.open(".ec00")
    area.fill(memoryview(b"new one"))
    worker.call(WriteFile(opened.file_id, 7))
    assert worker.names() == {"7.ec00", "7.ec00.receiving"}
    assert worker.content(".ec00") == b"old"
    assert worker.call(CloseFile(opened.file_id, keep=True)) == FileClosed()
    assert worker.names() == {"7.ec00"}
    assert worker.content(".ec00") == b"new one"
    area.close()


def test_a_shard_that_does_not_come_whole_leaves_what_was_there(worker: Worker) -> None:
    worker.rig.path(f"{VOLUME}.ec00").write_bytes(b"old")
    worker.receive(".ec00", b"half", keep=False)
    assert worker.names() == {"7.ec00"}
    assert worker.content(".ec00") == b"old"


def test_what_a_killed_worker_leaves_is_no_shard(worker: Worker) -> None:
    area, _ = worker.open(".ec00")
    (found,) = list_ec_files(worker.rig.disk.site, VOLUME).values()
    assert (found.shards, found.leftovers) == ({}, [(False, "7.ec00.receiving")])
    area.close()


def test_one_file_comes_once_at_a_time(worker: Worker) -> None:
    area, _ = worker.open(".ec00")
    second_area, refused = worker.open(".ec00")
    assert isinstance(refused, VolumeBusy)
    other_area, other = worker.open(".ec01")
    assert isinstance(other, FileOpened)
    for made in (area, second_area, other_area):
        made.close()


def test_files_of_a_mounted_normal_volume_are_not_replaced(worker: Worker) -> None:
    worker.rig.disk.allocate(AllocateVolume(VOLUME, "", 0, 0, 3))
    area, refused = worker.open(".dat")
    assert isinstance(refused, ClientError)
    area.close()
    assert worker.receive(".vif", b"{}") == FileClosed()


def test_readers_of_a_mounted_volume_open_its_files_anew(worker: Worker, encoded: EncodedSet) -> None:
    encoded.place(worker.rig.directory, VOLUME)
    worker.mount()
    before = next_generation(worker)
    worker.receive(".ec00", encoded.content(".ec00"))
    assert next_generation(worker) == before + 2, "the record of the volume has got one of its own"


def next_generation(worker: Worker) -> int:
    with worker.rig.disk.site.map.begin() as txn:
        return txn.next_generation()


def test_the_same_index_stays_and_tells_what_it_lacks(worker: Worker, encoded: EncodedSet, tmp_path: Path) -> None:
    encoded.place(worker.rig.directory, VOLUME)
    worker.mount()
    inode = worker.rig.path(f"{VOLUME}.ecx").stat().st_ino
    assert worker.receive(".ecx", encoded.content(".ecx")) == FileClosed()
    assert worker.receive(".ecx", folded(encoded, tmp_path, 3, 9)) == FileClosed([3, 9])
    assert worker.rig.path(f"{VOLUME}.ecx").stat().st_ino == inode
    assert worker.content(".ecx") == encoded.content(".ecx")
    assert "7.ecx.receiving" not in worker.names()


def test_deletions_in_the_index_here_survive(worker: Worker, encoded: EncodedSet, tmp_path: Path) -> None:
    encoded.place(worker.rig.directory, VOLUME)
    ours = folded(encoded, tmp_path, 5)
    worker.rig.path(f"{VOLUME}.ecx").write_bytes(ours)
    assert worker.receive(".ecx", encoded.content(".ecx")) == FileClosed()
    assert worker.content(".ecx") == ours


@pytest.mark.parametrize("there", [b"", None], ids=["empty", "absent"])
def test_an_index_comes_where_there_is_none(worker: Worker, encoded: EncodedSet, there: bytes | None) -> None:
    if there is not None:
        worker.rig.path(f"{VOLUME}.ecx").write_bytes(there)
    assert worker.receive(".ecx", encoded.content(".ecx")) == FileClosed()
    assert worker.content(".ecx") == encoded.content(".ecx")


def test_the_index_of_another_run_replaces_only_what_is_not_mounted(
    worker: Worker, encoded: EncodedSet, tmp_path: Path
) -> None:
    encoded.place(worker.rig.directory, VOLUME)
    other = SmallVolume(tmp_path / "other", needles=12, needle_bytes=900)
    other.encode()
    content = (other.directory / "9.ecx").read_bytes()
    assert len(content) == len(encoded.content(".ecx"))
    worker.mount()
    refused = worker.receive(".ecx", content, keep=True)
    assert isinstance(refused, DiskError)
    assert "another encode run" in refused.text
    assert worker.content(".ecx") == encoded.content(".ecx")
    worker.volumes.unmount(VOLUME, [0])
    assert worker.receive(".ecx", content) == FileClosed()
    assert worker.content(".ecx") == content
