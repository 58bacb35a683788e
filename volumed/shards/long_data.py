"""Long needles: their data are read in pieces, and checked as a whole before the first piece is used, since what was
sent cannot be taken back (rule R6). A read of parts only, as of a film in which somebody jumps, does not check again
what was checked lately."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

from volumed.erasure.errors import TooFewShards
from volumed.errors import CorruptNeedle
from volumed.formats.checksum import crc32c, matches
from volumed.formats.idx import Row
from volumed.formats.needle import record_length
from volumed.shards.view import NodeEcVolume
from volumed.storage.long_record import LongRecord, read_layout

__all__ = ["CheckedNeedles", "LongNeedle", "NotChecked", "Without", "read_checked", "read_record"]

_PAGE_BYTES = 1 << 20
_KNOWN_MAX = 4096
_KNOWN_S = 60.0

Without = frozenset[int]
"""Shards that must not take part, since their bytes are wrong: at most one."""
Read = Callable[[Without, int, int], bytes]
"""Bytes of the `.dat` from an offset on, without the help of some shards. Raises `TooFewShards`."""


class NotChecked(Exception):
    """The needle is long, and has not been checked lately."""


class LongNeedle(NamedTuple):
    """Where the data lie, and how they are to be read."""

    record: LongRecord
    without: Without


def read_checked(volume: NodeEcVolume, row: Row, read: Read) -> LongNeedle:
    """Read the record and all data, which are not kept. Raises `TooFewShards`, and `CorruptNeedle` when leaving out one
    shard does not help."""
    first: CorruptNeedle | None = None
    for without in (Without(), *map(_only, _suspects(volume, row))):
        try:
            return LongNeedle(_checked(volume, row, partial(read, without)), without)
        except CorruptNeedle as error:
            first = first or error
        except TooFewShards:
            if not without:
                raise
    assert first is not None
    raise first


def read_record(volume: NodeEcVolume, row: Row, read: Callable[[int, int], bytes]) -> LongRecord:
    """Read all but the data, and check nothing but their place. Raises `TooFewShards`, `CorruptNeedle`."""
    key, offset, size = row
    found = read_layout(read, volume.source.version, size, offset)
    if found.needle.key != key:
        raise CorruptNeedle.size_mismatch(offset, found.needle.key, size, size)
    return found


class CheckedNeedles:
    """Remembers for a minute, of the needles that were checked, how they are to be read. Any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: dict[tuple[int, int, int], tuple[LongNeedle, float]] = {}

    def find(self, volume: NodeEcVolume, key: int) -> LongNeedle | None:
        """None: the needle is to be checked."""
        known, until_s = self._known.get((volume.volume_id, volume.encode_ts_ns, key), (None, 0.0))
        return known if time.monotonic() < until_s else None

    def keep(self, volume: NodeEcVolume, key: int, known: LongNeedle) -> None:
        """It was checked."""
        with self._lock:
            while len(self._known) >= _KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self._known[volume.volume_id, volume.encode_ts_ns, key] = known, time.monotonic() + _KNOWN_S

    def forget(self, volume: NodeEcVolume, key: int) -> None:
        """The data were wrong after all."""
        with self._lock:
            self._known.pop((volume.volume_id, volume.encode_ts_ns, key), None)


def _checked(volume: NodeEcVolume, row: Row, read: Callable[[int, int], bytes]) -> LongRecord:
    found = read_record(volume, row, read)
    checksum, offset = 0, row[1]
    for at in range(found.data_start, found.data_end, _PAGE_BYTES):
        checksum = crc32c(read(offset + at, min(_PAGE_BYTES, found.data_end - at)), checksum)
    if not matches(checksum, found.needle.checksum):
        raise CorruptNeedle.crc(row[0], checksum, found.needle.checksum)
    return found


def _suspects(volume: NodeEcVolume, row: Row) -> Iterator[int]:
    """The shards with bytes of the record; where one of those is not here, also those that it is recovered from."""
    layout, (_, offset, size) = volume.source.layout, row
    own = {piece.shard for piece in layout.intervals(offset, record_length(size, volume.source.version))}
    yield from sorted(own)
    if not own <= volume.here.keys():
        yield from (shard for shard in range(layout.ratio.total) if shard not in own)


def _only(shard: int) -> Without:
    return Without({shard})
