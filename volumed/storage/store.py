"""Batches of puts and deletes over the volumes of a disk: one append per volume, one map transaction for all."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from volumed.bus.frames import StoreOutcome, StoreResult
from volumed.errors import DiskError, NodeError, StaleGeneration, VolumedError, VolumeNotFound
from volumed.storage.append import Operation
from volumed.storage.needle_map import MapError, MapTransaction, NeedleMap
from volumed.storage.placed_put import PlacedPut, RecordCopy, SpooledNeedle
from volumed.storage.volume import Volume

__all__ = ["ANY_GENERATION", "Flush", "StoreBatch", "VolumeStore"]

ANY_GENERATION = 0
"""Generation of an operation that does not depend on anything its sender has seen."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Flush:
    """Files of one volume that must reach the disk before some operations may be answered.

    Call `run` on the sync thread, then `Disk.finish_flush` on the loop thread with its outcome. Until then the
    volume takes no other operation: hold them back (`Disk.is_flushing`).
    """

    volume: Volume
    positions: list[int]
    """Indexes in the batch of the operations that wait: all of this volume, because a failed flush undoes all."""

    @property
    def volume_id(self) -> int:
        return self.volume.volume_id

    def run(self) -> None:
        """Raises `DiskError`."""
        self.volume.flush()


@dataclass(frozen=True, slots=True)
class StoreBatch:
    """Results in the order of the operations. Those named by a flush may be answered only after it, the others at
    once."""

    results: list[StoreResult]
    flushes: list[Flush] = field(default_factory=list)


class VolumeStore:
    """Applies batches to the mounted ``volumes``. ``address`` is this node's, for error texts."""

    def __init__(self, needle_map: NeedleMap, volumes: Mapping[int, Volume], address: str) -> None:
        self._map = needle_map
        self._volumes = volumes
        self._address = address

    def apply(self, operations: Sequence[Operation]) -> StoreBatch:
        """See `Disk.store`."""
        results = [StoreResult(StoreOutcome.ERROR, 0)] * len(operations)
        try:
            txn = self._map.begin()
        except MapError as error:
            return StoreBatch([_error_result(DiskError(f"needle map: {error}"))] * len(operations))
        applied: list[tuple[Volume, list[int]]] = []
        try:
            for volume_id, positions in _by_volume(operations).items():
                volume = self._volumes.get(volume_id)
                if volume is None or volume.flushing:
                    refused = self._refused(volume_id, volume)
                    for position in positions:
                        results[position] = refused
                    continue
                accepted = _refuse_stale(volume, operations, positions, results)
                applied.append((volume, accepted))
                done = volume.apply([operations[position] for position in accepted], txn)
                for position, result in zip(accepted, done, strict=True):
                    results[position] = result
            _commit(txn, [volume for volume, _ in applied])
        except MapError as error:
            txn.abort()
            for volume, _ in applied:
                volume.rolled_back()
            return StoreBatch(_not_indexed(operations, results, error))
        return StoreBatch(results, [Flush(volume, at) for volume, at in applied if volume.flushing])

    def _refused(self, volume_id: int, volume: Volume | None) -> StoreResult:
        if volume is None:
            return _error_result(VolumeNotFound.on_server(volume_id, self._address))
        return _error_result(NodeError(f"volume {volume_id} is being flushed"))

    def begin_placing(self, needle: SpooledNeedle) -> RecordCopy:
        """See `Disk.begin_placing`."""
        volume = self._volumes.get(needle.volume_id)
        if volume is None:
            raise VolumeNotFound.on_server(needle.volume_id, self._address)
        if volume.closed or needle.generation not in (ANY_GENERATION, volume.generation):
            raise StaleGeneration(f"volume {needle.volume_id} is at another generation")
        volume.begin_placing()
        return RecordCopy(volume, needle)

    def place(self, copy: RecordCopy, put: PlacedPut | None) -> StoreBatch:
        """See `Disk.place`."""
        copy.volume.end_placing(has_remains=copy.has_remains)
        if put is None:
            return StoreBatch([])
        batch = self.apply([put])
        if batch.results[0].outcome == StoreOutcome.ERROR:
            copy.volume.cut_placed()
        return batch

    def undo(self, flush: Flush, error: DiskError) -> bool:
        """Take back all that the batch of a failed flush did to the volume. False when that failed too: the volume
        is unavailable now, which readers have yet to be told."""
        volume = flush.volume
        try:
            with self._map.begin() as txn:
                volume.undo_flush(txn)
            volume.committed()
        except (OSError, MapError) as failure:
            reason = f"{error.text}; restoring it failed: {failure}"
            _log.critical("volume %d is unavailable: %s", volume.volume_id, reason)
            volume.make_unavailable(reason)
            return False
        return True


def _by_volume(operations: Sequence[Operation]) -> dict[int, list[int]]:
    """Positions of the operations of each volume, in order."""
    positions: dict[int, list[int]] = defaultdict(list)
    for position, operation in enumerate(operations):
        positions[operation.volume_id].append(position)
    return positions


def _refuse_stale(
    volume: Volume, operations: Sequence[Operation], positions: list[int], results: list[StoreResult]
) -> list[int]:
    """Positions of the operations that were decided with the volume's current state."""
    current = (ANY_GENERATION, volume.generation)
    accepted = [position for position in positions if operations[position].generation in current]
    if len(accepted) < len(positions):
        stale = _error_result(StaleGeneration(f"volume {volume.volume_id} is at another generation"))
        for position in set(positions).difference(accepted):
            results[position] = stale
    return accepted


def _commit(txn: MapTransaction, volumes: list[Volume]) -> None:
    changed = [volume for volume in volumes if volume.has_uncommitted]
    if not changed:
        txn.abort()
        return
    txn.commit()
    for volume in changed:
        volume.committed()


def _not_indexed(
    operations: Sequence[Operation], results: Sequence[StoreResult], error: MapError
) -> list[StoreResult]:
    """The map could not be changed: nothing of this batch happened, and some of it was not even looked at."""
    return [
        result
        if result.error
        else _error_result(DiskError(f"index needle {operation.key:x} of volume {operation.volume_id}: {error}"))
        for operation, result in zip(operations, results, strict=True)
    ]


def _error_result(error: VolumedError) -> StoreResult:
    return StoreResult(StoreOutcome.ERROR, 0, error)
