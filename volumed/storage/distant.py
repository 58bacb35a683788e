"""Volumes on a disk whose data, in a remote tier, are not open yet (docs/spec/grpc.md 5.2).

They are not mounted, and the master is not told of them. But readers know that they are there: a read is an error, not
"not found", which would say that the object is gone.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

from volumed.errors import VolumedError, VolumeNotFound, VolumeUnavailable
from volumed.storage.map_records import VolumeFlag, VolumeRecord
from volumed.storage.needle_map import MapError, NeedleMap
from volumed.storage.volume_load import RemoteDataNeeded

__all__ = ["DistantVolumes"]

_log = logging.getLogger(__name__)

_FLAGS = VolumeFlag.UNAVAILABLE | VolumeFlag.NO_WRITE_OR_DELETE
_VERSION = 3


class DistantVolumes:
    """What is known of each, by volume id."""

    def __init__(self, needle_map: NeedleMap) -> None:
        self._map = needle_map
        self._waiting: dict[int, RemoteDataNeeded] = {}

    def __iter__(self) -> Iterator[int]:
        return iter(self._waiting)

    def __len__(self) -> int:
        return len(self._waiting)

    def __getitem__(self, volume_id: int) -> RemoteDataNeeded:
        return self._waiting[volume_id]

    def add(self, volume_id: int, needed: RemoteDataNeeded) -> None:
        """Tell readers that it is there. Raises `MapError`."""
        self._waiting[volume_id] = needed
        with self._map.begin() as txn:
            generation = txn.next_generation()
            record = VolumeRecord(generation, _VERSION, 0, 0, _FLAGS, 0, 0, needed.dat_path, needed.collection)
            txn.put_record(volume_id, record)

    def mounted(self, volume_id: int) -> None:
        """It is open; its own record has replaced ours."""
        self._waiting.pop(volume_id, None)

    def forget(self, volume_id: int) -> None:
        """It is not to be opened any more."""
        if self._waiting.pop(volume_id, None) is None:
            return
        try:
            with self._map.begin() as txn:
                txn.remove_record(volume_id)
        except MapError as error:
            _log.error("volume %d: cannot withdraw it: %s", volume_id, error)

    def missing(self, volume_id: int) -> VolumedError:
        """Why a volume cannot be used that is not mounted."""
        needed = self._waiting.get(volume_id)
        if needed is None:
            return VolumeNotFound.of(volume_id)
        return VolumeUnavailable.of(volume_id, f"its data in {needed.entry.backend_name} are not open")
