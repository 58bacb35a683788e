"""A normal volume makes up for deletions that its shards alone have, and what was written anew stays
(docs/spec/erasure-coding.md R19, R20)."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from tests.hand_shell import HandShell, start_call
from tests.storage_kit import BreakableFiles, Rig, delete, put
from volumed.bus.calls import Empty, MarkReadonly
from volumed.bus.ec_calls import EcDirectories, FollowEcJob, StartDecode, StartEncode, TakeOverDeletions
from volumed.erasure.coding import CoderHere
from volumed.erasure.journal import encode_journal
from volumed.errors import NeedleDeleted, NeedleNotFound, ReadOnlyVolume, VolumeBusy
from volumed.storage.map_records import VolumeFlag
from workers import ec_takeover
from workers.compactions import Compactions
from workers.ec_decoding import EcDecoding
from workers.ec_encoding import EcEncoding
from workers.ec_jobs import EcJobs
from workers.ec_takeover import EcTakeover

KEYS = range(1, 7)


class Worker:
    """A disk with volume 1 and its shards."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.shell = HandShell()
        shell: Any = self.shell
        self.takeover = EcTakeover(rig.disk, shell)
        jobs = EcJobs(shell, rig.files, set(), lambda *_: nullcontext(CoderHere(rig.files)))
        self.handlers = {
            **jobs.handlers,
            **EcEncoding(rig.disk, shell, jobs).handlers,
            **EcDecoding(rig.disk, shell, Compactions(rig.disk, shell, 0, None), jobs, self.takeover).handlers,
            **self.takeover.handlers,
        }
        self.run(StartEncode(1, ""))

    def call(self, request: Any) -> list[Any]:
        return start_call(self.handlers, request)

    def run(self, request: Any) -> None:
        (started,) = self.call(request)
        assert self.call(FollowEcJob(started.job))[0].done

    def delete_in_shards(self, *keys: int) -> None:
        self.rig.path("1.ecj").write_bytes(encode_journal(keys))

    def take_over(self, older_than: int = 0) -> list[Any]:
        here = str(self.rig.directory)
        return self.call(TakeOverDeletions(1, "", [EcDirectories(here, here)], older_than))

    def decode(self) -> None:
        """In the place of the volume, which is gone."""
        self.rig.disk.unmount(1)
        for extension in (".dat", ".idx"):
            self.rig.path(f"1{extension}").unlink()
        self.run(StartDecode(1, "", []))

    def mount(self) -> list[str]:
        """What becomes of it."""
        ended: list[str] = []
        take_over = self.takeover.mounted if self.rig.disk.mount(1) else self.takeover.mounted_before
        take_over(1, lambda: ended.append("done"), lambda error: ended.append(str(error)))
        return ended

    def deleted(self) -> set[int]:
        found = set()
        for key in KEYS:
            try:
                self.rig.read(1, key)
            except (NeedleDeleted, NeedleNotFound):
                found.add(key)
        return found


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    rig = Rig(tmp_path, BreakableFiles())
    rig.allocate()
    rig.store(*(put(key, os.urandom(500)) for key in KEYS))
    yield Worker(rig)
    rig.close()


@pytest.mark.parametrize("is_read_only", [True, False])
def test_a_volume_that_was_encoded_makes_up_for_them(worker: Worker, is_read_only: bool) -> None:
    if is_read_only:
        worker.rig.disk.mark_readonly(MarkReadonly(1, can_delete=False, persist=False))
    worker.delete_in_shards(2, 3, 99)
    assert worker.take_over() == [Empty()]
    assert worker.deleted() == {2, 3}
    (result,) = worker.rig.store(delete(4))
    assert isinstance(result.error, ReadOnlyVolume) == is_read_only, "requests are refused as before"
    worker.rig.reopen_after_kill().mount(1)
    assert {2, 3} <= worker.deleted()


def test_what_was_written_after_the_encode_stays(worker: Worker) -> None:
    worker.delete_in_shards(2, 3)
    worker.rig.store(put(2, b"anew"))
    worker.take_over()
    assert (worker.deleted(), worker.rig.read(1, 2).data) == ({3}, b"anew")


def test_what_is_written_while_the_journals_are_read_stays(worker: Worker) -> None:
    worker.delete_in_shards(2, 3)
    worker.shell.waiting = []
    worker.take_over()
    held, worker.shell.waiting = worker.shell.waiting, None
    (read,) = held
    worker.rig.store(put(2, b"anew"))
    read()
    assert worker.deleted() == {3}


