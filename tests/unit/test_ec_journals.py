"""Journals of mounted and unmounted volumes, by `workers.ec_journals` on a real disk."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.ec_sets import EncodedSet
from tests.erasure_kit import WIDTH, FailingIO
from tests.hand_shell import HandShell, start_call
from tests.storage_kit import BreakableFiles, Rig
from volumed.bus.calls import Empty
from volumed.bus.ec_calls import DeleteEcNeedle, FoldJournal, ListEcFiles, MergeJournal, MountShards, UnmountShards
from volumed.config.node import DiskConfig
from volumed.erasure.errors import BadEcIndex, EcVolumeNotFound, NoSuchEcNeedle
from volumed.erasure.index import find_row
from volumed.erasure.journal import decode_journal, encode_journal
from volumed.errors import DiskError
from volumed.storage.fileio import FileIO
from workers.ec_journals import EcJournals
from workers.ec_listing import EcListings
from workers.ec_volumes import EcVolumes

VOLUME = 7


class Worker:
    """A disk with an encoded volume of keys 1 to 12."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.shell = HandShell()
        self.volumes = EcVolumes(rig.disk, self.shell, 1)
        journals = EcJournals(rig.disk, self.shell, self.volumes)
        listings = EcListings(rig.disk, self.shell, self.volumes)
        self.handlers = self.volumes.handlers | journals.handlers | listings.handlers

    def call(self, request: Any) -> Any:
        (answer,) = start_call(self.handlers, request)
        return answer

    def mount(self) -> None:
        self.call(MountShards(VOLUME, "", [0, 1]))
        assert sorted(self.volumes.volumes[VOLUME].shards) == [0, 1]

    def delete(self, key: int) -> Any:
        return self.call(DeleteEcNeedle(VOLUME, key))

    def listed(self) -> tuple[int, int] | None:
        """What other disks are told of the journal."""
        (files,) = self.call(ListEcFiles(VOLUME)).volumes
        deletions: tuple[int, int] | None = files.deletions
        return deletions

    def journal(self) -> list[int]:
        return decode_journal(self.rig.path(f"{VOLUME}.ecj").read_bytes())

    def deleted(self) -> set[int]:
        """What readers see: by the map, or by the index."""
        map_id = self.volumes.volumes[VOLUME].map_id
        return {key for key in range(1, 13) if self.rig.disk.site.map.lookup(map_id, key) or self.row(key) < 0}

    def row(self, key: int) -> int:
        row = find_row(FileIO(), FileIO().open(str(self.rig.path(f"{VOLUME}.ecx"))), key, WIDTH)
        assert row is not None
        return row[2]


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    return EncodedSet(tmp_path_factory.mktemp("set") / "files")


@pytest.fixture
def rig(tmp_path: Path, encoded: EncodedSet) -> Iterator[Rig]:
    rig = Rig(tmp_path, BreakableFiles())
    encoded.place(rig.directory, VOLUME)
    yield rig
    rig.close()


@pytest.fixture
def worker(rig: Rig) -> Worker:
    worker = Worker(rig)
    worker.mount()
    return worker


def test_a_deletion_is_in_the_journal_and_in_the_map_before_it_is_answered(worker: Worker) -> None:
    assert worker.delete(3) == Empty()
    assert worker.delete(5) == Empty()
    assert worker.journal() == [3, 5]
    assert worker.deleted() == {3, 5}
    assert worker.volumes.reports()[0].delete_count == 2


def test_deleting_twice_changes_nothing(worker: Worker) -> None:
    assert worker.delete(3) == Empty()
    assert worker.delete(3) == Empty()
    assert worker.journal() == [3]


def test_a_listing_tells_which_needles_are_deleted_in_whatever_order(worker: Worker) -> None:
    assert worker.listed() is None
    told = []
    for keys in ([3, 5], [5, 3, 5], [4, 5]):
        worker.rig.path(f"{VOLUME}.ecj").write_bytes(encode_journal(keys))
        told.append(worker.listed())
    assert told[0] == told[1] != told[2]
    assert [found and found[0] for found in told] == [2, 2, 2]


def test_a_journal_that_disks_share_says_nothing_about_what_one_of_them_knows(rig: Rig) -> None:
    mate = DiskConfig(1, str(rig.directory / "mate"), rig.config.idx_directory)
    rig.node = msgspec.structs.replace(rig.node, disks=(rig.config, mate))
    rig.path(f"{VOLUME}.ecj").write_bytes(encode_journal([3]))
    assert Worker(rig).listed() is None


