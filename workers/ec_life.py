"""Erasure coded volumes that are mounted without being asked for, and that end: at a start, by their time to live, with
their collection (docs/spec/erasure-coding.md 4.1, 4.3, 4.10)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING

from volumed.bus.ec_calls import MountShards, ShardMount
from volumed.errors import DiskError
from volumed.storage.disk import Disk
from volumed.storage.ec_files import mountable_shards
from volumed.storage.site import DiskSite, VolumePaths
from workers.ec_volumes import EcVolumes
from workers.host import Shell, nothing

if TYPE_CHECKING:
    from volumed.erasure.discovery import VolumeKey
    from volumed.storage.ec_volume import EcVolume

__all__ = ["EcLife"]

_log = logging.getLogger(__name__)


class EcLife:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell, volumes: EcVolumes, *, alone: bool) -> None:
        """``alone``: the node has no other disk, which might have more of a volume."""
        self._disk = disk
        self._site = disk.site
        self._shell = shell
        self._volumes = volumes
        self._alone = alone
        self._ending: set[int] = set()

    # What is on the disk

    def mount_all(self, done: Callable[[], None]) -> None:
        """Mount the shards of every volume that has an index here. What cannot be mounted is logged, and stays."""

        def found(shards: dict[VolumeKey, list[int]]) -> None:
            if not shards:
                done()
                return
            waiting = set(shards)

            def ended(key: VolumeKey) -> None:
                waiting.discard(key)
                if not waiting:
                    volumes = self._volumes.volumes.values()
                    count = sum(len(volume.shards) for volume in volumes)
                    _log.info("%d shards of %d ec volumes are mounted", count, len(volumes))
                    done()

            for (collection, volume_id), ids in shards.items():
                self._mount(MountShards(volume_id, collection, ids), partial(ended, (collection, volume_id)))

        def failed(error: Exception) -> None:
            _log.error("%s: cannot look for shards: %s", self._disk.config.directory, error)
            done()

        self._shell.in_background(self._find, found, failed)

    def _find(self) -> dict[VolumeKey, list[int]]:
        """In the background."""
        return mountable_shards(self._site, alone=self._alone)

    def _mount(self, request: MountShards, ended: Callable[[], None]) -> None:
        def mounted(outcomes: list[ShardMount]) -> None:
            for outcome in outcomes:
                if outcome.error:
                    _log.error("shard %d.%d is not mounted: %s", request.volume_id, outcome.shard_id, outcome.error)
            ended()

        def failed(error: Exception) -> None:
            _log.error("%s", error)
            ended()

        self._volumes.mount(request, mounted, failed)

    # The end

    def expire(self, now_s: int) -> None:
        """Destroy volumes whose time has passed."""
        for volume in list(self._volumes.volumes.values()):
            if 0 < volume.geometry.expire_at_s < now_s and volume.volume_id not in self._ending:
                self._destroy(volume, "its time to live has passed", nothing, nothing)

    def delete_collection(self, collection: str, done: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        """Destroy the mounted volumes of a collection; shards that are not mounted stay."""
        doomed = [volume for volume in self._volumes.volumes.values() if volume.collection == collection]
        waiting = {volume.volume_id for volume in doomed}
        errors: list[Exception] = []

        def ended(volume_id: int, error: Exception | None = None) -> None:
            waiting.discard(volume_id)
            errors.extend([error] if error else [])
            if waiting:
                return
            if errors:
                failed(errors[0])
            else:
                done()

        if not doomed:
            done()
        for volume in doomed:
            end = partial(ended, volume.volume_id)
            self._destroy(volume, f"collection {collection!r} is deleted", end, end)

    def _destroy(
        self, volume: EcVolume, reason: str, done: Callable[[], None], failed: Callable[[Exception], None]
    ) -> None:
        """Remove the mounted shards with index and sidecars."""
        volume_id, mounted = volume.volume_id, sorted(volume.shards)
        _log.warning("removing shards %s of volume %d: %s", mounted, volume_id, reason)
        self._ending.add(volume_id)

        def removed(_: None) -> None:
            self._ending.discard(volume_id)
            done()

        def not_removed(error: Exception) -> None:
            self._ending.discard(volume_id)
            _log.error("volume %d: cannot remove its shards: %s", volume_id, error)
            failed(DiskError(f"remove the shards of volume {volume_id}: {error}"))

        work = partial(_remove, self._site, volume.paths, mounted, reason)
        self._volumes.run_unmounted(volume_id, mounted, work, removed, not_removed)


def _remove(site: DiskSite, paths: VolumePaths, shard_ids: Collection[int], reason: str) -> None:
    """In the background. The index goes first: an interruption leaves nothing that could be loaded."""
    from volumed.storage.ec_wipe import remove_index, remove_shards  # few workers ever need it

    remove_index(site.files, paths, reason)
    remove_shards(site.files, paths, shard_ids, reason)
