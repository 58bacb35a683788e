"""The process that computes shards for a worker: its results, its place among the others, and its ends."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.erasure_kit import RATIO, SmallVolume
from tests.processes import session_pids, wait_until
from volumed.erasure.columns import Progress
from volumed.erasure.encode import EncodeColumns, encode_shards
from volumed.erasure.errors import EcInterrupted
from volumed.erasure.layout import Layout
from volumed.errors import NodeError
from volumed.storage.fileio import File, FileIO
from workers.coding.process import CodingProcess

pytestmark = pytest.mark.probe


class Files(FileIO):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.noted: list[OSError] = []

    def note(self, error: OSError) -> None:
        self.noted.append(error)


class Facts(NamedTuple):
    """What the process says of itself."""

    pid: int
    scheduling: int
    killed_before_others: int

    def run(self, *_: object) -> Facts:
        """A task."""
        return Facts(os.getpid(), os.sched_getscheduler(0), int(Path("/proc/self/oom_score_adj").read_text()))


class Endless(NamedTuple):
    """A task that says that it has begun."""

    def run(self, _files: FileIO, _opened: Sequence[File], progress: Progress, _threads: int) -> None:
        progress.expect(10)
        progress.advance(1)
        threading.Event().wait()


class Deadly:
    """A task whose process does not live to get it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def __reduce__(self) -> tuple[type, tuple[int]]:
        os.kill(self.pid, signal.SIGKILL)
        os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOWAIT)
        return (Deadly, (self.pid,))

    def run(self, *_: object) -> None:
        raise AssertionError


class Broken(NamedTuple):
    """A task with a bug."""

    def run(self, *_: object) -> None:
        raise ValueError("a bug")


FACTS = Facts(0, 0, 0)
ROOT = Path(__file__).parents[2]
LIMIT_S = 60.0


def test_it_computes_what_a_thread_computes(tmp_path: Path) -> None:
    volume = SmallVolume(tmp_path / "d")
    expected = volume.encode()
    dat = volume.files.open(volume.paths.data(".dat"))
    layout = Layout.for_encoding(RATIO, volume.files.size(dat))
    paths = [str(tmp_path / f"shard{shard}") for shard in range(RATIO.total)]
    told: list[tuple[int, int]] = []
    progress = Progress(lambda done, total: told.append((done, total)))
    with CodingProcess("test", progress, volume.files) as coder:
        sums = encode_shards(volume.files, dat, layout, paths, progress, coder)
    assert tuple(sums) == expected.sidecar.shards
    assert [Path(path).read_bytes() for path in paths] == volume.shard_bytes()
    assert len(told) == 4
    total = RATIO.data * layout.shard_length
    assert told[-1] == (total, total)


def test_everybody_else_goes_first() -> None:
    progress = Progress()
    with CodingProcess("test", progress, FileIO()) as coder:
        facts = coder.run(FACTS, [], progress)
        assert facts == (facts.pid, os.SCHED_IDLE, 1000)
        assert coder.run(FACTS, [], progress) == facts
    with pytest.raises(ProcessLookupError):
        os.kill(facts.pid, 0)


def test_an_operation_that_is_told_to_stop_ends_at_once() -> None:
    progress = Progress(lambda _done, _total: progress.stop())
    with CodingProcess("test", progress, FileIO()) as coder, pytest.raises(EcInterrupted):
        coder.run(Endless(), [], progress)
    with CodingProcess("test", progress, FileIO()) as coder, pytest.raises(EcInterrupted):
        coder.run(FACTS, [], progress)


def test_an_operation_whose_process_is_killed_fails() -> None:
    progress = Progress(lambda _done, _total: os.kill(pid, signal.SIGKILL))
    with CodingProcess("test", progress, FileIO()) as coder:
        pid = coder.run(FACTS, [], progress).pid
        for _ in range(2):
            with pytest.raises(NodeError, match="the coding process has ended with status -9"):
                coder.run(Endless(), [], progress)


def test_an_operation_whose_process_is_killed_before_it_begins_fails_likewise() -> None:
    progress = Progress()
    with (
        pytest.raises(NodeError, match="the coding process has ended with status -9"),
        CodingProcess("test", progress, FileIO()) as coder,
    ):
        coder.run(Deadly(coder.run(FACTS, [], progress).pid), [], progress)


def test_where_nobody_may_be_idle_it_computes_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "sched_setscheduler", refuse)
    progress = Progress()
    with CodingProcess("test", progress, FileIO()) as coder:
        assert coder.run(FACTS, [], progress).scheduling == os.sched_getscheduler(0)


def test_an_operation_fails_with_a_bug(capfd: pytest.CaptureFixture[str]) -> None:
    progress = Progress()
    with (
        CodingProcess("test", progress, FileIO()) as coder,
        pytest.raises(NodeError, match="the coding process has ended with status 1"),
    ):
        coder.run(Broken(), [], progress)
    assert "ValueError: a bug" in capfd.readouterr().err


def test_what_the_disk_refuses_is_told(tmp_path: Path) -> None:
    files, progress = Files(), Progress()
    volume = SmallVolume(tmp_path / "d")
    volume.encode()
    dat = files.open(volume.paths.data(".dat"))
    layout = Layout.for_encoding(RATIO, files.size(dat))
    shards = [files.open(str(volume.shard_path(shard)), writable=False) for shard in range(RATIO.total)]
    with CodingProcess("test", progress, files) as coder, pytest.raises(OSError, match="Bad file descriptor"):
        coder.run(EncodeColumns(layout), [dat, *shards], progress)
    assert [error.errno for error in files.noted] == [errno.EBADF]


def test_it_ends_with_its_worker() -> None:
    program = f"""
from {__name__} import FACTS, CodingProcess, FileIO, Progress
progress = Progress()
with CodingProcess("test", progress, FileIO()) as coder:
    print(coder.run(FACTS, [], progress).pid, flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT, start_new_session=True,
    ) as worker:  # fmt: skip
        assert worker.stdout is not None
        assert int(worker.stdout.readline()) in session_pids(worker.pid)
        worker.kill()
    wait_until(lambda: not session_pids(worker.pid), timeout_s=LIMIT_S, what="the end of the coding process")
