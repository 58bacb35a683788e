"""Commits of vacuums among writes and deletes, kills and failures: nothing that was acknowledged is ever lost."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.compaction_kit import Vacuum
from tests.storage_kit import BreakableFiles, Rig, delete, put
from volumed.bus.frames import FLAG_FSYNC, READ_NEEDLE, ReadOperation, StoreOperation, StoreResult
from volumed.errors import CompactionError, DiskError, StaleGeneration, VolumedError
from volumed.formats.idx import iter_rows
from volumed.storage import compaction, compaction_map
from volumed.storage.compaction_commit import SwapInterrupted
from volumed.storage.fileio import Buffer, File, FileIO
from volumed.storage.store import ANY_GENERATION
from workers import compaction_commit

KEYS = range(8)
Contents = dict[int, bytes | None]


class Killed(BaseException):
    """The process ends here."""


class MortalFiles(FileIO):
    """Lets the process end in the middle of a change to the disk, the ``life``-th."""

    life = 1 << 60

    def write_at(self, file: File, offset: int, pieces: Sequence[Buffer]) -> int:
        content = b"".join(pieces)
        self._live(lambda: FileIO.write_at(self, file, offset, [content[: len(content) // 2]]))
        return super().write_at(file, offset, pieces)

    def copy(self, source: File, target: File, target_offset: int, length: int, *, source_offset: int = 0) -> None:
        self._live()
        super().copy(source, target, target_offset, length, source_offset=source_offset)

    def open(self, path: str, *, writable: bool = True, create: bool = False) -> File:
        if create:
            self._live()
        return super().open(path, writable=writable, create=create)

    def truncate(self, file: File, length: int) -> None:
        self._live()
        super().truncate(file, length)

    def sync(self, file: File) -> None:
        self._live()
        super().sync(file)

    def sync_directory(self, path: str) -> None:
        self._live()
        super().sync_directory(path)

    def rename(self, source: str, target: str) -> None:
        self._live()
        super().rename(source, target)

    def remove(self, path: str) -> bool:
        self._live()
        return super().remove(path)

    def _live(self, half: Callable[[], Any] = lambda: None) -> None:
        self.life -= 1
        if not self.life:
            half()
            raise Killed


class Model:
    """What clients know: the contents that were acknowledged, and those that were sent."""

    def __init__(self) -> None:
        self.told: Contents = {}
        self.maybe: dict[int, list[bytes | None]] = {}
        self._waiting: list[tuple[StoreOperation, bytes | None, list[StoreResult]]] = []

    def send(self, vacuum: Vacuum, operation: StoreOperation, content: bytes | None) -> None:
        self.maybe.setdefault(operation.key, []).append(content)
        self._waiting.append((operation, content, vacuum.shell.store(operation)))

    def settle(self) -> None:
        """Take note of the answers."""
        waiting, self._waiting = self._waiting, []
        for operation, content, results in waiting:
            if not results:
                self._waiting.append((operation, content, results))
                continue
            assert results[0].error is None, results[0].error
            self.told[operation.key] = content
            self.maybe[operation.key].remove(content)

    def check(self, rig: Rig) -> None:
        """What was acknowledged last is there, or what was sent after it."""
        found = contents(rig)
        for key in KEYS:
            assert found.get(key) in [self.told.get(key), *self.maybe.get(key, [])], key

    @property
    def settled(self) -> bool:
        return not self._waiting


def contents(rig: Rig) -> Contents:
    found: Contents = {}
    for key in KEYS:
        try:
            found[key] = bytes(rig.read(1, key).data)
        except VolumedError:
            continue
    return found


@st.composite
def _operations(draw: st.DrawFn) -> tuple[StoreOperation, bytes | None]:
    key = draw(st.sampled_from(KEYS))
    flags = draw(st.sampled_from([0, 0, 0, FLAG_FSYNC]))
    if draw(st.integers(0, 3)) == 0:
        return delete(key, flags=flags), None
    data = draw(st.sampled_from([b"", b"a", b"bb" * 40, b"ccc" * 300]))
    return put(key, data, flags=flags), data


_HISTORY = st.lists(_operations(), max_size=25)
_PLAY = st.lists(st.one_of(_operations(), st.integers(1, 4)), max_size=30)
"""Operations, and numbers of steps of the vacuum between them."""


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path, BreakableFiles())
    rig.allocate()
    yield rig
    rig.close()


@pytest.fixture(autouse=True)
def _small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many steps for few needles."""
    monkeypatch.setattr(compaction, "_BLOCK_BYTES", 200)
    monkeypatch.setattr(compaction_map, "SLICE_ROWS", 2)
    monkeypatch.setattr(compaction_commit, "SLICE_ROWS", 2)
    monkeypatch.setattr(compaction_commit, "_LITTLE_BYTES", 20)


