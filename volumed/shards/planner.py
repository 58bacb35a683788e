"""Shards of one volume on several disks of a node: each disk gets an index of its own, and mounts them; and each learns
what the others know to be deleted (docs/spec/erasure-coding.md 4.5 to 4.7, 4.12).

Decided by `discovery.plan_node` and `merges.plan_merges` from what all disks list, carried out by their workers, step
by step.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

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
from volumed.errors import RetryError, VolumedError

__all__ = ["CallWorker", "ShardPlanner", "Step"]

_log = logging.getLogger(__name__)

_LIST_TIMEOUT_S = 10.0
_WORK_TIMEOUT_S = 600.0
"""How long one call of a step may take."""

CallWorker = Callable[[int, Request, float], Any]
"""Result of a call to the worker of a disk; takes the time limit in seconds. Raises `VolumedError`."""


class Step(NamedTuple):
    """What one disk is to do about one volume. Once more changes nothing."""

    disk_id: int
    sources: frozenset[int]
    """Other disks that are read for it."""
    requests: tuple[Request, ...]
    """One after the other, as long as they succeed."""


class ShardPlanner:
    """Plans, and has done. Any thread that may wait."""

    def __init__(self, call: CallWorker, disks: int) -> None:
        """``disks``: how many the node is configured with."""
        self._call = call
        self._disks = disks

    def run(self, serving: Iterable[int], *, volume_id: int = 0) -> None:
        """Mount all shards of the disks that serve; of all volumes, or of one. Errors are logged."""
        for step in self.mounts(serving, volume_id=volume_id):
            self.do(step)

    def merge(self, serving: Iterable[int], *, volume_id: int = 0) -> None:
        """Have the disks that serve tell each other what is deleted; likewise."""
        for step in self.merges(serving, volume_id=volume_id):
            self.do(step)

    def mounts(
        self, serving: Iterable[int], only: int | None = None, *, volume_id: int = 0, prunes: bool = False
    ) -> list[Step]:
        """Steps that mount all shards of the disks that serve, or those of the disk ``only``; of all volumes, or of
        one. ``prunes``: parts that are of no use are removed, provided that all disks serve. A disk that does not
        answer soon takes no part."""
        listings = self._list(serving, volume_id)
        disk_ids = sorted(listings)
        views = [{(view.collection, view.volume_id): view for view in listings[disk].volumes} for disk in disk_ids]
        plan = plan_node(
            [_files(listings[disk]) for disk in disk_ids],
            [
                {key: Encode(view.data_shards, view.dat_size, view.encode_ts_ns) for key, view in disk.items()}
                for disk in views
            ],
        )
        steps = []
        if prunes and len(listings) == self._disks:
            for disk, (collection, found_id), reason in plan.removals:
                steps.append(Step(disk_ids[disk], frozenset(), (RemoveEcFiles(found_id, collection, reason),)))
        for mount in plan.mounts:
            if only in (None, disk_ids[mount.disk]) and not _is_mounted(views[mount.disk][mount.key]):
                steps.append(_mount_step(mount, plan, disk_ids, [listings[disk] for disk in disk_ids]))
        return steps

    def merges(
        self, serving: Iterable[int], only: int | None = None, *, volume_id: int = 0, indexes: bool = False
    ) -> list[Step]:
        """Steps by which the disks that serve tell each other what is deleted, or the disk ``only`` and the others; of
        all volumes, or of one. With ``indexes`` what was folded in counts too, and is read.

        What is mounted takes part in deletions: so those that come after this has looked miss no disk.
        """
        listings = self._list(serving, volume_id)
        disk_ids = sorted(listings)
        if only is not None and only not in listings:
            return []
        first = None if only is None else disk_ids.index(only)
        steps = []
        for merge in plan_merges([_files(listings[disk]) for disk in disk_ids], first, indexes=indexes):
            collection, found_id = merge.key
            sources = [disk_ids[source] for source in merge.sources]
            directories = [listings[source].directories for source in sources]
            request = MergeDeletions(found_id, collection, directories, indexes)
            steps.append(Step(disk_ids[merge.disk], frozenset(sources), (request,)))
        return steps

    def do(self, step: Step) -> None:
        """Have it done. Errors are logged."""
        try:
            self.attempt(step, _WORK_TIMEOUT_S)
        except RetryError as error:
            _log.error("disk %d: %s", step.disk_id, error.text)

    def attempt(self, step: Step, timeout_s: float) -> None:
        """Likewise, but raises `RetryError` when a call is not answered within that time."""
        for request in step.requests:
            try:
                result = self._call(step.disk_id, request, timeout_s)
            except RetryError:
                raise
            except VolumedError as error:
                _log.error("disk %d: %s: %s", step.disk_id, type(request).__name__, error.text)
                return
            if isinstance(request, MountShards):
                _log_mounted(step.disk_id, request, result)

    def _list(self, serving: Iterable[int], volume_id: int) -> dict[int, EcListing]:
        """All at once: who does not answer costs the time limit once, however many they are."""

        def listing(disk_id: int) -> EcListing | None:
            try:
                found: EcListing = self._call(disk_id, ListEcFiles(volume_id), _LIST_TIMEOUT_S)
            except VolumedError as error:
                _log.error("disk %d is left out when shards are brought together: %s", disk_id, error.text)
                return None
            return found

        disk_ids = list(serving)
        with ThreadPoolExecutor(max(1, len(disk_ids)), thread_name_prefix="shards-list") as pool:
            found = dict(zip(disk_ids, pool.map(listing, disk_ids), strict=True))
        return {disk_id: listed for disk_id, listed in found.items() if listed is not None}


def _mount_step(mount: Mount, plan: NodePlan, disk_ids: list[int], listings: list[EcListing]) -> Step:
    collection, volume_id = mount.key
    mirrors = [item for item in plan.mirrors if (item.disk, item.key) == (mount.disk, mount.key)]
    copies = [
        MirrorSidecars(volume_id, collection, [item.extension], listings[item.source].directories) for item in mirrors
    ]
    sources = frozenset(disk_ids[item.source] for item in mirrors)
    return Step(disk_ids[mount.disk], sources, (*copies, MountShards(volume_id, collection, [])))


def _log_mounted(disk_id: int, request: MountShards, result: Any) -> None:
    mounted = [shard.shard_id for shard in result.shards if shard.mounted]
    if mounted:
        _log.info("disk %d: mounted shards %s of volume %d", disk_id, mounted, request.volume_id)
    for shard in result.shards:
        if not shard.mounted:
            name = f"{request.volume_id}.{shard.shard_id}"
            _log.error("disk %d: shard %s stays unmounted: %s", disk_id, name, shard.error)


def _files(listing: EcListing) -> dict[VolumeKey, EcFiles]:
    return {
        (view.collection, view.volume_id): EcFiles(
            view.collection,
            view.volume_id,
            shards=view.shards,
            data=view.data,
            index=view.index,
            deletions=view.deletions,
        )
        for view in listing.volumes
    }


def _is_mounted(view: EcFilesView) -> bool:
    return set(view.shards) <= set(view.mounted)
