"""Logging of every process: one line per event on standard error, set up once at start.

A line is ``LEVEL time process key=value… message``, or one JSON object. The disk of a worker is part of every line of
that process; a volume is named with ``extra={"volume": volume_id}``. systemd or the container runtime collects the
lines; with ``-logdir`` standard error of all processes is a pipe to the supervisor (``supervisor.log_pump``). A process
never waits for that pipe: what finds it full is counted, and the count is told as soon as there is room.
"""

from __future__ import annotations

import logging
import os
import re
import select
import time
from collections.abc import Callable

import msgspec

__all__ = ["configure_logging", "severity"]

_KEYS = ("disk", "volume")
_STDERR = 2
_PERIOD_S = 10.0
_REPEATS_MAX = 1000
"""Warnings and errors from one place in the code per period: enough for all disks of a node at once."""
_LEVEL = re.compile(rb'(?:\{"ts":"[^"]*","level":")?(DEBUG|INFO|WARNING|ERROR|CRITICAL)\b')
_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), 0x2028, 0x2029)
_WRITTEN_OUT = {code: ascii(chr(code))[1:-1] for code in _CONTROLS} | {ord("\n"): "\n    ", ord("\t"): "\t"}
_SEVERITIES = {b"DEBUG": 0, b"INFO": 0, b"WARNING": 1, b"ERROR": 2, b"CRITICAL": 3}


class _Formatter(logging.Formatter):
    """What lines are made of."""

    def __init__(self, process: str, disk: int | None) -> None:
        super().__init__()
        self._process = process
        self._disk = disk

    def _named(self, record: logging.LogRecord) -> dict[str, object]:
        values = {"disk": self._disk} | record.__dict__
        return {key: values[key] for key in _KEYS if values.get(key) is not None}

    def _text(self, record: logging.LogRecord) -> str:
        text = record.getMessage() + getattr(record, "more", "")
        return f"{text}\n{self.formatException(record.exc_info)}" if record.exc_info else text

    @staticmethod
    def _stamp(record: logging.LogRecord) -> str:
        return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(record.created))}.{int(record.msecs):03d}Z"


class _LineFormatter(_Formatter):
    """Plain lines; what follows the first line of a message (a traceback) is indented. Other control characters, which
    names from outside may hold, are written out: they mean something to terminals."""

    def format(self, record: logging.LogRecord) -> str:
        named = [f"{key}={value}" for key, value in self._named(record).items()]
        parts = [record.levelname, self._stamp(record), self._process, *named, self._text(record)]
        return " ".join(parts).translate(_WRITTEN_OUT)


class _JsonFormatter(_Formatter):
    """One object per line, with the reference's names where it has them."""

    def format(self, record: logging.LogRecord) -> str:
        entry = {"ts": self._stamp(record), "level": record.levelname, "process": self._process}
        text = self._text(record).encode("utf-8", "backslashreplace").decode()
        return msgspec.json.encode(entry | self._named(record) | {"msg": text}).decode()


class _Repeats(logging.Filter):
    """Drops and counts what one place in the code says too often: when a disk fails, so may thousands of requests."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock
        self._said: dict[tuple[str, int], tuple[int, int]] = {}
        """(period, entries in it) by place."""

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno < logging.WARNING:
            return True
        place, now = (record.pathname, record.lineno), int(self._clock() / _PERIOD_S)
        period, count = self._said.get(place, (now, 0))
        if period != now:
            if count > _REPEATS_MAX:
                record.more = f" ({count - _REPEATS_MAX} more before were not logged)"
            count = 0
        self._said[place] = (now, count + 1)
        return count < _REPEATS_MAX


class _DescriptorHandler(logging.Handler):
    """Writes to a file descriptor. On a pipe that does not wait, an entry is written in pieces that arrive whole or
    not at all, and end with a line where possible."""

    def __init__(self, fd: int) -> None:
        super().__init__()
        self._fd = fd
        self._lost = 0

    def emit(self, record: logging.LogRecord) -> None:
        entries = [record]
        if self._lost:
            told = {"levelno": logging.WARNING, "levelname": "WARNING", "msg": f"{self._lost} log entries were lost"}
            entries.insert(0, logging.makeLogRecord(told))
        try:
            text = "".join(f"{self.format(entry)}\n" for entry in entries)
        except Exception:
            self.handleError(record)
            return
        try:
            self._write(text.encode("utf-8", "backslashreplace"))
            self._lost = 0
        except BlockingIOError:
            self._lost += 1
        except OSError:
            pass  # nobody listens any more

    def _write(self, data: bytes) -> None:
        while data:
            end = len(data) if len(data) <= select.PIPE_BUF else data.rfind(b"\n", 0, select.PIPE_BUF) + 1
            data = data[os.write(self._fd, data[: end or select.PIPE_BUF]) :]


def configure_logging(
    process: str,
    verbosity: int = 0,
    disk: int | None = None,
    *,
    as_json: bool = False,
    fd: int = _STDERR,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Send all logging of this process to standard error. ``verbosity`` 0 logs from INFO up, more from DEBUG up."""
    handler = _DescriptorHandler(fd)
    handler.setFormatter((_JsonFormatter if as_json else _LineFormatter)(process, disk))
    handler.addFilter(_Repeats(clock))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity else logging.INFO)


def severity(line: bytes) -> int | None:
    """0 (INFO) to 3 of the first line of an entry, None for any other line."""
    match = _LEVEL.match(line)
    return _SEVERITIES[match[1]] if match else None