def _play(rig: Rig, model: Model, history: Sequence[Any], play: Sequence[Any], rounds: int = 2) -> None:
    vacuum = Vacuum(rig)
    for operation, content in history:
        model.send(vacuum, operation, content)
        vacuum.shell.run()
        model.settle()
    acts = list(play)
    for _ in range(rounds):
        vacuum.start()
        _mix(vacuum, model, acts)
        vacuum.begin_commit()
        _mix(vacuum, model, acts)


def _mix(vacuum: Vacuum, model: Model, acts: list[Any]) -> None:
    """Steps of the vacuum until it is at rest, with acts in between."""
    shell = vacuum.shell
    while shell.queue:
        act = acts.pop(0) if acts else 1
        if isinstance(act, int):
            for _ in range(act):
                shell.step()
        else:
            model.send(vacuum, *act)
        model.settle()


@settings(deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=_HISTORY, play=_PLAY)
def test_vacuums_among_writes_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, history: list[Any], play: list[Any]
) -> None:
    rig = Rig(tmp_path_factory.mktemp("disk"))
    rig.allocate()
    model = Model()
    _play(rig, model, history, play)
    assert model.settled
    alive = {key: data for key, data in model.told.items() if data is not None}
    assert contents(rig) == alive
    assert rig.disk.status(1).compact_revision == 2
    assert not list(rig.directory.glob("1.cp*"))
    seen = rig.disk.status(1), rig.counters(), rig.disk.volumes[1].progress.max_key
    rig.reopen()
    assert (rig.disk.status(1), rig.counters(), rig.disk.volumes[1].progress.max_key) == seen
    rig.forget_map()
    assert (rig.disk.status(1), rig.counters(), rig.disk.volumes[1].progress.max_key) == seen
    assert contents(rig) == alive
    with rig.disk.site.map.begin() as txn:
        assert txn.map_ids() <= {rig.disk.volumes[1].map_id}
    rig.close()


