"""Volumes of one disk that become shards (docs/spec/erasure-coding.md 5.1, steps 3 to 7)."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from functools import partial
from typing import Any

from volumed.bus.ec_calls import StartEncode
from volumed.bus.router import Reply
from volumed.erasure.encode import Encoded
from volumed.erasure.errors import EcInterrupted
from volumed.errors import DiskError, VolumeNotFound, VolumeUnavailable
from volumed.formats.vif import VolumeInfo
from volumed.formats.volumename import require_collection
from volumed.storage.disk import Disk
from volumed.storage.ec_encode import EncodeSource, encode_source
from volumed.storage.ec_wipe import wipe
from volumed.storage.map_records import VolumeFlag
from volumed.storage.volume import Volume
from workers.ec_jobs import EcJob, EcJobs
from workers.host import Shell

__all__ = ["EcEncoding"]


class EcEncoding:
    """Used on the loop thread. A volume stays in use while it is encoded, but is neither closed nor compacted."""

    def __init__(self, disk: Disk, shell: Shell, jobs: EcJobs) -> None:
        self._disk = disk
        self._files = disk.site.files
        self._shell = shell
        self._jobs = jobs
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {StartEncode: self._start}

    def _start(self, request: StartEncode, reply: Reply) -> None:
        volume = self._find(request)
        if volume.flushing:
            # What a failed flush takes back must not be in the index.
            self._shell.after_flush(lambda: self._start_or_fail(request, reply))
            return

        def release() -> None:
            volume.held_while = ""

        job = self._jobs.start(volume.volume_id, "encode", reply, release)
        volume.held_while = "being encoded"
        site = volume.site
        source = EncodeSource(volume.paths, volume.dat, volume.idx, volume.progress.idx_bytes, site.offset_width)
        save = partial(self._save_info, volume)
        work = partial(encode_source, self._files, source, time.time_ns(), job.progress, save)
        self._jobs.compute(job, work, partial(self._encoded, job, volume))

    def _start_or_fail(self, request: StartEncode, reply: Reply) -> None:
        try:
            self._start(request, reply)
        except Exception as error:
            reply.error(error)

    def _save_info(self, volume: Volume, encoded: VolumeInfo) -> None:
        """Have the loop thread, which alone writes the `.vif` of a mounted volume, put an encode into it, and wait for
        that (any other thread). Raises `OSError`."""
        saved: Future[None] = Future()

        def save() -> None:
            # DEVIATE: the reference writes a fresh one, and forgets marks at the next start (3.4).
            info = replace(
                volume.info,
                version=encoded.version,
                dat_file_size=encoded.dat_file_size,
                expire_at_sec=encoded.expire_at_sec,
                ec_shard_config=encoded.ec_shard_config,
            )
            try:
                volume.save_info(info)
            except Exception as error:
                saved.set_exception(error)
            else:
                saved.set_result(None)

        self._shell.post(save)
        saved.result()

    def _encoded(self, job: EcJob, volume: Volume, _: Encoded) -> None:
        if job.progress.stopped:
            work = partial(wipe, self._files, volume.paths, "nobody waits for the encode any more")
            self._jobs.run(job, work, lambda _: self._jobs.end(job, EcInterrupted()))
        else:
            self._jobs.end(job)

    def _find(self, request: StartEncode) -> Volume:
        """Raises `VolumedError` for a volume that cannot be encoded now."""
        volume = self._disk.volumes.get(request.volume_id)
        if volume is None:
            raise VolumeNotFound.of(request.volume_id)
        require_collection(volume.collection, request.collection)
        if VolumeFlag.UNAVAILABLE in volume.flags:
            raise VolumeUnavailable.of(volume.volume_id, volume.unavailable_reason)
        if volume.is_remote:
            raise DiskError(f"open {volume.paths.data('.dat')}: no such file or directory")
        volume.require_free()
        return volume
