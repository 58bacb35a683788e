"""Deletions where a volume is mounted beside its shards: one that was just decoded is read before them, and outlives
them (docs/spec/erasure-coding.md 4.12)."""

from __future__ import annotations

from typing import Protocol

from volumed.bus.calls import DeleteNeedle, DeleteNeedles, NeedleDeletion
from volumed.erasure.errors import NoSuchEcNeedle
from volumed.errors import DiskError, DiskUnavailable, NeedleDeleted
from volumed.shards.calls import NodeCalls
from volumed.shards.deletes import EcDeletes
from volumed.shards.reader import StoredEcNeedle
from volumed.shards.view import MountedView, NodeEcVolume
from volumed.storage.map_records import VolumeFlag
from volumed.storage.view import VolumeHandle

__all__ = ["DeletesOfBoth", "VolumesView"]

_DELETED, _BAD_REQUEST = 202, 400
_TIMEOUT_S = 30.0


class VolumesView(MountedView, Protocol):
    """Knows normal volumes, too (``volumed.storage.view.NodeView``)."""

    def locate(self, volume_id: int) -> VolumeHandle | None: ...


class DeletesOfBoth:
    """`EcDeletes`, and then the same in the normal volume of the id. Any thread; what it does may wait.

    DEVIATE: the reference deletes in the shards only. The needle is still read from the volume then, and for good when
    the shards are removed. Where the volume takes no deletions it is the other way round: it was encoded, and goes.
    """

    def __init__(self, deletes: EcDeletes, volumes: VolumesView, calls: NodeCalls) -> None:
        self._deletes = deletes
        self._volumes = volumes
        self._calls = calls

    def delete(self, volume: NodeEcVolume, key: int, cookie: int) -> int:
        """Raises what `EcDeletes.delete` raises, and `DiskError` when only the shards could be changed."""
        try:
            size = self._deletes.delete(volume, key, cookie)
        except (NeedleDeleted, NoSuchEcNeedle):
            freed = self.delete_beside(volume.volume_id, key, cookie)
            if freed is None:
                raise
            return freed
        self._require_beside(volume.volume_id, key)
        return size

    def delete_found(self, stored: StoredEcNeedle) -> int:
        """Likewise."""
        size = self._deletes.delete_found(stored)
        self._require_beside(stored.volume.volume_id, stored.needle.key)
        return size

    def journal_here(self, volume: NodeEcVolume, key: int) -> bool:
        """Likewise, for another server that has found the needle."""
        is_journaled = self._deletes.journal_here(volume, key)
        if is_journaled:
            self._require_beside(volume.volume_id, key)
        return is_journaled

    def delete_beside(self, volume_id: int, key: int, cookie: int | None) -> int | None:
        """Delete a needle that the shards do not have, or not any more; the freed size. None when there is nothing to
        delete. Raises what a call to a worker raises."""
        beside = self._delete_beside(volume_id, key, cookie)
        return beside.size if beside is not None and beside.status == _DELETED else None

    def _require_beside(self, volume_id: int, key: int) -> None:
        beside = self._delete_beside(volume_id, key, None)
        if beside is not None and beside.status >= _BAD_REQUEST:
            raise DiskError(beside.error)

    def _delete_beside(self, volume_id: int, key: int, cookie: int | None) -> NeedleDeletion | None:
        """None when there is no such volume, or none that takes deletions."""
        try:
            handle = self._volumes.locate(volume_id)
        except DiskUnavailable:
            return None  # it is not certain that there is one
        if handle is None or VolumeFlag.NO_WRITE_OR_DELETE in handle.record.flags:
            return None
        request = DeleteNeedles([DeleteNeedle(volume_id, key, cookie)])
        results: list[NeedleDeletion] = self._calls.worker(handle.disk_id, request, _TIMEOUT_S).results
        return results[0]
