"""Shards that are mounted, and then replaced by files of another length: what readers and the supervisor are told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.ec_sets import SHARDS, EncodedSet
from tests.hand_shell import HandShell, start_call
from tests.storage_kit import Rig
from volumed.bus.ec_calls import (
    DescribeShards,
    FollowEcJob,
    MountShards,
    ShardUnreadable,
    StartRebuild,
    UnmountShards,
)
from volumed.bus.file_calls import CloseFile, OpenEcFile, WriteFile
from volumed.bus.staging import StagingArea
from volumed.erasure.coding import CoderHere
from volumed.storage.ec_records import EcRecord
from volumed.storage.map_records import VOLUME_KEY
from workers.ec_jobs import EcJobs
from workers.ec_rebuilding import EcRebuilding
from workers.ec_volumes import EcVolumes
from workers.received_files import ReceivedFiles

VOLUME = 7
SHORT = 500


class Worker:
    """A disk with all shards mounted, of which the first one is too short."""

    def __init__(self, rig: Rig, encoded: EncodedSet) -> None:
        self.rig = rig
        self.encoded = encoded
        self.shell = HandShell()
        self.whole = len(encoded.content(".ec00"))
        shell: Any = self.shell
        files = rig.files
        self.volumes = EcVolumes(rig.disk, shell, 1)
        jobs = EcJobs(shell, files, set(), lambda *_: nullcontext(CoderHere(files)))
        self.handlers = {
            **self.volumes.handlers,
            **jobs.handlers,
            **EcRebuilding(rig.disk, self.volumes, jobs).handlers,
            **ReceivedFiles(rig.disk, shell, self.volumes).handlers,
        }
        encoded.place(rig.directory, VOLUME)
        with rig.path(f"{VOLUME}.ec00").open("r+b") as file:
            file.truncate(SHORT)
        self.call(MountShards(VOLUME, "", list(SHARDS)))
        assert self.lengths() == {SHORT}
        self.shell.published.clear()

    def call(self, request: Any) -> Any:
        (answer,) = start_call(self.handlers, request)
        return answer

    def lengths(self) -> set[int]:
        """Of the short shard: for RPCs, for readers, and for the supervisor."""
        (report,) = self.volumes.reports()
        record = self.record()
        assert record is not None
        return {self.call(DescribeShards(VOLUME)).shards[0], record.shards[0], report.shards[0]}

    def record(self) -> EcRecord | None:
        """What readers find in the map."""
        with self.rig.disk.site.map.begin() as txn:
            raw = txn._txn.get(VOLUME_KEY.pack(VOLUME), db=txn._shards)
        return None if raw is None else EcRecord.decode(raw)

    def told(self) -> list[dict[int, int]]:
        """Shards that the supervisor was told of, at once."""
        return [report.shards for event in self.shell.published for report in event.mounted]

    def rebuild(self) -> None:
        progress = self.call(FollowEcJob(self.call(StartRebuild(VOLUME, "", [], absent=True)).job))
        assert (progress.done, progress.shard_ids) == (True, [0])

    def receive(self) -> None:
        content = self.encoded.content(".ec00")
        area = StagingArea(str(self.rig.directory.parent), len(content))
        opened = self.call(OpenEcFile(VOLUME, "", ".ec00", False, area.path))
        area.fill(memoryview(content))
        self.call(WriteFile(opened.file_id, len(content)))
        self.call(CloseFile(opened.file_id, keep=True))
        area.close()

    def mount_again(self) -> None:
        self.rig.path(f"{VOLUME}.ec00").write_bytes(self.encoded.content(".ec00"))
        self.call(MountShards(VOLUME, "", [0]))


REPLACED = {"rebuilt": Worker.rebuild, "received": Worker.receive, "mounted_again": Worker.mount_again}


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    return EncodedSet(tmp_path_factory.mktemp("set") / "files")


@pytest.fixture
def worker(tmp_path: Path, encoded: EncodedSet) -> Iterator[Worker]:
    rig = Rig(tmp_path)
    yield Worker(rig, encoded)
    rig.close()


@pytest.mark.parametrize("replace", REPLACED.values(), ids=REPLACED)
def test_the_new_length_is_known_everywhere(worker: Worker, replace: Callable[[Worker], None]) -> None:
    replace(worker)
    assert worker.lengths() == {worker.whole}
    assert worker.told() == [{0: worker.whole}]


def test_a_volume_that_is_unmounted_meanwhile_stays_so(worker: Worker) -> None:
    worker.shell.waiting = []
    job = worker.call(StartRebuild(VOLUME, "", [], absent=True)).job
    (rebuild,) = worker.shell.waiting
    worker.shell.waiting.clear()
    rebuild()
    assert not worker.call(FollowEcJob(job)).done, "before the shards are measured"
    worker.call(UnmountShards(VOLUME, list(SHARDS)))
    worker.shell.go_on()
    assert worker.call(FollowEcJob(job)).done
    assert worker.record() is None
    assert worker.told() == []


@pytest.mark.parametrize("replace", REPLACED.values(), ids=REPLACED)
def test_unreadable_shards_are_counted_until_files_are_replaced(
    worker: Worker, replace: Callable[[Worker], None]
) -> None:
    record = worker.record()
    assert record is not None
    for shard, generation in ((1, record.generation), (1, record.generation), (0, record.generation), (2, 1), (30, 1)):
        worker.call(ShardUnreadable(VOLUME, shard, generation))
    assert worker.volumes.unreadable_shards == 2
    worker.call(ShardUnreadable(VOLUME + 1, 0, record.generation))
    replace(worker)
    assert worker.volumes.unreadable_shards == 0
    worker.call(ShardUnreadable(VOLUME, 1, record.generation))
    assert worker.volumes.unreadable_shards == 0, "the front has read the files of before"