def test_who_cannot_find_the_needles_any_more_does_not_say_that_they_are_deleted(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A vacuum has moved them between two flushes."""
    monkeypatch.setattr(ec_takeover, "_DELETIONS_AT_ONCE", 1)
    worker.delete_in_shards(2, 3)
    worker.shell.waiting = []
    answers = worker.take_over()
    (read,), worker.shell.waiting = worker.shell.waiting, []
    read()
    worker.rig.disk.volumes[1].generation += 1
    worker.shell.go_on()
    assert [str(answer) for answer in answers] == ["volume 1 has changed meanwhile"]
    worker.take_over()
    assert worker.deleted() == {2, 3}


def test_what_lies_in_the_same_place_but_was_written_later_stays(worker: Worker) -> None:
    """As after a decode that left a gap there."""
    info = worker.rig.path("1.vif")
    text = info.read_text()
    before = text.split('"encodeTsNs":')[1].split('"')[1]
    info.write_text(text.replace(before, "1000"))
    worker.delete_in_shards(2)
    worker.take_over()
    assert worker.deleted() == set()


def test_a_fenced_teardown_asks_only_for_what_is_older(worker: Worker) -> None:
    worker.delete_in_shards(2)
    worker.take_over(older_than=1)
    assert worker.deleted() == set()
    worker.take_over(older_than=1 << 62)
    assert worker.deleted() == {2}


def test_a_volume_that_was_decoded_learns_what_came_before_the_mount(worker: Worker) -> None:
    worker.decode()
    worker.delete_in_shards(2, 3)
    worker.shell.waiting = []
    ended = worker.mount()
    worker.rig.store(put(2, b"anew"))
    with pytest.raises(VolumeBusy, match="volume 1 is being mounted"):
        worker.rig.disk.unmount(1)
    worker.shell.go_on()
    assert ended == ["done"]
    assert (worker.deleted(), worker.rig.read(1, 2).data) == ({3}, b"anew")
    assert not worker.rig.disk.volumes[1].flags & VolumeFlag.NO_WRITE_OR_DELETE


def test_a_volume_that_was_in_use_since_its_decode_learns_nothing(worker: Worker) -> None:
    """Needles may have been written anew."""
    worker.decode()
    worker.rig.disk.mount(1)
    worker.rig.disk.unmount(1)
    worker.takeover.forget(1)
    worker.delete_in_shards(2)
    assert worker.mount() == ["done"]
    assert worker.deleted() == set()


def test_a_mount_that_could_not_learn_them_is_repeated(worker: Worker) -> None:
    worker.decode()
    worker.delete_in_shards(2, 3)
    worker.rig.files.break_next("write_at", "1.idx", errno.ENOSPC)
    (error,) = worker.mount()
    assert "no space left on device" in error
    worker.rig.store(put(2, b"anew"))
    assert worker.mount() == ["done"]
    assert (worker.deleted(), worker.rig.read(1, 2).data) == ({3}, b"anew")


def test_who_mounts_while_they_are_learnt_is_not_told_that_it_is_done(worker: Worker) -> None:
    """He might remove the shards."""
    worker.decode()
    worker.delete_in_shards(2)
    worker.shell.waiting = []
    first = worker.mount()
    assert worker.mount() == ["volume 1 is being mounted"]
    worker.shell.go_on()
    assert first == worker.mount() == ["done"]
    assert worker.deleted() == {2}


def test_a_mount_is_not_repeated_while_something_else_has_the_volume(worker: Worker) -> None:
    worker.decode()
    worker.delete_in_shards(2)
    worker.rig.files.break_next("write_at", "1.idx", errno.ENOSPC)
    worker.mount()
    worker.shell.waiting = []
    worker.call(StartEncode(1, ""))
    assert worker.mount() == ["volume 1 is being encoded"]
    worker.shell.go_on()
    volume = worker.rig.disk.volumes[1]
    volume.compacting = True
    assert worker.mount() == [str(VolumeBusy.compacting(1))]
    volume.compacting = False
    assert worker.mount() == ["done"]
    assert worker.deleted() == {2}


def test_a_volume_that_was_mounted_by_a_rescan_learns_nothing(worker: Worker) -> None:
    """Likewise."""
    worker.decode()
    worker.rig.disk.mount(1)
    worker.delete_in_shards(2)
    assert worker.mount() == ["done"]
    assert worker.deleted() == set()


@pytest.mark.parametrize("is_read_only", [True, False])
def test_a_volume_that_is_decoded_in_use_learns_what_only_the_shards_were_told(
    worker: Worker, is_read_only: bool
) -> None:
    if is_read_only:
        worker.rig.disk.mark_readonly(MarkReadonly(1, can_delete=False, persist=False))
    worker.delete_in_shards(2)
    worker.shell.waiting = []
    (started,) = worker.call(StartDecode(1, "", []))
    (put_together,), worker.shell.waiting = worker.shell.waiting, []
    put_together()
    worker.delete_in_shards(2, 3)
    worker.shell.go_on()
    assert worker.call(FollowEcJob(started.job))[0].done
    # One that takes deletions gets them from the fronts, which wait for it.
    assert worker.deleted() == ({2, 3} if is_read_only else {2})
