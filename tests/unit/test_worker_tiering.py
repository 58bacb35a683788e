"""`workers.tiering` on a real disk and a small object store, with the shell's threads run by hand."""

from __future__ import annotations

import errno
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.fake_s3 import FakeS3
from tests.hand_shell import HandShell, start_call
from tests.storage_kit import DELETED, ERROR, STORED, BreakableFiles, Rig, delete, outcomes, put
from volumed.bus.calls import DeleteVolume
from volumed.bus.events import BackendSettings, StorageBackends, VolumeStatistics
from volumed.bus.tier_calls import FetchTier, ReadDistant, TierMoveView, UploadTier, WatchTier
from volumed.errors import NeedleDeleted, StaleGeneration, VolumeBusy, VolumedError
from volumed.storage.map_records import VolumeFlag
from workers.mounting import Mounting
from workers.tiering import Tiering


class Worker:
    """The tiering of one disk, its volumes, and an object store."""

    def __init__(self, rig: Rig, store: FakeS3) -> None:
        self.rig = rig
        self.store = store
        self.now = 100.0
        self.start()

    def start(self) -> None:
        self.shell = HandShell()
        self.mounted: list[VolumeStatistics] = []
        self.tiering = Tiering(
            self.rig.disk,
            self.shell,  # type: ignore[arg-type]
            Mounting(self.rig.disk, self.shell),  # type: ignore[arg-type]
            self.mounted.extend,
            lambda: None,
            lambda: self.now,
        )

    def restart(self, *, kill: bool = False) -> None:
        (self.rig.kill if kill else self.rig.close)()
        self.start()

    def tell(self, *ids: str) -> None:
        properties = {"endpoint": self.store.endpoint, "bucket": "b", "aws_access_key_id": "k"}
        properties |= {"aws_secret_access_key": "s"}
        self.tiering.told(StorageBackends([BackendSettings("s3", name, properties) for name in ids]))

    def call(self, request: Any) -> Any:
        """The answer to a call; raises if it is an error."""
        (answer,) = start_call(self.tiering.handlers, request)
        if isinstance(answer, VolumedError):
            raise answer
        return answer

    def move(self, request: Any) -> TierMoveView:
        """Start a move and see its end; raises its error."""
        view: TierMoveView = self.call(WatchTier(self.call(request).move_id))
        assert view.ended
        return view

    def upload(self, **options: Any) -> TierMoveView:
        return self.move(UploadTier(1, "", "s3", **options))

    @property
    def volume(self) -> Any:
        return self.rig.disk.volumes[1]

    def entries(self) -> list[dict[str, str]]:
        found: list[dict[str, str]] = json.loads(self.rig.path("1.vif").read_text())["files"]
        return found


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    rig = Rig(tmp_path, BreakableFiles())
    rig.allocate()
    rig.store(put(1, b"one"), put(2, b"two"), put(3, b"three"))
    with FakeS3() as store:
        worker = Worker(rig, store)
        worker.tell("default", "cold")
        yield worker
        rig.close()


def is_as_before(worker: Worker) -> None:
    """The volume is local, whole, and takes writes."""
    assert worker.rig.path("1.dat").exists()
    assert not worker.entries()
    assert not worker.store.objects
    assert not worker.volume.held_while
    assert outcomes(worker.rig.store(put(9, b"nine"))) == [STORED]
    assert worker.rig.read(1, 1).data == b"one"


def test_data_that_went_away_are_read_from_there(worker: Worker) -> None:
    before = worker.rig.path("1.dat").read_bytes()
    view = worker.upload()
    assert (view.processed, view.total) == (len(before), len(before))
    assert not worker.rig.path("1.dat").exists()
    (entry,) = worker.entries()
    assert worker.store.objects == {f"b/{entry['key']}": before}
    assert (entry["backendType"], entry["backendId"], entry["fileSize"]) == ("s3", "default", str(len(before)))
    assert worker.rig.read(1, 2).data == b"two"
    report = worker.volume.statistics().report
    assert (report.remote_storage_name, report.remote_storage_key) == ("s3.default", entry["key"])
    assert (report.size, report.read_only, report.read_only_can_delete) == (len(before), True, True)
    assert report.modified_at_second == int(entry["modifiedTime"])


