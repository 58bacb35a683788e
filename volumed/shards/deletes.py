"""Deletions in erasure coded volumes (docs/spec/erasure-coding.md 4.12).

One server writes a deletion to its journals: one that has the needle's first shard. The others learn it with their next
read, which asks that server. On a node every disk that has the volume mounted journals, so that each journal is
complete; one that comes back meanwhile does so too, or learns it when it has (`erasure.merges`).
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

from volumed.bus.calls import Location
from volumed.bus.ec_calls import DeleteEcNeedle
from volumed.erasure.errors import EcCookieMismatch, NoShardLocation
from volumed.errors import VolumedError, VolumeNotFound
from volumed.formats.needle import record_length
from volumed.shards.calls import NodeCalls
from volumed.shards.elsewhere import OtherServers
from volumed.shards.gathering import PATIENT
from volumed.shards.peers import ShardPeers, peer_address
from volumed.shards.reader import EcReader, StoredEcNeedle
from volumed.shards.view import NodeEcVolume

__all__ = ["EcDeletes"]

_CALL_TIMEOUT_S = 30.0


class EcDeletes:
    """Any thread; what it does may wait."""

    def __init__(self, reader: EcReader, elsewhere: OtherServers, peers: ShardPeers, calls: NodeCalls) -> None:
        self._reader = reader
        self._elsewhere = elsewhere
        self._peers = peers
        self._calls = calls

    def delete(self, volume: NodeEcVolume, key: int, cookie: int) -> int:
        """Delete a needle; returns what clients are told of its size. Raises what `EcReader.read` raises,
        `EcCookieMismatch`, and what keeps it from being journalled."""
        # COMPAT: 0 stands for any cookie.
        stored = self._reader.read(volume, key, cookie or None)
        if cookie and stored.needle.cookie != cookie:
            raise EcCookieMismatch.of(cookie)
        return self.delete_found(stored)

    def delete_found(self, stored: StoredEcNeedle) -> int:
        """Delete a needle that was read; likewise."""
        volume, (key, offset, size) = stored.volume, stored.row
        layout, version = volume.source.layout, volume.source.version
        length = record_length(size, version)
        first = next(layout.intervals(offset, length)).shard
        for shard in (first, *(other for other in range(layout.ratio.data + layout.ratio.parity) if other != first)):
            if self._journal(volume, key, shard):
                # COMPAT: the reference tells the length of a record as long as the record.
                return record_length(length, version)
        raise NoShardLocation.of(volume.volume_id)

    def journal_here(self, volume: NodeEcVolume, key: int) -> bool:
        """Write the deletion to the journal of every disk of this node; False: all have unmounted the volume meanwhile.
        Raises the first error, after all."""
        failed: VolumedError | None = None
        is_journaled = False
        told: set[int] = set()
        while disks := {disk.disk_id for disk in volume.disks} - told:
            told |= disks
            for error in self._tell(sorted(disks), DeleteEcNeedle(volume.volume_id, key)):
                is_journaled = is_journaled or error is None
                if not isinstance(error, VolumeNotFound):
                    failed = failed or error
            volume = self._reader.find(volume.volume_id) or volume
        if failed is not None:
            raise failed
        return is_journaled

    def _tell(self, disk_ids: list[int], request: DeleteEcNeedle) -> list[VolumedError | None]:
        """What went wrong on each disk. They flush at the same time, not one after the other."""

        def tell(disk_id: int) -> VolumedError | None:
            try:
                self._calls.worker(disk_id, request, _CALL_TIMEOUT_S)
            except VolumedError as error:
                return error
            return None

        if len(disk_ids) == 1:
            return [tell(disk_ids[0])]
        with ThreadPoolExecutor(len(disk_ids), thread_name_prefix="journals") as pool:
            return list(pool.map(tell, disk_ids))

    def _journal(self, volume: NodeEcVolume, key: int, shard: int) -> bool:
        """On a server that has the shard, this one first; False: nobody is known to have it."""
        if shard in volume.here and self.journal_here(volume, key):
            return True
        failed: VolumedError | None = None
        for location in self._holders(volume, shard):
            try:
                self._peers.delete(peer_address(location), volume, key, shard, PATIENT.peer_s)
            except VolumedError as error:
                failed = error
            else:
                return True
        if failed is not None:
            raise failed
        return False

    def _holders(self, volume: NodeEcVolume, shard: int) -> Iterator[Location]:
        """The other servers that are known to have a shard; when those do not help, those that the master names now."""
        known = self._elsewhere.locations(volume, shard, PATIENT)
        yield from known
        if known:
            self._elsewhere.renew(volume.volume_id)
            yield from (new for new in self._elsewhere.locations(volume, shard, PATIENT) if new not in known)
