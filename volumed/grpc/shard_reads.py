"""Pieces of shards for a scrub, read on the call's own thread (docs/spec/erasure-coding.md 5.12)."""

from __future__ import annotations

from collections.abc import Mapping

from volumed.erasure.layout import Interval
from volumed.erasure.needle_scrub import UnreadablePiece
from volumed.erasure.read import Answer, answered, read_span
from volumed.errors import DiskUnavailable, NeedleDeleted, VolumeNotFound
from volumed.shards.gathering import PATIENT, Elsewhere, NoAnswer
from volumed.shards.unreadable import UnreadableShards
from volumed.shards.view import NodeEcVolume
from volumed.storage.fileio import Buffer, error_text

__all__ = ["VolumeShardReads"]

_ANY_NEEDLE = 0
"""As a key: whether a needle is deleted does not matter."""


class VolumeShardReads:
    """Of one volume; `volumed.erasure.needle_scrub.ShardReads`."""

    def __init__(self, volume: NodeEcVolume, unreadable: UnreadableShards, elsewhere: Elsewhere, address: str) -> None:
        """``unreadable`` remembers what the disks cannot read; ``address`` of this server, for error texts."""
        self._volume = volume
        self._unreadable = unreadable
        self._elsewhere = elsewhere
        self._address = address
        self.lengths: Mapping[int, int] = {shard: disk.record.shards[shard] for shard, disk in volume.here.items()}

    def local(self, wanted: Interval) -> Buffer:
        """From this node. Raises `UnreadablePiece`."""
        data = self._read(wanted)
        if len(data) < wanted.length:
            raise UnreadablePiece("EOF")
        return data

    def direct(self, wanted: Interval, key: int) -> Buffer:
        """From this node or another one; zeros when the needle is deleted where the shard is, and the shard cannot be
        read. Raises `UnreadablePiece`."""
        return self._anywhere(wanted, key, recovers=False)

    def recovered(self, wanted: Interval) -> Buffer:
        """Computed from other shards. Raises `TooFewShards`."""
        source = self._volume.source
        offset = source.layout.dat_offset(wanted.shard, wanted.offset)
        return answered(read_span(source, offset, wanted.length, (wanted.shard,)), self._answer)

    def _anywhere(self, wanted: Interval, key: int, *, recovers: bool) -> Buffer:
        try:
            return self._here(wanted)
        except UnreadablePiece as error:
            if wanted.shard in self.lengths and self._is_deleted(key):
                return bytes(wanted.length)
            cause = error
        try:
            found = self._there(wanted, key, recovers=recovers)
        except NeedleDeleted:
            return bytes(wanted.length)
        if found is None:
            raise cause
        return found

    def _is_deleted(self, key: int) -> bool:
        try:
            return key != _ANY_NEEDLE and self._volume.is_deleted(key)
        except (VolumeNotFound, DiskUnavailable):
            return False

    def _answer(self, wanted: Interval) -> Answer:
        try:
            return self._anywhere(wanted, _ANY_NEEDLE, recovers=True)
        except UnreadablePiece:
            return None

    def _here(self, wanted: Interval) -> Buffer:
        if wanted.shard not in self.lengths:
            raise UnreadablePiece("no known shard locations")
        data = self._read(wanted)
        if len(data) < wanted.length:
            shard = f"{self._volume.volume_id}.{wanted.shard}"
            raise UnreadablePiece(
                f"short read ec shard {shard} from {self._address}: got {len(data)} want {wanted.length}"
            )
        return data

    def _read(self, wanted: Interval) -> bytes:
        """Fewer bytes at the end of the shard."""
        try:
            return self._unreadable.read(self._volume.here[wanted.shard], wanted)
        except OSError as error:
            raise UnreadablePiece(error_text(error)) from error

    def _there(self, wanted: Interval, key: int, *, recovers: bool) -> Buffer | None:
        """None: no other server gives it. Raises `NeedleDeleted`."""
        started = self._elsewhere.start(self._volume, key, wanted, PATIENT, recovers=recovers)
        if started is None:
            return None
        try:
            found = started.result(PATIENT.peer_s)
        except (TimeoutError, NoAnswer):
            started.cancel()
            return None
        return found if found is not None and len(found) == wanted.length else None
