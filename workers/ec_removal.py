"""Files of erasure coded volumes that go from one disk because somebody asked for it (docs/spec/erasure-coding.md 5.5).

What is to go is unmounted first, on the loop thread; the files are removed in the background, since freeing large ones
takes time. Meanwhile the volume is ``working``, and takes no other operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import msgspec

from volumed.bus.ec_calls import DeleteEcGenerations, DeleteEcIndex, DeleteShards, ShardsRemaining, WipeEcFiles
from volumed.bus.router import Reply
from volumed.erasure.code import SHARDS_MAX
from volumed.errors import VolumeBusy
from volumed.storage.disk import Disk
from volumed.storage.ec_wipe import is_of_older_run, remove_generations, remove_index, remove_shards, wipe
from volumed.storage.fileio import disk_error
from volumed.storage.site import VolumePaths
from workers.host import Shell, Work

__all__ = ["EcRemoval", "require_idle"]

Unmount = Callable[[int, Sequence[int]], None]
"""Unmounts shards of a volume from the disk; absent is not an error."""

_ALL = range(SHARDS_MAX)


def require_idle(working: set[int], volume_id: int) -> None:
    """Raises `VolumeBusy` while something else is done to the volume's shards."""
    if volume_id in working:
        raise VolumeBusy(f"another operation on the shards of volume {volume_id} is under way")


class EcRemoval:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell, unmount: Unmount, working: set[int]) -> None:
        """``working`` are the ids of volumes with an operation under way, shared with other parts."""
        self._disk = disk
        self._files = disk.site.files
        self._shell = shell
        self._unmount = unmount
        self._working = working
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            WipeEcFiles: self._wipe,
            DeleteShards: self._delete_shards,
            DeleteEcIndex: self._delete_index,
            DeleteEcGenerations: self._delete_generations,
        }

    def _wipe(self, request: WipeEcFiles, reply: Reply) -> None:
        paths = self._paths(request)

        def go(*, fenced: bool) -> None:
            self._unmount(request.volume_id, _ALL)
            reason = f"a teardown of what is older than {request.encode_ts_ns}" if fenced else "a teardown"
            self._remove(request.volume_id, partial(wipe, self._files, paths, reason, fenced=fenced), reply)

        def judged(is_older: bool) -> None:
            if is_older:
                go(fenced=True)
            else:
                reply.result()

        require_idle(self._working, request.volume_id)
        if not request.encode_ts_ns:
            go(fenced=False)
            return
        check = partial(is_of_older_run, self._files, paths, request.encode_ts_ns)
        self._aside(request.volume_id, check, judged, reply)

    def _delete_shards(self, request: DeleteShards, reply: Reply) -> None:
        require_idle(self._working, request.volume_id)
        self._unmount(request.volume_id, request.shard_ids)
        work = partial(remove_shards, self._files, self._paths(request), request.shard_ids, "asked to")
        self._aside(request.volume_id, work, lambda remaining: reply.result(ShardsRemaining(remaining)), reply)

    def _delete_index(self, request: DeleteEcIndex, reply: Reply) -> None:
        require_idle(self._working, request.volume_id)
        self._unmount(request.volume_id, _ALL)
        reason = "the last shard of the node is gone"
        self._remove(request.volume_id, partial(remove_index, self._files, self._paths(request), reason), reply)

    def _delete_generations(self, request: DeleteEcGenerations, reply: Reply) -> None:
        require_idle(self._working, request.volume_id)
        reason = f"a generation before {request.below}"
        work = partial(remove_generations, self._files, self._paths(request), request.below, reason)
        self._remove(request.volume_id, work, reply)

    def _paths(self, request: WipeEcFiles | DeleteShards | DeleteEcIndex | DeleteEcGenerations) -> VolumePaths:
        return self._disk.site.paths(request.collection, request.volume_id)

    def _remove(self, volume_id: int, work: Callable[[], None], reply: Reply) -> None:
        self._aside(volume_id, work, lambda _: reply.result(), reply)

    def _aside(self, volume_id: int, work: Callable[[], Any], then: Callable[[Any], None], reply: Reply) -> None:
        """``work`` in the background, ``then`` or the error after it."""

        def done(outcome: msgspec.Struct | None) -> None:
            self._working.discard(volume_id)
            then(outcome)

        def failed(error: Exception) -> None:
            self._working.discard(volume_id)
            reply.error(disk_error("remove", error) if isinstance(error, OSError) else error)

        self._working.add(volume_id)
        self._shell.in_background(work, done, failed, Work.COPY)