def test_writes_are_refused_and_deletions_leave_only_rows(worker: Worker) -> None:
    worker.upload()
    rows = worker.rig.path("1.idx").stat().st_size
    assert outcomes(worker.rig.store(put(4, b"four"))) == [ERROR]
    assert outcomes(worker.rig.store(delete(2), delete(2))) == [DELETED, DELETED]
    assert worker.rig.path("1.idx").read_bytes()[rows:] == bytes.fromhex("0000000000000002 0000000000 ffffffff")
    with pytest.raises(NeedleDeleted):
        worker.rig.read(1, 2)
    assert worker.rig.read(1, 2, deleted=True).data == b"two"
    assert not worker.rig.path("1.dat").exists()


@pytest.mark.parametrize("kill", [False, True], ids=["stopped", "killed"])
def test_a_restart_changes_nothing(worker: Worker, kill: bool) -> None:
    worker.upload()
    worker.rig.store(delete(2))
    counters = worker.rig.counters()
    worker.restart(kill=kill)
    assert not worker.rig.disk.volumes
    assert not worker.tiering.settled
    worker.tell("default")
    assert worker.tiering.settled
    assert [item.report.id for item in worker.mounted] == [1]
    assert worker.rig.counters() == counters
    assert worker.rig.read(1, 3).data == b"three"
    assert outcomes(worker.rig.store(put(4, b"four"), delete(3))) == [ERROR, DELETED]


def test_back_again(worker: Worker) -> None:
    before = worker.rig.path("1.dat").read_bytes()
    worker.upload()
    worker.rig.store(delete(2))
    worker.move(FetchTier(1, "", keep_remote=True))
    assert worker.rig.path("1.dat").read_bytes() == before
    assert not worker.entries()
    assert len(worker.store.objects) == 1
    assert outcomes(worker.rig.store(put(4, b"four"))) == [ERROR], "until it is mounted again"
    worker.rig.disk.unmount(1)
    worker.rig.disk.mount(1)
    assert outcomes(worker.rig.store(put(4, b"four"), delete(3))) == [STORED, DELETED]
    worker.restart()
    assert worker.rig.read(1, 4).data == b"four"
    for key in (2, 3):
        with pytest.raises(NeedleDeleted):
            worker.rig.read(1, key)


def test_the_object_goes_when_it_is_not_to_be_kept(worker: Worker) -> None:
    worker.upload(keep_local=True)
    assert worker.rig.path("1.dat").exists()
    worker.move(FetchTier(1, ""))
    assert not worker.store.objects
    worker.store.failing = lambda method, _path: 403 if method == "DELETE" else 0
    worker.upload()
    with pytest.raises(VolumedError, match="^volume 1 failed to delete remote file "):
        worker.move(FetchTier(1, ""))
    assert worker.rig.read(1, 1).data == b"one", "from the disk"
    assert not worker.entries()


@pytest.mark.parametrize("method", ["PUT", "HEAD"])
def test_an_upload_that_fails_changes_nothing(worker: Worker, method: str) -> None:
    worker.store.failing = lambda asked, _path: 403 if asked == method else 0
    with pytest.raises(VolumedError, match=r"^backend s3 copy file .*/1.dat: .*\n\tstatus code: 403"):
        worker.upload()
    is_as_before(worker)


