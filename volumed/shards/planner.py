"""Shards of one volume on several disks of a node: each disk gets an index of its own, and mounts them; and each learns
what the others know to be deleted (docs/spec/erasure-coding.md 4.5 to 4.7, 4.12).

Decided by `discovery.plan_node` and `merges.plan_merges` from what all disks list, carried out by their workers, one
call after the other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from volumed.bus.calls import Request
from volumed.bus.ec_calls import (
    EcFilesView,
    EcListing,
    ListEcFiles,
    MergeDeletions,
    MirrorSidecars,
    MountShards,
    RemoveEcFiles,
)
from volumed.erasure.discovery import EcFiles, Encode, Mount, NodePlan, VolumeKey, plan_node
from volumed.erasure.merges import plan_merges
from volumed.errors import VolumedError

__all__ = ["CallWorker", "ShardPlanner"]

_log = logging.getLogger(__name__)

_LIST_TIMEOUT_S = 10.0
_WORK_TIMEOUT_S = 600.0

CallWorker = Callable[[int, Request, float], Any]
"""Result of a call to the worker of a disk; takes the time limit in seconds. Raises `VolumedError`."""


class ShardPlanner:
    """Plans and has done. Used on one thread that may wait."""

    def __init__(self, call: CallWorker, disks: int) -> None:
        """``disks``: how many the node is configured with."""
        self._call = call
        self._disks = disks

    def run(self, serving: Iterable[int], only: int | None = None, *, volume_id: int = 0, prunes: bool = False) -> None:
        """Mount all shards of the disks that serve, or those of the disk ``only``; of all volumes, or of one.
        ``prunes``: parts that are of no use are removed, provided that all disks serve. Errors are logged."""
        listings = self._list(serving, volume_id)
        disk_ids = sorted(listings)
        views = [{(view.collection, view.volume_id): view for view in listings[disk].volumes} for disk in disk_ids]
        plan = plan_node(
            [_files(listings[disk]) for disk in disk_ids],
            [{key: Encode(view.data_shards, view.dat_size) for key, view in disk.items()} for disk in views],
        )
        if prunes and len(listings) == self._disks:
            for removal in plan.removals:
                collection, volume_id = removal.key
                self._do(disk_ids[removal.disk], RemoveEcFiles(volume_id, collection, removal.reason))
        for mount in plan.mounts:
            disk_id = disk_ids[mount.disk]
            if only in (None, disk_id) and not _is_mounted(views[mount.disk][mount.key]):
                self._mount(disk_id, mount, plan, disk_ids, listings)

    def merge(
        self, serving: Iterable[int], only: int | None = None, *, volume_id: int = 0, indexes: bool = False
    ) -> None:
        """Have the disks that serve tell each other what is deleted, or the disk ``only`` and the others; of all
        volumes, or of one. With ``indexes`` what was folded in counts too, and is read. Errors are logged.

        What is mounted takes part in deletions: so those that come after this has looked miss no disk.
        """
        listings = self._list(serving, volume_id)
        disk_ids = sorted(listings)
        first = disk_ids.index(only) if only in listings else None
        if only is not None and first is None:
            return
        for merge in plan_merges([_files(listings[disk]) for disk in disk_ids], first, indexes=indexes):
            collection, found_id = merge.key
            sources = [listings[disk_ids[source]].directories for source in merge.sources]
            self._do(disk_ids[merge.disk], MergeDeletions(found_id, collection, sources, indexes))

    def _list(self, disk_ids: Iterable[int], volume_id: int) -> dict[int, EcListing]:
        listings = {}
        for disk_id in disk_ids:
            try:
                listings[disk_id] = self._call(disk_id, ListEcFiles(volume_id), _LIST_TIMEOUT_S)
            except VolumedError as error:
                _log.error("disk %d is left out when shards are brought together: %s", disk_id, error.text)
        return listings

    def _mount(
        self, disk_id: int, mount: Mount, plan: NodePlan, disk_ids: list[int], listings: Mapping[int, EcListing]
    ) -> None:
        collection, volume_id = mount.key
        mirrors = [item for item in plan.mirrors if (item.disk, item.key) == (mount.disk, mount.key)]
        for item in mirrors:
            source = listings[disk_ids[item.source]].directories
            if self._do(disk_id, MirrorSidecars(volume_id, collection, [item.extension], source)) is None:
                return
        mounted = self._do(disk_id, MountShards(volume_id, collection, []))
        for shard in mounted.shards if mounted is not None else ():
            if not shard.mounted:
                _log.error("disk %d: shard %d.%d stays unmounted: %s", disk_id, volume_id, shard.shard_id, shard.error)

    def _do(self, disk_id: int, request: Request) -> Any:
        """The result; None, and a line in the log, when it failed."""
        try:
            return self._call(disk_id, request, _WORK_TIMEOUT_S)
        except VolumedError as error:
            _log.error("disk %d: %s: %s", disk_id, type(request).__name__, error.text)
            return None


def _files(listing: EcListing) -> dict[VolumeKey, EcFiles]:
    return {
        (view.collection, view.volume_id): EcFiles(
            view.collection, view.volume_id, shards=view.shards, data=view.data, index=view.index
        )
        for view in listing.volumes
    }


def _is_mounted(view: EcFilesView) -> bool:
    return set(view.shards) <= set(view.mounted)