@settings(deadline=None, max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(history=_HISTORY, play=_PLAY, life=st.integers(1, 150))
def test_a_kill_anywhere_loses_nothing(
    tmp_path_factory: pytest.TempPathFactory, history: list[Any], play: list[Any], life: int
) -> None:
    files = MortalFiles()
    rig = Rig(tmp_path_factory.mktemp("disk"), files)
    rig.allocate()
    model = Model()
    files.life = life
    try:
        _play(rig, model, history, play, rounds=1)
    except Killed:
        model.settle()
    files.life = 1 << 60
    rig.reopen_after_kill()
    assert not rig.disk.status(1).is_read_only
    model.check(rig)
    assert not list(rig.directory.glob("1.cp*"))
    with rig.disk.site.map.begin() as txn:
        assert txn.map_ids() <= {rig.disk.volumes[1].map_id}
    Vacuum(rig).compact()
    rig.close()


def _steps_of_a_vacuum(root: Path, place: str) -> int:
    files = MortalFiles()
    rig = _filled(root, files, place)
    rig.disk.status(1)
    files.life = 1 << 30
    _vacuum_with_a_write(rig, Model())
    total = (1 << 30) - files.life
    rig.close()
    return total


def _filled(root: Path, files: FileIO, place: str = "together") -> Rig:
    """``place`` of the index: with the data, in its own directory, or with the data although it has a directory."""
    root.mkdir(exist_ok=True)
    rig = Rig(root, files)
    if place == "apart":
        _move_indexes(rig, root)
    rig.allocate()
    rig.store(*[put(key, b"%d" % key * 30) for key in KEYS], delete(3))
    if place == "beside":
        rig.close()
        _move_indexes(rig, root)
    return rig


def _move_indexes(rig: Rig, root: Path) -> None:
    (root / "indexes").mkdir()
    rig.config = msgspec.structs.replace(rig.config, idx_directory=str(root / "indexes"))
    rig.node = msgspec.structs.replace(rig.node, disks=(rig.config,))


def _vacuum_with_a_write(rig: Rig, model: Model) -> None:
    vacuum = Vacuum(rig)
    model.told = {key: b"%d" % key * 30 for key in KEYS if key != 3}
    vacuum.start()
    for operation, content in ((put(3, b""), b""), (put(1, b"new"), b"new"), (delete(2), None)):
        model.send(vacuum, operation, content)
        vacuum.shell.step()
        model.settle()
    vacuum.shell.run()
    vacuum.begin_commit()
    vacuum.shell.run()


@pytest.mark.parametrize("place", ["together", "apart", "beside"])
def test_a_kill_at_every_single_change_of_the_disk(tmp_path: Path, place: str) -> None:
    total = _steps_of_a_vacuum(tmp_path / "all", place)
    assert total > 30
    for life in range(1, total + 1):
        files = MortalFiles()
        rig = _filled(tmp_path / str(life), files, place)
        rig.disk.status(1)
        model = Model()
        files.life = life
        with pytest.raises(Killed):
            _vacuum_with_a_write(rig, model)
        model.settle()
        files.life = 1 << 60
        rig.reopen_after_kill()
        assert not rig.disk.status(1).is_read_only, life
        model.check(rig)
        rig.close()


def test_rows_that_came_meanwhile_are_copied_as_they_are(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compaction_commit, "SLICE_ROWS", 100)
    rig.store(put(1, b"a"), put(2, b"b"), put(4, b"d"))
    vacuum = Vacuum(rig)
    vacuum.compact()
    rig.store(put(1, b"new"), put(3, b""), put(1, b"newer"), delete(2))
    records = {offset: size for _, offset, size in iter_rows(rig.path("1.idx").read_bytes())}
    appended_at = rig.read(1, 1).append_at_ns
    old = rig.path("1.dat").read_bytes()
    vacuum.commit()
    dat = rig.path("1.dat").read_bytes()
    rows = list(iter_rows(rig.path("1.idx").read_bytes()))
    assert [(key, size) for key, _, size in rows] == [
        (1, rows[0][2]), (2, rows[0][2]), (4, rows[0][2]), (3, 0), (1, rows[4][2]), (2, -1),
    ]  # fmt: skip
    tombstone, empty = max(records), next(offset for offset, size in records.items() if size == 0)
    assert dat[rows[5][1] :] == old[tombstone:]
    assert dat[rows[3][1] : rows[4][1]] == old[empty : empty + 32]
    assert rig.read(1, 1).append_at_ns == appended_at
    rig.reopen()
    assert not rig.disk.status(1).is_read_only


def test_readers_with_old_offsets_look_again(rig: Rig) -> None:
    rig.store(put(1, b"a"), put(2, b"b"), delete(1))
    volume = rig.disk.volumes[1]
    before = volume.generation
    vacuum = Vacuum(rig)
    vacuum.compact()
    vacuum.commit()
    assert volume.generation != before
    with pytest.raises(StaleGeneration):
        volume.read_range(before, 8, 8)
    operation = ReadOperation(1, READ_NEEDLE, 0, 1, ANY_GENERATION, 2, 0, 0)
    assert rig.disk.read(operation)


def test_a_reader_in_the_middle_of_a_commit_is_told_to_look_again(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    """It has seen the old volume, and then finds that the old entries are gone."""
    rig.store(put(1, b"a"))
    vacuum = Vacuum(rig)
    vacuum.compact()
    lookup = rig.disk.site.map.lookup

    def late(map_id: int, key: int) -> tuple[int, int] | None:
        monkeypatch.undo()
        vacuum.commit()
        return lookup(map_id, key)

    monkeypatch.setattr(rig.disk.site.map, "lookup", late)
    with pytest.raises(StaleGeneration):
        rig.read(1, 1)
    assert bytes(rig.read(1, 1).data) == b"a"


def test_writes_wait_while_the_files_change_places(rig: Rig) -> None:
    rig.store(put(1, b"a"))
    vacuum = Vacuum(rig)
    vacuum.compact()
    vacuum.begin_commit()
    while not rig.disk.is_flushing(1):
        assert vacuum.shell.step()
    told = vacuum.shell.store(put(2, b"b"))
    assert not told
    assert bytes(rig.read(1, 1).data) == b"a"
    vacuum.shell.run()
    assert told[0].error is None
    assert contents(rig) == {1: b"a", 2: b"b"}


_FAILURES = [("sync", ".cpd"), ("sync", ".cpx"), ("sync", ".cpc"), ("rename", ".cpd"), ("sync_directory", "data")]


class UnrenamingFiles(BreakableFiles):
    """Renames and flushes of directories can fail, too."""

    def rename(self, source: str, target: str) -> None:
        self._must_fail("rename", source)
        super().rename(source, target)

    def sync_directory(self, path: str) -> None:
        self._must_fail("sync_directory", path)
        super().sync_directory(path)


@pytest.mark.parametrize(("call", "suffix"), _FAILURES)
def test_a_failed_commit_leaves_the_old_files_in_service(tmp_path: Path, call: str, suffix: str) -> None:
    files = UnrenamingFiles()
    rig = _filled(tmp_path, files)
    before = contents(rig)
    vacuum = Vacuum(rig)
    vacuum.compact()
    files.break_next(call, suffix, errno.EIO)
    with pytest.raises(DiskError, match="input/output error"):
        vacuum.commit()
    assert contents(rig) == before
    assert vacuum.shell.released in (0, 1)
    assert vacuum.shell.store(put(3, b"x"))[0].error is None
    assert not list(rig.directory.glob("1.cp*"))
    with rig.disk.site.map.begin() as txn:
        assert txn.map_ids() == {rig.disk.volumes[1].map_id}
    vacuum.compact()
    vacuum.commit()
    assert contents(rig) == before | {3: b"x"}
    rig.close()


@pytest.mark.parametrize("later", [("rename", ".cpx"), ("remove", ".cpc")])
def test_a_commit_that_is_stuck_half_way_ends_the_process(tmp_path: Path, later: tuple[str, str]) -> None:
    """The next one finishes it, or takes it back."""

    class Files(UnrenamingFiles):
        def remove(self, path: str) -> bool:
            self._must_fail("remove", path)
            return super().remove(path)

    files = Files()
    rig = _filled(tmp_path, files)
    before = contents(rig)
    vacuum = Vacuum(rig)
    vacuum.compact()
    if later[0] == "remove":
        files.break_next("rename", ".cpd")
    files.break_next(*later)
    with pytest.raises(SwapInterrupted):
        vacuum.commit()
    rig.reopen_after_kill()
    assert contents(rig) == before
    assert not rig.disk.status(1).is_read_only
    assert rig.disk.status(1).compact_revision == 1
    rig.close()


def test_rows_that_were_taken_back_end_the_vacuum(rig: Rig) -> None:
    """An fsync fails after its rows were followed."""
    files = rig.files
    assert isinstance(files, BreakableFiles)
    rig.store(put(1, b"a"))
    vacuum = Vacuum(rig)
    vacuum.compact()
    files.break_next("sync", ".dat")
    told = vacuum.shell.store(put(2, b"b", flags=FLAG_FSYNC))
    answer = vacuum.begin_commit()
    vacuum.shell.run()
    assert told[0].error is not None
    assert "has changed while it was compacted" in str(answer.failure)
    assert contents(rig) == {1: b"a"}


@pytest.mark.parametrize("which", ["1.dat", "1.cpd"])
def test_other_revisions_are_refused(rig: Rig, which: str) -> None:
    vacuum = Vacuum(rig)
    vacuum.compact()
    content = bytearray(rig.path(which).read_bytes())
    content[5] += 1
    rig.path(which).write_bytes(content)
    with pytest.raises(CompactionError, match="current old dat file's compact revision"):
        vacuum.commit()


def test_without_the_files_nothing_happens(rig: Rig) -> None:
    rig.store(put(1, b"a"))
    vacuum = Vacuum(rig)
    for path in ("1.cpd", "1.cpx"):
        vacuum.compact()
        rig.path(path).unlink()
        with pytest.raises(CompactionError, match=r"^volume 1 compact swap aborted: missing .cpd/.cpx$"):
            vacuum.commit()
    assert contents(rig) == {1: b"a"}