def test_what_the_index_does_not_have_cannot_be_deleted(worker: Worker) -> None:
    assert isinstance(worker.delete(999), NoSuchEcNeedle)
    assert worker.journal() == []


def test_nothing_is_deleted_from_a_volume_that_is_not_mounted(worker: Worker) -> None:
    worker.call(UnmountShards(VOLUME, [0, 1]))
    assert isinstance(worker.delete(3), EcVolumeNotFound)


def test_deletions_that_wait_are_flushed_together(worker: Worker) -> None:
    worker.shell.waiting = []
    answers = [start_call(worker.handlers, DeleteEcNeedle(VOLUME, key)) for key in (1, 2, 3, 3, 999)]
    files = worker.rig.files
    assert isinstance(files, BreakableFiles)
    files.calls.clear()
    worker.shell.go_on()
    assert [type(answer) for (answer,) in answers] == [Empty, Empty, Empty, Empty, NoSuchEcNeedle]
    assert worker.journal() == [1, 2, 3]
    assert files.calls.count(("sync", f"{VOLUME}.ecj")) == 2


@pytest.mark.parametrize("call", ["write_at", "sync"])
def test_a_deletion_that_fails_leaves_nothing(worker: Worker, call: str) -> None:
    worker.delete(1)
    files = worker.rig.files
    assert isinstance(files, BreakableFiles)
    files.break_next(call, ".ecj", errno.EIO)
    assert isinstance(worker.delete(2), DiskError)
    assert worker.journal() == [1]
    assert worker.deleted() == {1}
    assert worker.delete(4) == Empty()
    assert worker.journal() == [1, 4]


def test_deletions_are_there_after_a_restart(worker: Worker) -> None:
    worker.delete(3)
    worker.rig.kill()
    again = Worker(worker.rig)
    again.mount()
    assert again.deleted() == {3}
    assert again.delete(3) == Empty()
    assert again.journal() == [3]


def test_a_torn_deletion_is_cut_off_at_mount(rig: Rig) -> None:
    rig.path(f"{VOLUME}.ecj").write_bytes(encode_journal([2]) + b"torn")
    worker = Worker(rig)
    worker.mount()
    assert rig.path(f"{VOLUME}.ecj").read_bytes() == encode_journal([2])
    assert worker.deleted() == {2}


def test_readers_forget_the_deletions_of_a_volume_that_is_unmounted(worker: Worker) -> None:
    worker.delete(3)
    map_id = worker.volumes.volumes[VOLUME].map_id
    worker.call(UnmountShards(VOLUME, [0, 1]))
    assert worker.rig.disk.site.map.lookup(map_id, 3) is None
    worker.mount()
    assert worker.deleted() == {3}


@pytest.mark.parametrize("mounted", [True, False], ids=["mounted", "unmounted"])
def test_a_journal_of_a_peer_is_appended(worker: Worker, mounted: bool) -> None:
    worker.delete(4)
    worker.delete(1)
    if not mounted:
        worker.call(UnmountShards(VOLUME, [0, 1]))
    assert worker.call(MergeJournal(VOLUME, "", [2, 4, 2])) == Empty()
    assert worker.journal() == [4, 1, 2]
    if not mounted:
        worker.mount()
    assert worker.deleted() == {1, 2, 4}
    assert worker.volumes.reports()[0].delete_count == 3


def test_an_empty_journal_of_a_peer_makes_no_file(rig: Rig) -> None:
    assert Worker(rig).call(MergeJournal(VOLUME, "", [])) == Empty()
    assert not rig.path(f"{VOLUME}.ecj").exists()


@pytest.mark.parametrize("mounted", [True, False], ids=["mounted", "unmounted"])
def test_a_folded_journal_is_emptied_not_replaced(worker: Worker, mounted: bool) -> None:
    worker.delete(3)
    if not mounted:
        worker.call(UnmountShards(VOLUME, [0, 1]))
    inode = worker.rig.path(f"{VOLUME}.ecj").stat().st_ino
    assert worker.call(FoldJournal(VOLUME, "")) == Empty()
    assert worker.journal() == []
    assert worker.row(3) < 0
    assert worker.rig.path(f"{VOLUME}.ecj").stat().st_ino == inode
    if not mounted:
        worker.mount()
    assert worker.delete(3) == Empty()
    assert worker.journal() == []
    assert worker.delete(6) == Empty()
    assert (worker.journal(), worker.deleted()) == ([6], {3, 6})


