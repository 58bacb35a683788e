"""Encodes and decodes on a real disk, with the shell's threads run by hand: what else may happen to the volume, who
gives up, and what is left then."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.hand_shell import HandShell, start_call
from tests.storage_kit import Rig, delete, put
from volumed.bus.calls import DeleteVolume, MarkReadonly
from volumed.bus.compaction_calls import StartCompaction
from volumed.bus.ec_calls import EcJobProgress, FollowEcJob, StartDecode, StartEncode, StopEcJob
from volumed.erasure.coding import CoderHere
from volumed.erasure.errors import EcInterrupted, NoSpaceForShards
from volumed.errors import DiskError, NodeError, VolumeBusy, VolumedError
from volumed.storage.fileio import FileIO, SpaceInfo
from volumed.storage.map_records import VolumeFlag
from workers.compactions import Compactions
from workers.ec_decoding import EcDecoding
from workers.ec_encoding import EcEncoding
from workers.ec_jobs import EcJobs
from workers.ec_takeover import EcTakeover

BEFORE = {"1.dat", "1.idx", "1.vif"}
CONTENTS = {key: os.urandom(1000) for key in (1, 2, 3)}


class Files(FileIO):
    """A disk with as much room as the test says, which may refuse a new `.vif`."""

    free_bytes = 1 << 40
    replaces = True

    def replace_file(self, path: str, content: bytes, mode: int = 0o644, temporary: str = "") -> None:
        if not self.replaces and path.endswith(".vif"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().replace_file(path, content, mode, temporary)

    def space(self, path: str) -> SpaceInfo:  # noqa: ARG002
        return SpaceInfo(1 << 41, self.free_bytes)


class Worker:
    """The jobs of one disk with volume 1."""

    def __init__(self, rig: Rig, files: Files) -> None:
        self.rig = rig
        self.files = files
        self.now = 100.0
        self.shell = HandShell()
        shell: Any = self.shell
        self.jobs = EcJobs(shell, files, set(), lambda *_: nullcontext(CoderHere(files)), lambda: self.now)
        self.compactions = Compactions(rig.disk, shell, 0, None, lambda: self.now)
        self.handlers = {
            **self.jobs.handlers,
            **EcEncoding(rig.disk, shell, self.jobs).handlers,
            **EcDecoding(rig.disk, shell, self.compactions, self.jobs, EcTakeover(rig.disk, shell)).handlers,
            **self.compactions.handlers,
        }

    def call(self, request: Any) -> Any:
        """The answer to a call; raises if it is an error."""
        (answer,) = start_call(self.handlers, request)
        if isinstance(answer, VolumedError):
            raise answer
        return answer

    def run(self, request: Any) -> EcJobProgress:
        """A job to its end; raises its error."""
        progress: EcJobProgress = self.call(FollowEcJob(self.call(request).job))
        assert progress.done
        return progress

    def names(self) -> set[str]:
        return {path.name for path in self.rig.directory.iterdir()} - {"vol_dir.uuid"}


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    files = Files()
    rig = Rig(tmp_path, files)
    rig.allocate()
    rig.store(*(put(key, data) for key, data in CONTENTS.items()))
    yield Worker(rig, files)
    rig.close()


ENCODE = StartEncode(1, "")
DECODE = StartDecode(1, "", [])


def test_an_encode_leaves_the_volume_alone(worker: Worker) -> None:
    before = worker.rig.path("1.dat").read_bytes()
    worker.run(ENCODE)
    assert worker.names() == BEFORE | {f"1.ec{shard:02}" for shard in range(14)} | {"1.ecx", "1.ecsum"}
    assert worker.rig.path("1.dat").read_bytes() == before
    volume = worker.rig.disk.volumes[1]
    assert not volume.held_while
    assert volume.info.ec_shard_config is not None, "whoever writes the .vif next must keep it"


@pytest.mark.parametrize("moment", ["before", "meanwhile"])
def test_an_encode_keeps_what_else_the_vif_says(worker: Worker, moment: str) -> None:
    mark = MarkReadonly(1, persist=True)
    if moment == "before":
        worker.rig.disk.mark_readonly(mark)
    worker.shell.waiting = []
    worker.call(ENCODE)
    if moment == "meanwhile":
        worker.rig.disk.mark_readonly(mark)
    worker.shell.go_on()
    worker.rig.reopen_after_kill().mount(1)
    volume = worker.rig.disk.volumes[1]
    assert VolumeFlag.NO_WRITE_OR_DELETE in volume.flags
    assert (volume.info.read_only, volume.info.bytes_offset) == (True, 5)
    assert volume.info.ec_shard_config is not None


def test_an_encode_that_cannot_say_so_in_the_vif_leaves_nothing(worker: Worker) -> None:
    worker.files.replaces = False
    with pytest.raises(DiskError, match="no space left on device"):
        worker.run(ENCODE)
    assert worker.names() == BEFORE
    assert worker.rig.disk.volumes[1].info.ec_shard_config is None


def test_nothing_else_happens_to_a_volume_that_is_encoded(worker: Worker) -> None:
    worker.shell.waiting = []
    worker.call(ENCODE)
    for request in (ENCODE, StartCompaction(1), DECODE):
        with pytest.raises(VolumeBusy):
            worker.call(request)
    with pytest.raises(VolumeBusy, match="volume 1 is being encoded"):
        worker.rig.disk.unmount(1)
    with pytest.raises(VolumeBusy):
        worker.rig.disk.delete(DeleteVolume(1))
    worker.rig.store(put(4, b"written meanwhile"), delete(2))
    assert [(task.what, task.volume_id) for task in worker.jobs.tasks()] == [("encode", 1)]
    worker.shell.go_on()
    assert worker.jobs.tasks() == []
    assert worker.rig.read(1, 4).data == b"written meanwhile"
    assert worker.rig.path("1.ecx").stat().st_size == 3 * 17, "of what was there when it began"
    assert worker.rig.disk.unmount(1) is not None


def test_a_volume_that_is_compacted_is_not_encoded(worker: Worker) -> None:
    worker.shell.waiting = []
    worker.call(StartCompaction(1))
    with pytest.raises(VolumeBusy, match="volume 1 is compacting"):
        worker.call(ENCODE)
    worker.shell.go_on()
    worker.run(ENCODE)


@pytest.mark.parametrize("gives_up", ["stops", "asks no more", "worker stops"])
def test_who_gives_up_leaves_nothing(worker: Worker, gives_up: str, caplog: pytest.LogCaptureFixture) -> None:
    worker.shell.waiting = []
    job = worker.call(ENCODE).job
    answers: list[Any] = []
    if gives_up == "stops":
        answers = start_call(worker.handlers, StopEcJob(job))
        assert answers == [], "before its files are gone"
    elif gives_up == "asks no more":
        worker.now += 31
        worker.jobs.tick()
    else:
        worker.jobs.stop_all()
    worker.shell.go_on()
    assert len(answers) == (gives_up == "stops")
    # Who asks about a job logs its end.
    forgotten = ["encode volume 1: nobody asks about it any more, so it stops"]
    assert caplog.messages == (forgotten if gives_up == "asks no more" else [])
    assert worker.names() == BEFORE
    assert not worker.rig.disk.volumes[1].held_while
    with pytest.raises(EcInterrupted if gives_up == "worker stops" else NodeError):
        worker.call(FollowEcJob(job))


def test_what_comes_too_late_to_stop_an_encode_removes_its_result(worker: Worker) -> None:
    worker.shell.waiting = []
    job = worker.call(ENCODE).job
    (work,) = worker.shell.waiting
    running = next(iter(worker.jobs._jobs.values()))
    worker.shell.waiting = None
    running.progress.require_running = lambda: None  # type: ignore[method-assign]
    answers = start_call(worker.handlers, StopEcJob(job))
    work()
    assert len(answers) == 1
    # The geometry stays in the `.vif`: it is the volume's own.
    assert worker.names() == BEFORE


def test_no_room(worker: Worker) -> None:
    worker.files.free_bytes = 10 << 20
    with pytest.raises(NoSpaceForShards, match="need 14680115 bytes, but only 10485760 bytes available"):
        worker.run(ENCODE)
    assert worker.names() == BEFORE
    worker.files.free_bytes = 1 << 40
    worker.run(ENCODE)
    after = worker.names()
    worker.rig.disk.unmount(1)
    worker.files.free_bytes = 1000
    with pytest.raises(NoSpaceForShards):
        worker.run(DECODE)
    assert worker.names() == after


@pytest.mark.parametrize("gives_up", [False, True], ids=["done", "stopped"])
def test_decode(worker: Worker, gives_up: bool) -> None:
    worker.run(ENCODE)
    worker.rig.disk.unmount(1)
    for name in ("1.dat", "1.idx"):
        worker.rig.path(name).unlink()
    worker.rig.path("1.ecj").write_bytes((2).to_bytes(8, "big"))
    after = worker.names()
    if gives_up:
        worker.shell.waiting = []
        answers = start_call(worker.handlers, StopEcJob(worker.call(DECODE).job))
        worker.shell.go_on()
        assert len(answers) == 1
        assert worker.names() == after
        assert not worker.rig.disk.arriving
    worker.run(DECODE)
    assert worker.names() == (after | {"1.dat", "1.idx"}) - {"1.ecsum"}
    worker.rig.disk.mount(1)
    assert worker.rig.read(1, 1).data == CONTENTS[1]
    assert worker.rig.counters()[0] == 2, "without what the journal deletes"
