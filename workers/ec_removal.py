"""Files of erasure coded volumes that go from one disk because somebody asked for it (docs/spec/erasure-coding.md 5.5).

In the volume's turn: what is to go is unmounted on the loop thread, then the files are removed in the background, since
freeing large ones takes time.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import Any, TypeVar

from volumed.bus.ec_calls import DeleteEcGenerations, DeleteEcIndex, DeleteShards, ShardsRemaining, WipeEcFiles
from volumed.bus.router import Reply
from volumed.erasure.code import SHARDS_MAX
from volumed.errors import VolumeBusy
from volumed.storage.disk import Disk
from volumed.storage.ec_wipe import is_of_older_run, remove_generations, remove_index, remove_shards, wipe
from volumed.storage.site import VolumePaths
from workers.ec_volumes import EcVolumes
from workers.refusals import refuse

__all__ = ["EcRemoval", "require_idle"]

T = TypeVar("T")
_ALL = range(SHARDS_MAX)


def require_idle(working: set[int], volume_id: int) -> None:
    """Raises `VolumeBusy` while the volume is encoded, rebuilt or decoded."""
    if volume_id in working:
        raise VolumeBusy(f"another operation on the shards of volume {volume_id} is under way")


class EcRemoval:
    """Used on the loop thread."""

    def __init__(self, disk: Disk, volumes: EcVolumes, working: set[int]) -> None:
        """``working`` are the ids of volumes that are encoded, rebuilt or decoded now."""
        self._disk = disk
        self._files = disk.site.files
        self._volumes = volumes
        self._working = working
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            WipeEcFiles: self._wipe,
            DeleteShards: self._delete_shards,
            DeleteEcIndex: self._delete_index,
            DeleteEcGenerations: self._delete_generations,
        }

    def _wipe(self, request: WipeEcFiles, reply: Reply) -> None:
        paths, limit = self._paths(request), request.encode_ts_ns
        if not limit:
            work = partial(wipe, self._files, paths, "a teardown")
            self._remove(request.volume_id, _ALL, work, lambda _: reply.result(), reply)
            return

        def judged(is_older: bool) -> None:
            if not is_older:
                reply.result()
                return
            work = partial(wipe, self._files, paths, f"a teardown of what is older than {limit}", fenced=True)
            try:
                self._remove(request.volume_id, _ALL, work, lambda _: reply.result(), reply)
            except VolumeBusy as error:
                reply.error(error)  # something has begun meanwhile

        self._remove(request.volume_id, (), partial(is_of_older_run, self._files, paths, limit), judged, reply)

    def _delete_shards(self, request: DeleteShards, reply: Reply) -> None:
        work = partial(remove_shards, self._files, self._paths(request), request.shard_ids, "asked to")

        def removed(remaining: list[int]) -> None:
            reply.result(ShardsRemaining(remaining))

        # DEVIATE: the reference goes on listing shards whose files are gone, unless the caller has unmounted them.
        self._remove(request.volume_id, self._unless_others(request, request.shard_ids), work, removed, reply)

    def _delete_index(self, request: DeleteEcIndex, reply: Reply) -> None:
        work = partial(remove_index, self._files, self._paths(request), "the last shard of the node is gone")
        self._remove(request.volume_id, self._unless_others(request, _ALL), work, lambda _: reply.result(), reply)

    def _delete_generations(self, request: DeleteEcGenerations, reply: Reply) -> None:
        reason = f"a generation before {request.below}"
        work = partial(remove_generations, self._files, self._paths(request), request.below, reason)
        self._remove(request.volume_id, (), work, lambda _: reply.result(), reply)

    def _unless_others(self, request: DeleteShards | DeleteEcIndex, shard_ids: Collection[int]) -> Collection[int]:
        """What to unmount: nothing of a volume of another collection that has the id."""
        volume = self._volumes.volumes.get(request.volume_id)
        return shard_ids if volume is None or volume.collection == request.collection else ()

    def _paths(self, request: WipeEcFiles | DeleteShards | DeleteEcIndex | DeleteEcGenerations) -> VolumePaths:
        return self._disk.site.paths(request.collection, request.volume_id)

    def _remove(
        self,
        volume_id: int,
        shard_ids: Collection[int],
        work: Callable[[], T],
        done: Callable[[T], None],
        reply: Reply,
    ) -> None:
        """Unmount shards, do ``work`` in the background, and ``done``; or answer with the error."""
        require_idle(self._working, volume_id)
        self._volumes.run_unmounted(volume_id, shard_ids, work, done, partial(refuse, reply, "remove"))
