"""Shards of one disk that are made anew from others (docs/spec/erasure-coding.md 5.6, steps 2 to 7 and 9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from volumed.bus.ec_calls import StartRebuild
from volumed.bus.router import Reply
from volumed.erasure.rebuild import Rebuilt
from volumed.storage.disk import Disk
from volumed.storage.ec_files import paths_elsewhere
from volumed.storage.ec_rebuild import rebuild_set
from workers.ec_jobs import EcJob, EcJobs
from workers.ec_volumes import EcVolumes
from workers.turns import End

__all__ = ["EcRebuilding"]


class EcRebuilding:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, volumes: EcVolumes, jobs: EcJobs) -> None:
        self._site = disk.site
        self._volumes = volumes
        self._jobs = jobs
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {StartRebuild: self._start}

    def _start(self, request: StartRebuild, reply: Reply) -> None:
        job = self._jobs.start(request.volume_id, "rebuild", reply)
        own = self._site.paths(request.collection, request.volume_id)
        others = [paths_elsewhere(item, request.collection, request.volume_id) for item in request.others]
        work = partial(
            rebuild_set,
            self._site.files,
            [own, *others],
            job.progress,
            absent=request.absent,
            ignore_sidecar=request.ignore_sidecar,
        )
        self._jobs.compute(job, work, partial(self._rebuilt, job))

    def _rebuilt(self, job: EcJob, rebuilt: Rebuilt) -> None:
        job.shard_ids, job.damaged_elsewhere = rebuilt.made, rebuilt.left
        if not rebuilt.made:
            self._jobs.end(job)
            return

        def begin(end: End) -> None:
            def over(error: Exception | None = None) -> None:
                end()
                self._jobs.end(job, error)

            self._volumes.files_replaced(job.volume_id, over, over)

        self._volumes.turns.take(job.volume_id, begin)
