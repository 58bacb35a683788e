"""The needle map of one disk as a front sees it: read-only, committed state, never waits for the writer."""

from __future__ import annotations

import lmdb

from volumed.storage.map_records import ENTRY_KEY, VOLUME_KEY
from volumed.storage.needle_map import DATABASES, MAP_SIZE_BYTES

__all__ = ["MapReader"]

_SPARE_READ_TRANSACTIONS = 8


class MapReader:
    """An environment opened for reading. Any thread may look things up; a look-up that meets `close` raises
    `MapError`. A process can open an environment only once: close before opening it again."""

    def __init__(self, path: str) -> None:
        """Raises `MapError` when there is no complete map at ``path``."""
        self._env = lmdb.open(
            path,
            readonly=True,
            create=False,
            map_size=MAP_SIZE_BYTES,
            max_dbs=len(DATABASES),
            max_spare_txns=_SPARE_READ_TRANSACTIONS,
            readahead=False,
        )
        try:
            self._needles, self._volumes, self._progress, self._shards = (
                self._env.open_db(name, create=False) for name in DATABASES
            )
        except lmdb.Error:
            self._env.close()
            raise

    def find(self, volume_id: int, map_id: int, key: int) -> tuple[bytes | None, bytes | None]:
        """(raw volume record, raw needle entry) of one moment; None for what is not there. The entry means nothing
        unless ``map_id`` is that of the record."""
        # PERF: the transaction object is the cost of a look-up; LMDB renews a spare one behind it.
        txn = self._env.begin(self._needles)
        entry = txn.get(ENTRY_KEY.pack(map_id, key))
        record = txn.get(VOLUME_KEY.pack(volume_id), None, self._volumes)
        txn.abort()
        return record, entry

    def record(self, volume_id: int) -> bytes | None:
        """The raw volume record, None when the volume is not mounted on this disk."""
        txn = self._env.begin(self._volumes)
        record = txn.get(VOLUME_KEY.pack(volume_id))
        txn.abort()
        return record

    def state(self, volume_id: int) -> tuple[bytes | None, bytes | None]:
        """(raw volume record, raw progress record) of one moment; None for what is not there."""
        txn = self._env.begin(self._volumes)
        record = txn.get(VOLUME_KEY.pack(volume_id))
        progress = txn.get(VOLUME_KEY.pack(volume_id), None, self._progress)
        txn.abort()
        return record, progress

    def shards(self, volume_id: int) -> bytes | None:
        """The raw record of an erasure coded volume, None when none of its shards is mounted on this disk."""
        txn = self._env.begin(self._shards)
        record = txn.get(VOLUME_KEY.pack(volume_id))
        txn.abort()
        return record

    def is_deleted(self, map_id: int, key: int) -> bool:
        """Whether the journal of an erasure coded volume, whose record names ``map_id``, deletes a needle."""
        txn = self._env.begin(self._needles)
        entry = txn.get(ENTRY_KEY.pack(map_id, key))
        txn.abort()
        return entry is not None

    def close(self) -> None:
        """Release the reader slot and the mapping."""
        self._env.close()