def test_an_upload_that_arrives_short_changes_nothing(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = worker.store.answer

    def lose(method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        return kept(method, path, headers, body[:-1])

    monkeypatch.setattr(worker.store, "answer", lose)
    with pytest.raises(VolumedError, match="bytes arrived"):
        worker.upload()
    is_as_before(worker)


def test_a_vif_that_cannot_be_written_leaves_everything_here(worker: Worker) -> None:
    worker.rig.files.break_next("write_at", ".vif.tmp.volumed", errno.ENOSPC)  # type: ignore[attr-defined]
    with pytest.raises(VolumedError, match="^volume 1 failed to save remote file info: no space left on device"):
        worker.upload()
    is_as_before(worker)


def test_a_download_that_fails_leaves_the_volume_there(worker: Worker) -> None:
    worker.upload()
    worker.store.failing = lambda method, _path: 403 if method == "GET" else 0
    with pytest.raises(VolumedError, match=r"^backend s3.default copy file .*/1.dat: "):
        worker.move(FetchTier(1, ""))
    worker.store.failing = lambda _method, _path: 0
    assert not list(worker.rig.directory.glob("*.dat*"))
    assert worker.rig.read(1, 1).data == b"one"


def test_a_volume_on_its_way_takes_deletions_and_nothing_else(worker: Worker) -> None:
    worker.shell.waiting = []
    move_id = worker.call(UploadTier(1, "", "s3")).move_id
    assert worker.volume.read_only
    dat = worker.rig.path("1.dat").read_bytes()
    assert outcomes(worker.rig.store(put(4, b"four"), delete(2))) == [ERROR, DELETED]
    assert worker.rig.path("1.dat").read_bytes() == dat
    for refused in (lambda: worker.rig.disk.unmount(1), lambda: worker.rig.disk.delete(DeleteVolume(1))):
        with pytest.raises(VolumeBusy):
            refused()
    with pytest.raises(VolumeBusy):
        worker.call(UploadTier(1, "", "s3"))
    worker.rig.disk.mark_writable(1)
    assert outcomes(worker.rig.store(put(4, b"four"))) == [ERROR]
    assert not worker.call(WatchTier(move_id)).ended
    worker.tiering.stop()
    worker.shell.go_on()
    with pytest.raises(VolumedError, match="the transfer was stopped"):
        worker.call(WatchTier(move_id))
    is_as_before(worker)
    worker.restart()
    with pytest.raises(NeedleDeleted):
        worker.rig.read(1, 2)


def test_what_was_read_only_before_stays_so(worker: Worker) -> None:
    worker.volume.flags |= VolumeFlag.NO_WRITE_CAN_DELETE
    worker.store.failing = lambda method, _path: 403 if method == "PUT" else 0
    with pytest.raises(VolumedError):
        worker.upload()
    assert outcomes(worker.rig.store(put(4, b"four"), delete(1))) == [ERROR, DELETED]


@pytest.mark.parametrize("keep", [False, True])
def test_a_deleted_volume_takes_its_object_along_unless_told_not_to(worker: Worker, keep: bool) -> None:
    worker.upload()
    worker.rig.disk.delete(DeleteVolume(1, keep_remote_data=keep))
    worker.tiering.tick()
    assert bool(worker.store.objects) == keep


ERRORS = {
    "missing": (UploadTier(9, "", "s3"), "volume 9 not found"),
    "collection": (UploadTier(1, "x", "s3"), "existing collection: unexpected input: x"),
    "destination": (UploadTier(1, "", "nope"), "destination nope not found, supported: [s3.default s3 s3.cold]"),
    "local": (FetchTier(1, ""), "volume 1 is already on local disk"),
    "no move": (WatchTier(7), "there is no move 7"),
}


@pytest.mark.parametrize("case", ERRORS)
def test_errors(worker: Worker, case: str) -> None:
    request, text = ERRORS[case]
    with pytest.raises(VolumedError) as caught:
        worker.call(request)
    assert caught.value.text == text


def test_a_tiered_volume_is_not_uploaded_again(worker: Worker) -> None:
    worker.upload()
    assert worker.call(UploadTier(1, "", "s3.cold")).move_id == 0


def test_an_unknown_backend_is_an_error_of_the_mount_alone(worker: Worker) -> None:
    worker.upload()
    worker.restart()
    worker.tell("cold")
    failures: list[Exception] = []
    worker.tiering.mount(1, "", lambda _: None, failures.append)
    assert [str(error) for error in failures] == ["backend storage s3.default not found"]
    worker.tell("cold", "default")
    assert worker.rig.read(1, 1).data == b"one"


def test_a_store_that_fails_is_asked_again_and_waited_for_only_shortly(worker: Worker) -> None:
    worker.upload()
    worker.restart()
    worker.store.failing = lambda _method, _path: 503
    worker.shell.waiting = []
    worker.tell("default")
    assert not worker.tiering.settled
    worker.now += 3.1
    assert worker.tiering.settled
    worker.shell.go_on()
    assert not worker.rig.disk.volumes
    worker.store.failing = lambda _method, _path: 0
    worker.tiering.tick()
    assert not worker.rig.disk.volumes
    worker.now += 10
    worker.tiering.tick()
    assert worker.rig.read(1, 1).data == b"one"


def test_pieces_for_other_processes(worker: Worker) -> None:
    before = worker.rig.path("1.dat").read_bytes()
    worker.upload()
    generation = worker.volume.generation
    assert worker.call(ReadDistant(1, generation, 8, 16)).data == before[8:24]
    with pytest.raises(StaleGeneration):
        worker.call(ReadDistant(1, generation + 1, 8, 16))
    with pytest.raises(VolumedError):
        worker.call(ReadDistant(1, generation, 8, 1 << 30))


def test_an_expired_ttl_counts_from_the_entry(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.allocate(ttl=0x0503)
    rig.store(put(1, b"one"))
    with FakeS3() as store:
        worker = Worker(rig, store)
        worker.tell("default")
        worker.upload()
        (entry,) = worker.entries()
        rig.forget_map()
        worker.start()
        worker.tell("default")
        assert worker.volume.progress.ttl_clock_s == int(entry["modifiedTime"])
        rig.close()