def test_what_a_failed_flush_may_have_lost_of_a_fold_is_written_again(worker: Worker) -> None:
    """After the error the kernel takes the index for written: as long as it is cached it reads as if it were."""
    worker.delete(3)
    files = worker.rig.files
    assert isinstance(files, BreakableFiles)
    files.break_next("sync", ".ecx", errno.EIO)
    assert isinstance(worker.call(FoldJournal(VOLUME, "")), DiskError)
    assert worker.journal() == [3]
    files.calls.clear()
    assert worker.call(FoldJournal(VOLUME, "")) == Empty()
    written, flushed, emptied = (files.calls.index((call, f"{VOLUME}.{name}")) for call, name in (
        ("write_at", "ecx"), ("sync", "ecx"), ("truncate", "ecj"),
    ))  # fmt: skip
    assert written < flushed < emptied


def test_folding_without_a_journal_is_nothing(rig: Rig) -> None:
    assert Worker(rig).call(FoldJournal(VOLUME, "")) == Empty()
    assert not rig.path(f"{VOLUME}.ecj").exists()


def test_a_torn_journal_is_not_folded(rig: Rig) -> None:
    torn = encode_journal([2]) + b"torn"
    rig.path(f"{VOLUME}.ecj").write_bytes(torn)
    answer = Worker(rig).call(FoldJournal(VOLUME, ""))
    assert isinstance(answer, BadEcIndex)
    assert answer.text == "rebuild: read ecj: unexpected EOF"
    assert rig.path(f"{VOLUME}.ecj").read_bytes() == torn


def test_disks_that_share_an_index_directory_lose_no_deletion(tmp_path: Path, encoded: EncodedSet) -> None:
    """Both write to one journal, and one folds it."""
    encoded.place(tmp_path, VOLUME, ())
    first, second = (Worker(shared(tmp_path, name, encoded)) for name in ("a", "b"))
    try:
        for one in (first, second):
            one.mount()
        assert [first.delete(1), second.delete(2), first.delete(3), second.delete(1)] == [Empty()] * 4
        journal = tmp_path / f"{VOLUME}.ecj"
        assert decode_journal(journal.read_bytes()) == [1, 2, 3]
        assert first.call(FoldJournal(VOLUME, "")) == Empty()
        assert [second.delete(4), first.delete(5)] == [Empty()] * 2
        assert decode_journal(journal.read_bytes()) == [4, 5]
    finally:
        first.rig.close()
        second.rig.close()


def test_what_another_disk_has_journaled_is_learnt_though_the_own_deletion_fails(
    tmp_path: Path, encoded: EncodedSet
) -> None:
    encoded.place(tmp_path, VOLUME, ())
    first, second = (Worker(shared(tmp_path, name, encoded)) for name in ("a", "b"))
    try:
        for one in (first, second):
            one.mount()
        second.delete(2)
        files = first.rig.files
        assert isinstance(files, BreakableFiles)
        files.break_next("write_at", ".ecj", errno.ENOSPC)
        assert isinstance(first.delete(1), DiskError)
        assert first.delete(3) == Empty()
        map_id = first.volumes.volumes[VOLUME].map_id
        assert {key for key in range(1, 13) if first.rig.disk.site.map.lookup(map_id, key)} == {2, 3}
    finally:
        first.rig.close()
        second.rig.close()


def shared(index: Path, name: str, encoded: EncodedSet) -> Rig:
    (index / name).mkdir()
    rig = Rig(index / name, BreakableFiles(), index=index)
    encoded.place(rig.directory, VOLUME, (0, 1), (".vif",))
    return rig


# A kill between any two changes of the disk

STEPS: Sequence[Any] = [
    DeleteEcNeedle(VOLUME, 3),
    MergeJournal(VOLUME, "", [4, 5]),
    FoldJournal(VOLUME, ""),
    DeleteEcNeedle(VOLUME, 6),
]
ACKNOWLEDGED = [{3}, {4, 5}, set(), {6}]


@pytest.mark.parametrize("kill_at", range(12))
def test_what_was_answered_survives_a_kill(tmp_path: Path, encoded: EncodedSet, kill_at: int) -> None:
    files = FailingIO(1 << 30, stays_broken=True)
    rig = Rig(tmp_path, files)
    encoded.place(rig.directory, VOLUME)
    worker = Worker(rig)
    worker.mount()
    files.changes, files.fails_at = 0, kill_at
    answers = [worker.call(step) for step in STEPS]
    expected = {key for answer, keys in zip(answers, ACKNOWLEDGED, strict=True) if answer == Empty() for key in keys}
    assert answers != [Empty()] * len(STEPS)
    rig.kill()
    rig.files = FileIO()
    again = Worker(rig)
    again.mount()
    assert expected <= again.deleted() <= {3, 4, 5, 6}
    rig.close()
