"""Logging of every process: one line per event on standard error, set up once at start.

A line is ``LEVEL time process key=value… message``. The disk of a worker is part of every line of that process;
a volume is named with ``extra={"volume": volume_id}``. systemd or the container runtime collects the lines.
"""

from __future__ import annotations

import logging
import sys
import time

__all__ = ["configure_logging"]

_KEYS = ("disk", "volume")


class _LineFormatter(logging.Formatter):
    """Plain lines; what follows the first line of a message (a traceback) is indented."""

    def __init__(self, process: str, disk: int | None) -> None:
        super().__init__()
        self._process = process
        self._disk = disk

    def format(self, record: logging.LogRecord) -> str:
        values = {"disk": self._disk} | record.__dict__
        named = [f"{key}={values[key]}" for key in _KEYS if values.get(key) is not None]
        text = record.getMessage()
        if record.exc_info:
            text += "\n" + self.formatException(record.exc_info)
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        head = f"{record.levelname} {stamp}.{int(record.msecs):03d}Z {self._process}"
        return " ".join([head, *named, text]).replace("\n", "\n    ")


def configure_logging(process: str, verbosity: int = 0, disk: int | None = None) -> None:
    """Send all logging of this process to standard error. ``verbosity`` 0 logs from INFO up, more from DEBUG up."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_LineFormatter(process, disk))
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.DEBUG if verbosity else logging.INFO)
