"""Everything that makes or removes shards on one disk. What that takes is imported with the first call: many workers
never have any, and would pay for it with memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from volumed.bus.ec_calls import (
    DeleteEcGenerations,
    DeleteEcIndex,
    DeleteShards,
    FollowEcJob,
    StartDecode,
    StartEncode,
    StartRebuild,
    StopEcJob,
    WipeEcFiles,
)
from volumed.bus.router import Reply
from volumed.formats.report import TaskReport
from volumed.storage.disk import Disk
from workers.compactions import Compactions
from workers.ec_takeover import EcTakeover
from workers.host import Shell

if TYPE_CHECKING:
    from workers.ec_jobs import EcJobs
    from workers.ec_volumes import EcVolumes

__all__ = ["EcOperations"]

Handler = Callable[[Any, Reply], None]


class EcOperations:
    """Used on the loop thread."""

    def __init__(
        self, disk: Disk, shell: Shell, volumes: EcVolumes, compactions: Compactions, takeover: EcTakeover
    ) -> None:
        self._disk = disk
        self._shell = shell
        self._volumes = volumes
        self._compactions = compactions
        self._takeover = takeover
        self._jobs: EcJobs | None = None
        self._real: dict[type[Any], Handler] = {}
        self.handlers: dict[type[Any], Handler] = dict.fromkeys(
            (
                WipeEcFiles,
                DeleteShards,
                DeleteEcIndex,
                DeleteEcGenerations,
                StartDecode,
                StartEncode,
                StartRebuild,
                FollowEcJob,
                StopEcJob,
            ),
            self._serve,
        )

    def tasks(self) -> list[TaskReport]:
        """What is under way."""
        return [] if self._jobs is None else self._jobs.tasks()

    def tick(self) -> None:
        """Stop what nobody asks about."""
        if self._jobs is not None:
            self._jobs.tick()

    def stop(self) -> None:
        """The worker is stopping."""
        if self._jobs is not None:
            self._jobs.stop_all()

    def _serve(self, request: Any, reply: Reply) -> None:
        if self._jobs is None:
            self._jobs = self._load()
        self._real[type(request)](request, reply)

    def _load(self) -> EcJobs:
        from workers.ec_decoding import EcDecoding
        from workers.ec_encoding import EcEncoding
        from workers.ec_jobs import EcJobs
        from workers.ec_rebuilding import EcRebuilding
        from workers.ec_removal import EcRemoval

        working: set[int] = set()
        jobs = EcJobs(self._shell, self._disk.site.files, working)
        removal = EcRemoval(self._disk, self._volumes, working)
        encoding = EcEncoding(self._disk, self._shell, jobs)
        rebuilding = EcRebuilding(self._disk, self._volumes, jobs)
        decoding = EcDecoding(self._disk, self._shell, self._compactions, jobs, self._takeover)
        for part in (jobs, removal, encoding, rebuilding, decoding):
            self._real |= part.handlers
        return jobs
