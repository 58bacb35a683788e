"""Shards that their disk cannot read: left aside for a while, so that not every read waits for a dying sector.

Only the shard is left aside, not its disk, and only by reads that can do without it: what cannot be recovered from
other shards is read from it all the same, since most of it may be well. Nothing is withdrawn from the cluster
(docs/spec/erasure-coding.md 4.11).
"""

from __future__ import annotations

import errno
import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

from volumed.erasure.layout import Interval
from volumed.erasure.names import INDEX, shard_extension
from volumed.formats.idx import Row
from volumed.shards.occasional import Occasional
from volumed.storage.fileio import error_text
from volumed.storage.mounted_shards import MountedShards

__all__ = ["UnreadableShards"]

_log = logging.getLogger(__name__)

_BROKEN = frozenset({errno.EIO, errno.EUCLEAN, errno.EBADMSG})
"""What a disk, or the filesystem on it, says of bytes that are lost. Other errors do not make a read wait."""
_FIRST_PAUSE_S = 60.0
_PAUSE_MAX_S = 3600.0
_KNOWN_MAX = 10_000
_INDEX = -1
"""In place of a shard's id: the index."""

_T = TypeVar("_T")
_Key = tuple[int, int, int]
"""Disk, volume and shard."""


class _Aside(NamedTuple):
    """What is known of a shard that could not be read."""

    raw: bytes
    """The volume's record for which that holds: a shard that is made anew comes with another one."""
    failed: Interval
    until_s: float
    pause_s: float


class UnreadableShards:
    """Any thread."""

    def __init__(
        self,
        count: Callable[[], None],
        tell: Callable[[MountedShards, int], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """``count`` is called with every error of a disk, ``tell`` with a shard each time that it is left aside; that
        must not wait."""
        self._count = count
        self._tell = tell
        self._clock = clock
        self._lock = threading.Lock()
        self._aside: dict[_Key, _Aside] = {}
        self._log_times = Occasional(clock)

    def read(self, disk: MountedShards, piece: Interval) -> bytes:
        """`MountedShards.read`, and remember what comes of it. Raises `OSError`."""
        return self._watched(disk, piece, lambda: disk.read(*piece))

    def find_row(self, disk: MountedShards, key: int, width: int) -> Row | None:
        """`MountedShards.find_row`, likewise."""
        return self._watched(disk, Interval(_INDEX, 0, 1), lambda: disk.find_row(key, width))

    def failed(self, disk: MountedShards, piece: Interval, error: OSError) -> None:
        """A read of a piece has ended in an error: count it, log it, and remember it if bytes are lost."""
        if error.errno not in _BROKEN and not disk.is_mounted:
            return  # the files of volumes that leave are removed
        pause_s, key = 0.0, _key(disk, piece.shard)
        if error.errno in _BROKEN:
            with self._lock:
                self._count()
                pause_s = self._put_aside(key, disk.raw, piece)
        if pause_s and piece.shard != _INDEX:
            self._tell(disk, piece.shard)
        if self._log_times.is_due(key) or pause_s:
            where = "" if piece.shard == _INDEX else f" byte {piece.offset} of"
            consequence = f"; it is left aside for {pause_s:g} s" if pause_s else ""
            _log.error("cannot read%s %s: %s%s", where, _name(disk, piece.shard), error_text(error), consequence)

    def is_aside(self, disk: MountedShards, shard: int) -> bool:
        """Whether a read should do without a shard."""
        return self._find(disk, shard) is not None

    def has_failed(self, disk: MountedShards, piece: Interval) -> bool:
        """Whether some of these very bytes could not be read a while ago."""
        known = self._find(disk, piece.shard)
        return known is not None and _overlap(known.failed, piece)

    def in_order(self, disks: Sequence[MountedShards]) -> list[MountedShards]:
        """Disks to ask for a row one after the other; those whose index could not be read come last."""
        return sorted(disks, key=lambda disk: self.is_aside(disk, _INDEX))

    def _find(self, disk: MountedShards, shard: int) -> _Aside | None:
        if not self._aside:
            return None
        known = self._aside.get(_key(disk, shard))
        return known if known is not None and known.raw == disk.raw and self._clock() < known.until_s else None

    def _watched(self, disk: MountedShards, piece: Interval, read: Callable[[], _T]) -> _T:
        try:
            result = read()
        except OSError as error:
            self.failed(disk, piece, error)
            raise
        if self._aside:
            self._succeeded(disk, piece)
        return result

    def ends_early(self, disk: MountedShards, piece: Interval) -> None:
        """A shard is shorter than the volume's layout says."""
        if self._log_times.is_due(_key(disk, piece.shard)):
            _log.error("%s, ends before byte %d", _name(disk, piece.shard), piece.offset + piece.length)

    def _put_aside(self, key: _Key, raw: bytes, piece: Interval) -> float:
        """For how long, in seconds; 0: it was so already."""
        known, now_s = self._aside.pop(key, None), self._clock()
        if known is None or known.raw != raw:
            while len(self._aside) >= _KNOWN_MAX:
                del self._aside[next(iter(self._aside))]
            pause_s = _FIRST_PAUSE_S
        elif now_s < known.until_s:
            self._aside[key] = known
            return 0.0
        else:
            pause_s = min(2 * known.pause_s, _PAUSE_MAX_S)
        self._aside[key] = _Aside(raw, piece, now_s + pause_s, pause_s)
        return pause_s

    def _succeeded(self, disk: MountedShards, piece: Interval) -> None:
        """The disk has read what it could not read before: it was not the sector."""
        key = _key(disk, piece.shard)
        with self._lock:
            known = self._aside.get(key)
            if known is not None and known.raw == disk.raw and _covers(piece, known.failed):
                del self._aside[key]
                _log.info("%s, can be read again", _name(disk, piece.shard))


def _key(disk: MountedShards, shard: int) -> _Key:
    return disk.disk_id, disk.volume_id, shard


def _name(disk: MountedShards, shard: int) -> str:
    """What it is and where, for the log."""
    record = disk.record
    if shard == _INDEX:
        return f"the index of ec volume {disk.volume_id} on disk {disk.disk_id}, {record.index_base}{INDEX}"
    return f"shard {disk.volume_id}.{shard} on disk {disk.disk_id}, {record.data_base}{shard_extension(shard)}"


def _overlap(one: Interval, other: Interval) -> bool:
    return one.offset < other.offset + other.length and other.offset < one.offset + one.length


def _covers(one: Interval, other: Interval) -> bool:
    return one.offset <= other.offset and other.offset + other.length <= one.offset + one.length
