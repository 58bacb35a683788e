"""Small operations that measure the health of a disk, on a thread of their own (http.md 9.4).

A probe writes one block of a file and waits until the disk has it. The file has no name: nothing is left behind. When
the disk hangs, the thread hangs with it and nobody else: the loop thread only looks at what the thread has noted.
"""

from __future__ import annotations

import errno
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial

from volumed.config.node import DiskConfig, ProbeSettings
from volumed.storage.fileio import File, FileIO
from workers.probe_window import ProbeWindow

__all__ = ["DiskProbe"]

_log = logging.getLogger(__name__)
_NAME = ".volumed-probe"
_BLOCK = bytes(4096)
_NOT_THE_DISKS_FAULT = frozenset({errno.ENOSPC, errno.EDQUOT})


class DiskProbe:
    """Probes one disk until the process ends. `problem` is for the loop thread."""

    def __init__(self, settings: ProbeSettings, disk: DiskConfig, files: FileIO) -> None:
        self._settings = settings
        self._directory = disk.directory
        self._files = files
        self._window = ProbeWindow(settings, settings.slow_after_s(disk.disk_type))
        self._noted: deque[Callable[[], None]] = deque()
        self._began_s: float | None = None
        """When the operation began that the thread is in."""
        self._file: File | None = None
        threading.Thread(target=self._run, name="probe", daemon=True).start()

    def problem(self, now_s: float) -> str:
        """What is wrong with the disk, empty if nothing is."""
        while self._noted:
            self._noted.popleft()()
        began_s = self._began_s
        return self._window.problem(now_s, 0.0 if began_s is None else now_s - began_s)

    def _run(self) -> None:
        while True:
            try:
                self._probe()
            except Exception:
                _log.exception("a probe failed unexpectedly")
            time.sleep(self._settings.interval_s)

    def _probe(self) -> None:
        """One round."""
        window = self._window
        try:
            self._timed(lambda: self._files.space(self._directory))
        except OSError:
            self._noted.append(partial(window.examined, found=False))
            return
        self._noted.append(partial(window.examined, found=True))
        for _ in range(self._settings.samples_min):
            took_s: float | None
            try:
                took_s = self._timed(self._write_block)
            except OSError as error:
                self._file, took_s = None, None
                if error.errno in _NOT_THE_DISKS_FAULT:
                    continue
            self._noted.append(partial(window.add, time.monotonic(), took_s))

    def _timed(self, operation: Callable[[], object]) -> float:
        """Seconds that the operation took."""
        self._began_s = began_s = time.monotonic()
        try:
            operation()
            return time.monotonic() - began_s
        finally:
            self._began_s = None

    def _write_block(self) -> None:
        files = self._files
        if self._file is None:
            path = os.path.join(self._directory, _NAME)
            self._file = files.open(path, create=True)
            files.remove(path)
        files.write_at(self._file, 0, [_BLOCK])
        files.sync(self._file)
