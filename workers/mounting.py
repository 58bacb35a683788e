"""Mounting volumes while others of the disk are served.

Theory of operation
    Reading an index takes about half a second per million needles. So it is scanned in the background, and what came of
    that is put into the map in slices; then the map fits, and mounting is quick. Nothing depends on the preparation: a
    volume that could not be prepared, or was changed since, is mounted the long way or not at all, with its own error.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from functools import partial

from volumed.bus.events import VolumeStatistics
from volumed.errors import VolumedError
from volumed.storage.disk import Disk
from volumed.storage.fileio import DistantFile
from volumed.storage.map_load import MapScan
from workers.host import Shell, Work
from workers.map_slices import put_scan

__all__ = ["Failed", "Mounted", "Mounting"]

_log = logging.getLogger(__name__)

Mounted = Callable[[VolumeStatistics | None], None]
Failed = Callable[[Exception], None]


class Mounting:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell) -> None:
        self._disk = disk
        self._shell = shell
        self._waiting: dict[int, list[Callable[[], None]]] = {}
        """Who asked for a volume that is being prepared."""

    def mount(
        self, volume_id: int, collection: str, done: Mounted, failed: Failed, remote: DistantFile | None = None
    ) -> None:
        """`Disk.mount`, later."""

        def mount() -> None:
            try:
                statistics = self._disk.mount(volume_id, collection, remote)
            except VolumedError as error:
                failed(error)
            else:
                done(statistics)

        self._prepare(volume_id, collection, remote, mount)

    def rescan(self, done: Callable[[list[VolumeStatistics]], None], failed: Failed) -> None:
        """`Disk.rescan`, later."""

        def rescan() -> None:
            try:
                added = self._disk.rescan()
            except VolumedError as error:
                failed(error)
            else:
                done(added)

        def next_one() -> None:
            if waiting:
                self._prepare(waiting.popleft(), "", None, next_one)
            else:
                rescan()

        try:
            waiting = deque(self._disk.appeared())
        except OSError:
            waiting = deque()
        next_one()

    def _prepare(self, volume_id: int, collection: str, remote: DistantFile | None, then: Callable[[], None]) -> None:
        disk = self._disk
        if volume_id in self._waiting:
            self._waiting[volume_id].append(then)
            return
        if volume_id in disk.volumes or volume_id in disk.arriving:
            then()
            return
        self._waiting[volume_id] = [then]
        disk.arriving.add(volume_id)
        ready = partial(self._ready, volume_id)

        def scanned(scan: MapScan | None) -> None:
            if scan is None:
                ready()
            else:
                put_scan(disk, self._shell, scan, ready)

        def unprepared(error: Exception) -> None:
            _log.info("volume %d is mounted unprepared: %s", volume_id, error)
            ready()

        self._shell.in_background(
            partial(disk.prepare_mount, volume_id, collection, remote), scanned, unprepared, Work.COPY
        )

    def _ready(self, volume_id: int) -> None:
        self._disk.arriving.discard(volume_id)
        for then in self._waiting.pop(volume_id):
            then()
