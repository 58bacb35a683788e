"""Single shards that are removed while they are mounted, on a real disk."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.ec_sets import SHARDS, EncodedSet
from tests.hand_shell import HandShell, start_call
from tests.storage_kit import Rig
from volumed.bus.ec_calls import DeleteEcIndex, DeleteShards, MountShards, ShardsRemaining, WipeEcFiles
from volumed.errors import VolumeBusy
from volumed.storage.ec_wipe import remove_shards
from volumed.storage.fileio import FileIO
from volumed.storage.site import VolumePaths
from workers.ec_removal import EcRemoval
from workers.ec_volumes import EcVolumes

VOLUME = 7
COLLECTION = "pics"


class Worker:
    """A disk with an encoded volume, all of it mounted."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.shell = HandShell()
        self.working: set[int] = set()
        self.volumes = EcVolumes(rig.disk, self.shell, 1)
        self.handlers = self.volumes.handlers | EcRemoval(rig.disk, self.volumes, self.working).handlers
        self.call(MountShards(VOLUME, COLLECTION, []))

    def call(self, request: Any) -> Any:
        (answer,) = start_call(self.handlers, request)
        return answer

    def mounted(self) -> list[int]:
        volume = self.volumes.volumes.get(VOLUME)
        return [] if volume is None else sorted(volume.shards)

    def names(self) -> set[str]:
        return {path.name for path in self.rig.directory.glob(f"{COLLECTION}_{VOLUME}.*")}


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    rig = Rig(tmp_path)
    EncodedSet(tmp_path / "set").place(rig.directory, f"{COLLECTION}_{VOLUME}")
    yield Worker(rig)
    rig.close()


def test_what_is_removed_is_unmounted_before(worker: Worker) -> None:
    assert worker.call(DeleteShards(VOLUME, COLLECTION, [0, 3])) == ShardsRemaining([1, 2, 4])
    assert worker.mounted() == [1, 2, 4]
    assert not worker.names() & {f"{COLLECTION}_{VOLUME}.ec{shard:02}" for shard in (0, 3)}


def test_a_call_that_removes_shards_is_one_line_of_the_log(worker: Worker, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "volumed.storage.ec_wipe")
    worker.call(DeleteShards(VOLUME, COLLECTION, [0, 3]))
    base = worker.rig.directory / f"{COLLECTION}_{VOLUME}"
    said = [record.message for record in caplog.records if record.message.startswith("removed")]
    assert said == [f"removed {base}.ec00, {base}.ec03: asked to"]


def test_what_was_removed_before_an_error_is_in_the_log(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for shard in (0, 1):
        (tmp_path / f"7.ec0{shard}").touch()
    (tmp_path / "7.ec02").mkdir()
    with pytest.raises(IsADirectoryError):
        remove_shards(FileIO(), VolumePaths(str(tmp_path), str(tmp_path), "7"), range(14), "asked to")
    assert caplog.messages == [f"removed {tmp_path}/7.ec00, {tmp_path}/7.ec01: asked to"]


def test_a_volume_of_another_collection_stays_mounted(worker: Worker) -> None:
    before = worker.names()
    assert worker.call(DeleteShards(VOLUME, "", list(SHARDS))) == ShardsRemaining([])
    worker.call(DeleteEcIndex(VOLUME, ""))
    assert (worker.mounted(), worker.names()) == (list(SHARDS), before)


def test_a_fenced_teardown_leaves_what_is_worked_on_meanwhile(worker: Worker) -> None:
    before = worker.names()
    worker.shell.waiting = []
    answers = start_call(worker.handlers, WipeEcFiles(VOLUME, COLLECTION, 1 << 62))
    worker.working.add(VOLUME)
    worker.shell.go_on()
    assert isinstance(answers[0], VolumeBusy)
    assert (worker.mounted(), worker.names()) == (list(SHARDS), before)
    worker.working.clear()
    worker.call(WipeEcFiles(VOLUME, COLLECTION, 1 << 62))
    assert (worker.mounted(), worker.names()) == ([], set())
