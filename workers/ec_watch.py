"""Notices shards that somebody has removed from under the worker (docs/spec/erasure-coding.md 4.4).

Theory of operation
    Twice a minute the directory is listed in the background, once for all volumes. What two listings in a row lack is
    looked at once more, in the turn of its volume, so that nobody of this worker is replacing it. Only a file that does
    not exist, in a directory that is the disk's, counts as removed. A disk that hangs, fails or is unmounted says
    nothing.
"""

from __future__ import annotations

import logging
from functools import partial

from volumed.errors import DiskError, VolumedError
from volumed.storage.disk import Disk
from volumed.storage.ec_presence import removed_shards, unlisted_shards
from workers.ec_volumes import EcVolumes
from workers.host import Shell

__all__ = ["EcWatch"]

_log = logging.getLogger(__name__)

_LISTING_TICKS = 30

_Shards = set[tuple[int, int]]
"""(volume, shard) of each."""


class EcWatch:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell, volumes: EcVolumes) -> None:
        self._disk = disk
        self._shell = shell
        self._volumes = volumes
        self._ticks = 0
        self._listing = False
        self._unlisted: _Shards = set()
        """By the last listing."""
        self.problem = ""
        """Why the directory cannot tell, empty if it can; for the supervisor."""

    def tick(self) -> None:
        """Once a second."""
        self._ticks += 1
        if self._ticks % _LISTING_TICKS == 0 and not self._listing:
            self._list()

    def _list(self) -> None:
        mounted = {(volume.collection, key): tuple(volume.shards) for key, volume in self._volumes.volumes.items()}
        if not mounted:
            self.problem = ""
            return
        self._listing = True
        work = partial(unlisted_shards, self._disk.site, self._disk.uuid, mounted)
        self._shell.in_background(work, self._listed, self._not_listed)

    def _listed(self, unlisted: _Shards) -> None:
        self._listing = False
        self.problem = ""
        before, self._unlisted = self._unlisted, unlisted
        for volume_id in sorted({volume_id for volume_id, _ in unlisted & before}):
            self._look_again(volume_id)

    def _not_listed(self, error: Exception) -> None:
        self._listing = False
        self._unlisted = set()
        if isinstance(error, DiskError):
            self.problem = error.text
        else:
            _log.error("%s: cannot look for removed shards: %s", self._disk.config.directory, error)

    def _look_again(self, volume_id: int) -> None:
        volume = self._volumes.volumes.get(volume_id)
        if volume is None:
            return
        work = partial(removed_shards, self._disk.site, self._disk.uuid, volume.paths, tuple(volume.shards))

        def looked(removed: list[int]) -> None:
            if self._volumes.volumes.get(volume_id) is volume:
                self._unmount(volume_id, [shard for shard in removed if shard in volume.shards])

        self._volumes.turns.run(volume_id, work, looked, self._not_listed)

    def _unmount(self, volume_id: int, removed: list[int]) -> None:
        for shard in removed:
            _log.error(
                "%s: shard %d.%d is lost: somebody has removed its file; it is unmounted",
                self._disk.config.directory, volume_id, shard,
            )  # fmt: skip
        try:
            self._volumes.unmount(volume_id, removed)
        except VolumedError as error:
            _log.error("%s", error.text)
