"""Needles of erasure coded volumes, read (docs/spec/erasure-coding.md 4.11; rules R3, R4, R6).

What the page cache holds is read on the spot (`EcReader.read_now`), without waiting and so on any thread. Everything
else waits, and is for threads.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext, suppress
from functools import partial
from typing import NamedTuple, TypeVar

from volumed.config.node import NodeConfig
from volumed.erasure.code import erasure_code
from volumed.erasure.errors import EcReadFailed, TooFewShards
from volumed.erasure.layout import Interval
from volumed.erasure.multiply import Buffer
from volumed.erasure.read import Answer, Wanted, read_needle, read_span
from volumed.errors import CorruptNeedle, RetryError, StaleGeneration, VolumedError, VolumeNotFound
from volumed.formats.idx import Row
from volumed.formats.needle import HEADER_LENGTH, Needle, decode_header, decode_record, record_length
from volumed.shards.gathering import HASTY, PATIENT, Disks, Elsewhere, Gathering, NoAnswer, NotRecovered, outcome
from volumed.shards.long_data import CheckedNeedles, LongNeedle, NotChecked, Without, read_checked, read_record
from volumed.shards.unreadable import UnreadableShards
from volumed.shards.view import EcView, MountedView, NodeEcVolume
from volumed.storage.mounted_shards import MountedShards, NotCached

__all__ = ["EcReader", "Repaired", "StoredEcNeedle"]

_NOW_BYTES_MAX = 256 << 10
"""Longest record that is read on the spot."""
_WHOLE_BYTES_MAX = (4 << 20) + (64 << 10)
"""Needles of a larger S are long: their data are read in pieces. The filer's chunks of 4 MiB, with what describes them,
are not."""
_RECOVERED_NOW_BYTES_MAX = 64 << 10
"""Longest piece of a lost shard that is recovered there: k times as much is read."""
_RECOVERIES_MAX = 8
"""At once; each holds pieces of k shards (`volumed.erasure.read`)."""
_TURN_S = 10.0
"""Longest wait for being one of them."""
_PATIENT_MAX = 4
"""Reads at once that wait for what is late. Each may take minutes of a thread that recovers: some stay for those who
find enough shards at once."""

Repaired = Callable[[NodeEcVolume, Needle, int], None]
"""Told when a needle could be read only without a shard: that one's bytes are wrong."""

_Result = TypeVar("_Result")
_Reading = Generator[Wanted, Sequence[Answer], _Result]


class StoredEcNeedle(NamedTuple):
    """A live needle whose data had the right checksum, now or at an earlier read. Those of a long one are left out."""

    volume: NodeEcVolume
    row: Row
    needle: Needle
    data_at: int
    """Where the data begin in the `.dat`."""
    data_size: int
    is_long: bool
    without: Without = Without()
    """Shards that must not take part in reading the data."""
    is_fresh: bool = True
    """Whether it was verified now."""


