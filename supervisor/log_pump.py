"""``-logdir``: the log of all processes goes through one pipe to one thread of the supervisor, which writes the files.

Standard error of the supervisor, and so of every child, becomes the pipe. Nobody waits for it (``volumed.logs``): a
log disk that is full or hangs costs log lines, which are counted, and nothing else. What a process has written is in
the pipe when it is killed, so its last words are not lost.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial

from supervisor.log_file import LogFile, LogLimits
from volumed.config.disks import ConfigError
from volumed.config.flags import CommandLine
from volumed.logs import severity

__all__ = ["LogPump", "log_files"]

_log = logging.getLogger(__name__)
_STDERR = 2
_PIPE_BYTES = 1 << 20
_CHUNK_BYTES = 64 << 10
_START_LIMIT_S = 2.0
_STOP_LIMIT_S = 2.0
_RETRY_S = 1.0
_ALL = 0


class LogPump:
    """Owns the pipe while the node runs. ``shown_from`` is the severity from which entries go to the former standard
    error, too."""

    def __init__(self, open_file: Callable[[], LogFile], shown_from: int) -> None:
        """Redirect standard error. Raises `OSError` when the file cannot be opened; when that takes long, the thread
        alone waits for it."""
        self._open_file = open_file
        self._shown_from = shown_from
        self._shows = True
        self._file: LogFile | None = None
        self._failed_at_s: float | None = None
        self._lost_bytes = 0
        self._opened = threading.Event()
        self._error: OSError | None = None
        self._stderr = os.dup(_STDERR)
        self._read_fd, write_fd = os.pipe2(os.O_CLOEXEC)
        self._thread = threading.Thread(target=self._run, name="log", daemon=True)
        self._thread.start()
        self._opened.wait(_START_LIMIT_S)
        if self._error is not None:
            os.close(write_fd)
            raise self._error
        os.set_blocking(write_fd, False)
        with contextlib.suppress(OSError):
            fcntl.fcntl(write_fd, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        os.dup2(write_fd, _STDERR)
        os.close(write_fd)

    def close(self) -> None:
        """Give standard error back and write what has come, unless that takes too long: a child that hangs on its disk
        holds the pipe open, and the log's disk may hang itself."""
        os.dup2(self._stderr, _STDERR)
        self._thread.join(_STOP_LIMIT_S)
        if not self._thread.is_alive():
            os.close(self._read_fd)
            os.close(self._stderr)

    def _run(self) -> None:
        try:
            self._file = self._open_file()
        except OSError as error:
            self._error = error
            self._complain(error)
        finally:
            self._opened.set()
        rest = b""
        while chunk := os.read(self._read_fd, _CHUNK_BYTES):
            lines, newline, rest = (rest + chunk).rpartition(b"\n")
            if len(rest) > _CHUNK_BYTES:
                lines, newline, rest = lines + newline + rest, b"\n", b""
            if lines:
                self._take(lines + newline)
        if rest:
            self._take(rest + b"\n")
        if self._file is not None:
            self._file.close()

    def _take(self, lines: bytes) -> None:
        self._write(lines)
        if self._shown_from > _ALL:
            lines = b"".join(line for line in lines.splitlines(keepends=True) if self._is_shown(line))
        with contextlib.suppress(OSError):
            os.write(self._stderr, lines)

    def _is_shown(self, line: bytes) -> bool:
        """Further lines of an entry go where its first went."""
        level = severity(line)
        if level is not None:
            self._shows = level >= self._shown_from
        elif not line.startswith(b" "):
            self._shows = True  # not from our log: somebody's last words
        return self._shows

    def _write(self, lines: bytes) -> None:
        """To the file; what cannot be written is counted, and after a pause it is tried again."""
        if self._file is None:
            return
        now_s = time.monotonic()
        if self._failed_at_s is not None and now_s - self._failed_at_s < _RETRY_S:
            self._lost_bytes += len(lines)
            return
        try:
            self._file.write(lines)
        except OSError as error:
            if self._failed_at_s is None:
                self._complain(error)
            self._failed_at_s = now_s
            self._lost_bytes += len(lines)
            return
        if self._failed_at_s is not None:
            _log.warning("%d bytes of log could not be written to the file", self._lost_bytes)
            self._failed_at_s = None
            self._lost_bytes = 0

    def _complain(self, error: OSError) -> None:
        with contextlib.suppress(OSError):
            os.write(self._stderr, f"ERROR cannot write the log file: {error}\n".encode())


@contextlib.contextmanager
def log_files(line: CommandLine) -> Iterator[None]:
    """Log to files while the block runs, if the flags ask for it. Raises `ConfigError`."""
    directory = line.text("logdir")
    # DEVIATE: without -logdir the reference writes files to the temporary directory.
    if not directory or line.boolean("logtostderr"):
        yield
        return
    name = f"volumed-{line.number('port')}"
    limits = LogLimits(
        line.number("log_max_size_mb") << 20,
        line.number("log_rotate_hours") * 3600,
        line.number("log_max_files"),
        line.boolean("log_compress"),
    )
    shown_from = _ALL if line.boolean("alsologtostderr") else line.number("stderrthreshold")
    try:
        pump = LogPump(partial(LogFile, directory, name, limits), shown_from)
    except OSError as error:
        raise ConfigError(f"cannot write log files in -logdir {directory}: {error.strerror}") from None
    try:
        yield
    finally:
        pump.close()
