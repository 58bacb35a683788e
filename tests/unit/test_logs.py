"""Logs: one line per event, with what it is about; log files and their limits; nobody waits for a log."""

from __future__ import annotations

import errno
import gzip
import json
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor import log_pump
from supervisor.log_file import LogFile, LogLimits
from supervisor.log_pump import LogPump
from tests.processes import wait_until
from volumed.logs import configure_logging, severity

STAMP = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture(autouse=True)
def _restore_root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def test_a_line_names_process_disk_and_volume(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("worker", disk=0)
    logging.getLogger("x").warning("lost %d", 3, extra={"volume": 7})
    assert re.fullmatch(rf"WARNING {STAMP} worker disk=0 volume=7 lost 3\n", capfd.readouterr().err)


def test_names_from_outside_cannot_write_lines_or_move_the_cursor(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("http")
    logging.getLogger("x").info("%s", "a\rERROR b\x1b[2J\x9b\u2028\x00c\nERROR d")
    captured = capfd.readouterr().err.encode()
    assert captured.endswith(b" http a\\rERROR b\\x1b[2J\\x9b\\u2028\\x00c\n    ERROR d\n")
    assert [severity(line) for line in captured.splitlines()] == [0, None]


def test_a_traceback_stays_one_entry(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("grpc")
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *rest = capfd.readouterr().err.splitlines()
    assert re.fullmatch(rf"ERROR {STAMP} grpc failed", first)
    assert rest
    assert all(line.startswith("    ") for line in rest)


@pytest.mark.parametrize(("verbosity", "shown"), [(0, False), (1, True)])
def test_verbosity_shows_details(capfd: pytest.CaptureFixture[str], verbosity: int, shown: bool) -> None:
    configure_logging("http", verbosity)
    logging.getLogger("x").debug("detail")
    assert bool(capfd.readouterr().err) == shown


def test_an_entry_as_json(capfd: pytest.CaptureFixture[str]) -> None:
    configure_logging("worker", disk=0, as_json=True)
    logging.getLogger("x").warning('lost "%s"\n\udcff', 3, extra={"volume": 7})
    entry = json.loads(capfd.readouterr().err)
    assert re.fullmatch(STAMP, entry.pop("ts"))
    message = 'lost "3"\n\\udcff'
    assert entry == {"level": "WARNING", "process": "worker", "disk": 0, "volume": 7, "msg": message}


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    ("level", "expected"), [("debug", 0), ("info", 0), ("warning", 1), ("error", 2), ("critical", 3)]
)
def test_a_line_tells_its_severity(
    capfd: pytest.CaptureFixture[str], level: str, expected: int, *, as_json: bool
) -> None:
    configure_logging("worker", 1, as_json=as_json)
    getattr(logging.getLogger("x"), level)("a\nb")
    first, *further = capfd.readouterr().err.encode().splitlines()
    assert severity(first) == expected
    assert [severity(line) for line in further] == ([] if as_json else [None])


def test_a_full_pipe_costs_lines_but_no_time() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    configure_logging("http", fd=writer)
    log = logging.getLogger("x")
    for number in range(2000):
        log.info("%d %s", number, "x" * 100)
    arrived = os.read(reader, 1 << 20).splitlines()
    assert 100 < len(arrived) < 2000
    log.info("room again")
    told, last = os.read(reader, 1 << 20).splitlines()
    assert told.endswith(b"http %d log entries were lost" % (2000 - len(arrived)))
    assert b"WARNING" in told
    assert last.endswith(b"room again")
    os.close(reader)
    log.info("nobody listens")
    os.close(writer)


def test_a_long_entry_arrives_whole() -> None:
    reader, writer = os.pipe()
    configure_logging("http", fd=writer)
    text = "\n".join("x" * 100 for _ in range(100)) + "y" * 9000
    logging.getLogger("x").info("%s", text)
    os.close(writer)
    with open(reader) as pipe:
        assert pipe.read().endswith(" http " + text.replace("\n", "\n    ") + "\n")


def test_what_is_said_too_often_is_counted(capfd: pytest.CaptureFixture[str]) -> None:
    now_s = 0.0
    configure_logging("http", clock=lambda: now_s)
    log = logging.getLogger("x")
    for period in range(3):
        now_s = 10.0 * period
        for number in range(1005 if period == 0 else 2):
            log.warning("%d", number)
        log.info("unlimited")
        log.warning("another place")
    lines = [line.partition(" http ")[2] for line in capfd.readouterr().err.splitlines()]
    assert lines[:1002] == [*map(str, range(1000)), "unlimited", "another place"]
    assert lines[1002:] == [
        *("0 (5 more before were not logged)", "1", "unlimited", "another place"),
        *("0", "1", "unlimited", "another place"),
    ]


class FullFile(LogFile):
    """A file on a disk without room for the first entries."""

    refused = 2

    def write(self, lines: bytes) -> None:
        if self.refused:
            self.refused -= 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        super().write(lines)


def test_what_a_full_disk_has_cost_is_told_when_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(log_pump, "_RETRY_S", 0.0)
    file = FullFile(str(tmp_path), "v", LogLimits())
    pump = LogPump(lambda: file, shown_from=2)
    configure_logging("http")
    for left in (1, 0):
        logging.getLogger("x").info("lost")
        wait_until(lambda left=left: file.refused == left, timeout_s=30, what="refused")
    logging.getLogger("x").info("kept")
    path = tmp_path / "v.log"
    wait_until(lambda: "could not" in path.read_text(), timeout_s=30, what="told")
    pump.close()
    kept, told = path.read_text().splitlines()
    assert kept.endswith("http kept")
    lost = len("INFO 2026-11-21T07:10:51.554Z http lost\n")
    assert told.endswith(f"http {2 * lost} bytes of log could not be written to the file")
    assert capfd.readouterr().err == "ERROR cannot write the log file: [Errno 28] No space left on device\n"


class TestLogFile:
    def test_goes_on_where_the_last_run_ended(self, tmp_path: Path) -> None:
        for line in (b"one\n", b"two\n"):
            file = LogFile(str(tmp_path), "v", LogLimits())
            file.write(line)
            file.close()
        assert (tmp_path / "v.log").read_bytes() == b"one\ntwo\n"
        assert len(list(tmp_path.iterdir())) == 1

    def test_begins_a_new_file_by_size(self, tmp_path: Path) -> None:
        file = LogFile(str(tmp_path), "v", LogLimits(size_bytes=10), clock=lambda: 0.0)
        file.write(b"12345678\n")
        file.write(b"9\n")
        assert (tmp_path / "v.log").read_bytes() == b"9\n"
        assert (tmp_path / "v.19700101-000000.log").read_bytes() == b"12345678\n"

    def test_begins_a_new_file_by_age(self, tmp_path: Path) -> None:
        now = [0.0]
        file = LogFile(str(tmp_path), "v", LogLimits(age_s=60), clock=lambda: now[0])
        for second in (0.0, 59.0, 60.0):
            now[0] = second
            file.write(b"%d\n" % second)
        assert (tmp_path / "v.19700101-000100.log").read_bytes() == b"0\n59\n"
        assert (tmp_path / "v.log").read_bytes() == b"60\n"

    def test_loses_nothing_when_it_is_rotated_twice_a_second(self, tmp_path: Path) -> None:
        file = LogFile(str(tmp_path), "v", LogLimits(size_bytes=1), clock=lambda: 0.0)
        for number in range(4):
            file.write(b"%d\n" % number)
        assert b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir())) == b"0\n1\n2\n3\n"

    def test_keeps_so_many(self, tmp_path: Path) -> None:
        (tmp_path / "other.1.log").touch()
        now = [0.0]
        file = LogFile(str(tmp_path), "v", LogLimits(size_bytes=1, files=3), clock=lambda: now[0])
        for number in range(6):
            now[0] = number
            file.write(b"%d\n" % number)
        assert sorted(path.name for path in tmp_path.iterdir()) == [
            "other.1.log", "v.19700101-000004.log", "v.19700101-000005.log", "v.log",
        ]  # fmt: skip

    def test_compresses_old_ones(self, tmp_path: Path) -> None:
        file = LogFile(str(tmp_path), "v", LogLimits(size_bytes=1, compress=True), clock=lambda: 0.0)
        file.write(b"old\n")
        file.write(b"new\n")
        wait_until(lambda: not (tmp_path / "v.19700101-000000.log").exists(), timeout_s=30, what="compressed")
        assert gzip.decompress((tmp_path / "v.19700101-000000.log.gz").read_bytes()) == b"old\n"

    def test_a_missing_directory_is_an_error(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError):
            LogFile(str(tmp_path / "none"), "v", LogLimits())