class EcReader:
    """Any thread; one per process."""

    def __init__(
        self,
        config: NodeConfig,
        mounted: MountedView,
        elsewhere: Elsewhere,
        repaired: Repaired,
        unreadable: UnreadableShards,
    ) -> None:
        self._width = config.offset_width
        self._view = EcView(mounted)
        self._unreadable = unreadable
        self._disks = Disks(len(config.disks), unreadable)
        self._elsewhere = elsewhere
        self._repaired = repaired
        self._checked = CheckedNeedles()
        self._recoveries = threading.BoundedSemaphore(_RECOVERIES_MAX)
        self._patient = threading.BoundedSemaphore(_PATIENT_MAX)

    def find(self, volume_id: int) -> NodeEcVolume | None:
        """The volume if a serving disk has one of its shards mounted; never waits."""
        return self._view.find(volume_id)

    def read_now(self, volume: NodeEcVolume, key: int) -> Needle | None:
        """The verified needle if it is in the page cache and right; else None: `read` it. Raises `NoSuchEcNeedle`,
        `NeedleDeleted`."""
        try:
            _, offset, size = volume.live(key, volume.disks[0].find_row_now(key, self._width))
            length = record_length(size, volume.source.version)
            if length > _NOW_BYTES_MAX:
                return None
            pieces = [self._piece_now(volume, piece) for piece in volume.source.layout.intervals(offset, length)]
            record = pieces[0] if len(pieces) == 1 else b"".join(pieces)
            needle = decode_record(memoryview(record), volume.source.version, size, offset)
        except (NotCached, CorruptNeedle):
            return None
        return needle if needle.key == key else None

    def _piece_now(self, volume: NodeEcVolume, piece: Interval) -> Buffer:
        """One that is lost is recovered from shards of this node. Raises `NotCached`."""
        disk = volume.here.get(piece.shard)
        if disk is not None:
            return disk.read_now(*piece)
        lost, offset, length = piece
        ratio = volume.source.layout.ratio
        nearest = volume.source.preference  # those that reads which may wait take too: they are open
        if (
            length > _RECOVERED_NOW_BYTES_MAX
            or len(nearest) < ratio.data
            or not self._elsewhere.is_lost(volume.volume_id, lost)
        ):
            raise NotCached
        columns = {shard: volume.here[shard].read_now(shard, offset, length) for shard in nearest[: ratio.data]}
        return erasure_code(ratio).recover(columns, [lost])[0]

    def find_row(self, volume: NodeEcVolume, key: int, limit_s: float = math.inf) -> Row:
        """The row of a live needle. Raises `NoSuchEcNeedle`, `NeedleDeleted`, `VolumeNotFound`, and `RetryError` when
        no disk gives it, after ``limit_s`` if only one is asked."""

        def find(gathering: Gathering) -> Row:
            _require_run(gathering, volume)
            return self._find_row(gathering)

        return self._patiently(volume, key, find, limit_s=limit_s)

    def read(
        self,
        volume: NodeEcVolume,
        key: int,
        cookie: int | None = None,
        *,
        afresh: bool = False,
        checks: bool = True,
        recovers: bool = True,
    ) -> StoredEcNeedle:
        """The needle, verified: a long one perhaps a while ago, unless ``afresh``. Whether ``cookie`` is its own is for
        the caller to see. Without ``checks`` raises `NotChecked` where a long one would have to be verified now;
        without ``recovers`` raises `NotRecovered` where anything would have to be recovered.

        Raises `NoSuchEcNeedle`, `NeedleDeleted`, also when another server says so, `CorruptNeedle`, `EcReadFailed`,
        `RetryError`, and `VolumeNotFound` when it has just gone."""
        stored = self._patiently(volume, key, partial(self._read, afresh=afresh, checks=checks), recovers)
        if cookie is None or stored.needle.cookie == cookie:
            return stored
        return self._patiently(volume, key, lambda gathering: self._doubted(gathering, stored, cookie), recovers)

    def read_data(self, stored: StoredEcNeedle, at: int, length: int, *, recovers: bool = True) -> bytes:
        """A part of the data of a long needle, also when all shards have left this node meanwhile.

        Raises `StaleGeneration` when the volume was encoded anew, and what `read` raises."""
        volume = self.find(stored.volume.volume_id) or stored.volume.elsewhere()

        def read(gathering: Gathering) -> bytes:
            _require_run(gathering, stored.volume)
            return self._span(gathering, stored.without, stored.data_at + at, length)

        return self._patiently(volume, stored.needle.key, read, recovers)

    def distrust(self, stored: StoredEcNeedle) -> None:
        """The data of a long needle did not have its checksum: check them again the next time."""
        self._checked.forget(stored.volume, stored.needle.key)

    def read_shard(self, disk: MountedShards, piece: Interval, limit_s: float = PATIENT.disk_s) -> bytes:
        """Bytes of a shard, fewer at its end. Raises `RetryError` when its disk does not give them in that time."""
        patience = PATIENT.within(limit_s)
        try:
            if self._unreadable.has_failed(disk, piece):
                raise NoAnswer(late=False)
            started = self._disks.start(disk, partial(self._unreadable.read, disk, piece), patience)
            return outcome(started, patience.disk_s)
        except NoAnswer:
            raise RetryError(f"ec shard {disk.volume_id}.{piece.shard} cannot be read") from None

    def _find_row(self, gathering: Gathering) -> Row:
        volume = gathering.volume
        try:
            row = gathering.find_row(self._width)
        except RetryError:
            if self.find(volume.volume_id) is None:
                raise VolumeNotFound.of(volume.volume_id) from None
            raise
        return volume.live(gathering.key, row)

    def _read(self, gathering: Gathering, *, afresh: bool, checks: bool) -> StoredEcNeedle:
        volume = gathering.volume
        row = self._find_row(gathering)
        if row[2] > _WHOLE_BYTES_MAX:
            return self._read_long(gathering, row, afresh=afresh, checks=checks)
        found = self._finish(read_needle(volume.source, row), gathering)
        if found.suspect is not None:
            self._repaired(volume, found.needle, found.suspect)
        return StoredEcNeedle(volume, row, found.needle, 0, len(found.needle.data), is_long=False)

    def _read_long(self, gathering: Gathering, row: Row, *, afresh: bool, checks: bool) -> StoredEcNeedle:
        volume, key = gathering.volume, row[0]
        known = None if afresh else self._checked.find(volume, key)
        if known is not None:
            with suppress(CorruptNeedle):
                # Read all the same: another server may say that the needle is deleted.
                record = read_record(volume, row, partial(self._span, gathering, known.without))
                if record == known.record:
                    return _long(volume, row, known, is_fresh=False)
        if not checks:
            raise NotChecked
        try:
            known = read_checked(volume, row, partial(self._span, gathering))
        except CorruptNeedle:
            self._checked.forget(volume, key)
            raise
        self._checked.keep(volume, key, known)
        for shard in known.without:
            self._repaired(volume, known.record.needle, shard)
        return _long(volume, row, known, is_fresh=True)

    def _doubted(self, gathering: Gathering, stored: StoredEcNeedle, cookie: int) -> StoredEcNeedle:
        """A needle with another cookie than the one that is asked for. No checksum covers it: if the other shards say
        that it is the right one, the shard that has it is damaged."""
        volume, (key, offset, size) = gathering.volume, stored.row
        shard = next(volume.source.layout.intervals(offset, HEADER_LENGTH)).shard
        without = Without({shard})
        try:
            header = decode_header(self._span(gathering, without, offset, HEADER_LENGTH))
            if header != (cookie, key, size):
                return stored
            if stored.is_long:
                record = read_record(volume, stored.row, partial(self._span, gathering, without))
                self._repaired(volume, record.needle, shard)
                return _long(volume, stored.row, LongNeedle(record, without), is_fresh=False)
            content = self._span(gathering, without, offset, record_length(size, volume.source.version))
        except TooFewShards:
            return stored
        needle = decode_record(content, volume.source.version, size, offset)
        self._repaired(volume, needle, shard)
        return stored._replace(needle=needle)

    def _span(self, gathering: Gathering, without: Without, offset: int, length: int) -> bytes:
        return self._finish(read_span(gathering.volume.source, offset, length, without), gathering)

    def _patiently(
        self,
        volume: NodeEcVolume,
        key: int,
        attempt: Callable[[Gathering], _Result],
        recovers: bool = True,
        limit_s: float = math.inf,
    ) -> _Result:
        """Once in haste, and then with patience, if something was late or has perhaps moved, to another server or to
        another place here; not too many at once have that. ``limit_s``: how long a disk may take, in both together."""
        patience = HASTY.within(limit_s)
        hasty = Gathering(self._disks, self._elsewhere, volume, key, patience, may_recover=recovers)
        try:
            return attempt(hasty)
        except TooFewShards as error:
            failure: VolumedError = self._failed(volume.volume_id, error)
        except RetryError as error:
            if not hasty.late and self.find(volume.volume_id) is volume:
                raise
            failure = error
        except CorruptNeedle as error:
            # With more of the others it might be read without the shard that is damaged.
            if not hasty.lacking:
                raise
            failure = error
        if not self._patient.acquire(blocking=False):
            raise failure
        try:
            self._elsewhere.renew(volume.volume_id)
            now = self.find(volume.volume_id) or volume
            patience = PATIENT.within(limit_s - HASTY.disk_s)
            return attempt(Gathering(self._disks, self._elsewhere, now, key, patience, may_recover=recovers))
        except TooFewShards as error:
            raise self._failed(volume.volume_id, error) from None
        finally:
            self._patient.release()

    def _failed(self, volume_id: int, error: TooFewShards) -> EcReadFailed:
        """Without an answer of the master it is not known what is lost."""
        return EcReadFailed.of(self._elsewhere.lookup_failure(volume_id) or error.text)

    def _finish(self, reading: _Reading[_Result], gathering: Gathering) -> _Result:
        try:
            wanted = next(reading)
            if not gathering.may_recover and any(map(gathering.is_lost, wanted.pieces)):
                raise NotRecovered  # soon, before anything is read
            if not wanted.recovers:
                wanted = reading.send(gathering(wanted.pieces))
            with self._turn(gathering):
                while True:
                    wanted = reading.send(gathering(wanted.pieces, recovers=True))
        except StopIteration as end:
            result: _Result = end.value
            return result

    def _turn(self, gathering: Gathering) -> AbstractContextManager[object]:
        """To recover something. Raises `NotRecovered`, `RetryError`."""
        if not gathering.may_recover:
            raise NotRecovered
        if gathering.patience is PATIENT:
            return nullcontext()  # there are not too many of those
        if not self._recoveries.acquire(timeout=_TURN_S):
            raise RetryError(f"ec volume {gathering.volume.volume_id}: too much is being recovered")
        turn = ExitStack()
        turn.callback(self._recoveries.release)
        return turn


def _require_run(gathering: Gathering, wanted: NodeEcVolume) -> None:
    """Raises `StaleGeneration` when the volume was encoded anew meanwhile."""
    found = gathering.volume
    # Of an unknown run it cannot be told whether other servers have shards of the same one.
    if found.encode_ts_ns != wanted.encode_ts_ns or not (found.encode_ts_ns or found.here):
        raise StaleGeneration(f"ec volume {found.volume_id} was replaced")


def _long(volume: NodeEcVolume, row: Row, found: LongNeedle, *, is_fresh: bool) -> StoredEcNeedle:
    (needle, start, end), without = found
    return StoredEcNeedle(volume, row, needle, row[1] + start, end - start, True, without, is_fresh)
