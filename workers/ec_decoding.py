"""Shards of a node that become a volume on one disk (docs/spec/erasure-coding.md 5.9, steps 3 to 9, R10)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from volumed.bus.ec_calls import StartDecode
from volumed.bus.router import Reply
from volumed.erasure.errors import EcInterrupted
from volumed.errors import CompactionError, DiskError, VolumeBusy, VolumedError
from volumed.formats.volumename import require_collection
from volumed.storage.compaction import Compaction
from volumed.storage.compaction_commit import SwapInterrupted
from volumed.storage.disk import Disk
from volumed.storage.ec_decode import (
    Decoded,
    DecodeTask,
    decode_set,
    discard_decoded,
    put_in_place,
    remove_outdated,
)
from volumed.storage.ec_files import paths_elsewhere
from volumed.storage.ec_keep import Present
from volumed.storage.map_records import VolumeFlag
from volumed.storage.site import VolumePaths
from volumed.storage.volume import Volume
from workers.compaction_commit import CompactionCommit
from workers.compactions import Compactions
from workers.ec_jobs import EcJob, EcJobs
from workers.ec_takeover import EcTakeover
from workers.host import Shell

__all__ = ["EcDecoding"]


class EcDecoding:
    """Used on the loop thread.

    A normal volume of the id that is mounted stays in use, and takes the new files over as it does after a vacuum: what
    was written to it since the encode is in them too, until the last moment.
    """

    def __init__(self, disk: Disk, shell: Shell, compactions: Compactions, jobs: EcJobs, takeover: EcTakeover) -> None:
        self._disk = disk
        self._shell = shell
        self._compactions = compactions
        self._jobs = jobs
        self._takeover = takeover
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {StartDecode: self._start}

    def _start(self, request: StartDecode, reply: Reply) -> None:
        volume_id, collection = request.volume_id, request.collection
        volume = self._mounted(request)
        if volume_id in self._disk.arriving:
            raise VolumeBusy.arriving(volume_id)
        own = self._disk.site.paths(collection, volume_id)
        others = [paths_elsewhere(item, collection, volume_id) for item in request.others]
        # A mount looks beside the `.dat` first.
        beside = VolumePaths(own.data_directory, own.data_directory, own.base_name)
        target = beside if volume is None else volume.paths
        followed = 0 if volume is None else volume.progress.idx_bytes
        present = None if volume is None else Present(volume.dat, volume.idx, followed)
        task = DecodeTask(self._disk.site, volume_id, collection, [own, *others], target, present)
        job = self._jobs.start(volume_id, "decode", reply, partial(self._release, volume_id, volume))
        if volume is None:
            self._disk.arriving.add(volume_id)
            done = partial(self._decoded, job, task)
        else:
            self._compactions.forget_volume(volume_id)
            volume.held_while = "being decoded"
            done = partial(self._decoded_under, job, task, Compaction(volume, 0, 0), followed)
        self._jobs.run(job, partial(decode_set, task, job.progress), done)

    def _mounted(self, request: StartDecode) -> Volume | None:
        """The normal volume of the id. Raises `VolumedError` when it cannot take new files now."""
        volume = self._disk.volumes.get(request.volume_id)
        if volume is None:
            return None
        require_collection(volume.collection, request.collection)
        if volume.sealed:
            raise CompactionError.sealed(volume.dat.path)
        volume.require_free()
        return volume

    def _release(self, volume_id: int, volume: Volume | None) -> None:
        if volume is None:
            self._disk.arriving.discard(volume_id)
        else:
            volume.held_while = ""

    def _decoded(self, job: EcJob, task: DecodeTask, decoded: Decoded) -> None:
        """Nobody has a volume there mounted."""
        if job.progress.stopped:
            self._give_up(job, decoded, EcInterrupted())
            return

        def work() -> None:
            try:
                put_in_place(task, decoded)
            except SwapInterrupted:
                raise  # the next start needs what is left
            except (OSError, VolumedError):
                discard_decoded(decoded)
                raise
            remove_outdated(task)

        def done(_: None) -> None:
            self._takeover.decoded(task.volume_id, task.disks, decoded.deleted)
            self._jobs.end(job)

        self._jobs.run(job, work, done)

    def _decoded_under(self, job: EcJob, task: DecodeTask, swap: Compaction, followed: int, decoded: Decoded) -> None:
        """A mounted volume takes the files over."""
        superblock, volume = decoded.compaction.superblock, swap.volume
        if job.progress.stopped:
            self._give_up(job, decoded, EcInterrupted())
            return
        if superblock.version != volume.version:
            text = f"volume {task.volume_id} has version {volume.version}, its shards {superblock.version}"
            self._give_up(job, decoded, DiskError(text))
            return

        def learn(_: None) -> None:
            if VolumeFlag.NO_WRITE_OR_DELETE in volume.flags:
                # What was deleted meanwhile was deleted in the shards only.
                self._takeover.decoded(task.volume_id, task.disks, decoded.deleted)
                self._takeover.mounted(task.volume_id, partial(self._jobs.end, job), partial(self._jobs.end, job))
            else:
                self._jobs.end(job)

        def done(error: VolumedError | None) -> None:
            if error is not None:
                self._give_up(job, decoded, error)
            else:
                self._jobs.run(job, partial(remove_outdated, task), learn)

        swap.superblock = superblock
        decoded.new.followed = followed
        CompactionCommit(self._disk, self._shell, swap, decoded.new, done).begin()

    def _give_up(self, job: EcJob, decoded: Decoded, error: Exception) -> None:
        self._jobs.run(job, partial(discard_decoded, decoded), lambda _: self._jobs.end(job, error))
