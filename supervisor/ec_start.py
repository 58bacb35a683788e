"""Shards that are spread over the disks of the node, when it starts and when a disk comes back
(docs/spec/erasure-coding.md 4.5 to 4.7).

Theory of operation
    Every worker mounts by itself what has an index on its own disk. What concerns several disks is planned here from
    what all of them list (`discovery.plan_node`) and carried out by the workers, one call after the other on a thread:
    the node waits for it with its ports, but not for ever. A disk that comes later gets its own shards mounted, and
    nothing else happens: what an operator has unmounted elsewhere stays so, and shards are only ever removed when all
    disks are there to be asked (R9).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from supervisor.jobs import Jobs
from supervisor.loop import Loop
from volumed.bus.calls import Request
from volumed.bus.ec_calls import EcFilesView, EcListing, ListEcFiles, MirrorSidecars, MountShards, RemoveEcFiles
from volumed.erasure.discovery import EcFiles, Encode, Mount, NodePlan, plan_node
from volumed.errors import VolumedError

__all__ = ["EcStart", "ShardPlanner"]

_log = logging.getLogger(__name__)

_LIST_TIMEOUT_S = 10.0
_WORK_TIMEOUT_S = 600.0
_PORTS_WAIT_S = 60.0
"""How long the start of the node waits; what takes longer, like copies of large indexes, goes on behind it."""

CallWorker = Callable[[int, Request, float], Any]
"""Result of a call to the worker of a disk; takes the time limit in seconds. Raises `VolumedError`."""


class ShardPlanner:
    """Plans and has done. Used on one thread that may wait."""

    def __init__(self, call: CallWorker, disks: int) -> None:
        """``disks``: how many the node is configured with."""
        self._call = call
        self._disks = disks

    def run(self, serving: Iterable[int], only: int | None = None) -> None:
        """Bring together the shards of the disks that serve, or mount what the disk ``only`` has. Errors are logged."""
        listings = self._list(serving)
        disk_ids = sorted(listings)
        views = [{(view.collection, view.volume_id): view for view in listings[disk].volumes} for disk in disk_ids]
        plan = plan_node(
            [{key: _files(view) for key, view in disk.items()} for disk in views],
            [{key: Encode(view.data_shards, view.dat_size) for key, view in disk.items()} for disk in views],
        )
        if len(listings) == self._disks and only is None:
            for removal in plan.removals:
                collection, volume_id = removal.key
                self._do(disk_ids[removal.disk], RemoveEcFiles(volume_id, collection, removal.reason))
        for mount in plan.mounts:
            disk_id = disk_ids[mount.disk]
            if only in (None, disk_id) and not _is_mounted(views[mount.disk][mount.key]):
                self._mount(disk_id, mount, plan, disk_ids, listings)

    def _list(self, disk_ids: Iterable[int]) -> dict[int, EcListing]:
        listings = {}
        for disk_id in disk_ids:
            try:
                listings[disk_id] = self._call(disk_id, ListEcFiles(), _LIST_TIMEOUT_S)
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


def _files(view: EcFilesView) -> EcFiles:
    same = view.index == view.data
    files = EcFiles(view.collection, view.volume_id, shards=view.shards, data=view.data, index=view.index)
    if same:
        files.index = files.data
    return files


def _is_mounted(view: EcFilesView) -> bool:
    return set(view.shards) <= set(view.mounted)


class EcStart:
    """When to plan; used on the supervisor's loop."""

    def __init__(self, loop: Loop, call: CallWorker, serving: Callable[[], list[int]], disks: int) -> None:
        """``serving`` tells the disks that serve now, of ``disks`` configured."""
        self._loop = loop
        self._planner = ShardPlanner(call, disks)
        self._jobs = Jobs(loop, "shards", threads=1)
        self._serving = serving
        self._disks = disks
        self._has_begun = False

    def begin(self, then: Callable[[], None]) -> None:
        """The disks are settled: bring their shards together, then call ``then``."""
        self._has_begun = True
        waiting = [then]

        def done() -> None:
            if waiting:
                waiting.pop()()

        if self._disks < 2:
            done()
        else:
            self._plan(None, done)
            self._loop.call_later(_PORTS_WAIT_S, done)

    def disk_ready(self, disk_id: int) -> None:
        """A disk serves, or serves again."""
        if self._has_begun and self._disks > 1:
            self._plan(disk_id, lambda: None)

    def _plan(self, only: int | None, done: Callable[[], None]) -> None:
        serving = self._serving()

        def failed(error: VolumedError) -> None:
            _log.error("shards are not brought together: %s", error.text)
            done()

        self._jobs.submit(lambda: self._planner.run(serving, only), lambda _: done(), failed)
