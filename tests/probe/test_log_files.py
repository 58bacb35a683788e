"""Log files of a running node (http.md 9.2): everything of all processes is in them, and no log disk can hold it up."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.processes import wait_until
from tests.web import assign, get, upload

pytestmark = pytest.mark.probe

LINES = ("supervisor volumed ", "worker disk=0 stopped", "http http listening", "grpc grpc listening")


class LoggingNode(Volumed):
    """A node that logs below ``home/log``. ``global_flags`` go before the subcommand, as they must."""

    def __init__(self, home: Path, *global_flags: str, flags: Sequence[str] = ()) -> None:
        super().__init__(home, flags=["-fronts=2", *flags])
        self.logs = home / "log"
        self.logs.mkdir(exist_ok=True)
        self.path = self.logs / f"volumed-{self.port}.log"
        self.global_flags = [f"-logdir={self.logs}", *global_flags]

    def program(self) -> list[str]:
        program, word = super().program()
        return [program, *self.global_flags, word]


def stored(server: Volumed) -> bytes:
    """What comes back of an object stored now."""
    fid, url = assign(server.address)
    assert upload(url, fid, b"hello").status == 201
    return get(url, f"/{fid}").body


def test_the_log_of_all_processes_is_in_one_file_to_the_end(tmp_path: Path) -> None:
    with LoggingNode(tmp_path) as server:
        server.stop()
        written, shown = server.path.read_text(), server.log_tail()
    assert [part for part in LINES if part not in written] == []
    assert [part for part in LINES if part not in shown] == []


def test_standard_error_gets_only_what_is_severe(tmp_path: Path) -> None:
    dirs = f"-dir={tmp_path / 'data'},{tmp_path / 'none'}"
    with LoggingNode(tmp_path, "-alsologtostderr=false", "-log_json", flags=[dirs]) as server:
        wait_until(lambda: "no such file" in server.log_tail(), timeout_s=30, what="the error is shown")
        server.stop()
    written = [json.loads(line) for line in server.path.read_text().splitlines()]
    assert {"INFO", "ERROR"} <= {entry["level"] for entry in written}
    shown = [json.loads(line) for line in server.log_tail().splitlines() if line.startswith("{")]
    assert {entry["level"] for entry in shown} == {"ERROR"}


def test_a_fatal_text_is_shown_and_written(tmp_path: Path) -> None:
    server = LoggingNode(tmp_path, "-alsologtostderr=false", flags=["-max=x"])
    server.launch()
    server.wait_exit(expected=255)
    text = "The max specified in -max not a valid number x\n"
    assert server.log_tail().endswith(text)
    assert server.path.read_text().endswith(text)


def test_a_log_directory_that_is_missing_is_refused(tmp_path: Path) -> None:
    server = LoggingNode(tmp_path)
    server.logs.rmdir()
    server.launch()
    server.wait_exit(expected=255)
    assert f"cannot write log files in -logdir {server.logs}: No such file or directory" in server.log_tail()


def test_a_log_disk_that_hangs_holds_nobody_up(tmp_path: Path) -> None:
    server = LoggingNode(tmp_path)
    os.mkfifo(server.path)  # opening it waits for a reader
    with server:
        assert stored(server) == b"hello"
        server.stop()


def test_a_log_disk_that_is_full_holds_nobody_up(tmp_path: Path) -> None:
    server = LoggingNode(tmp_path, "-alsologtostderr=false")
    server.path.symlink_to("/dev/full")
    with server:
        assert stored(server) == b"hello"
        server.stop()
    assert server.log_tail().count("cannot write the log file: [Errno 28] No space left on device") == 1
