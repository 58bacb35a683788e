"""Long needles are checked before their first byte is used, since what was sent cannot be taken back (rule R6)."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from volumed.erasure.errors import EcReadFailed
from volumed.errors import CorruptNeedle
from volumed.formats.checksum import crc32c, matches
from volumed.formats.needle import record_length
from volumed.shards.reader import EcReader, Repaired, StoredEcNeedle

__all__ = ["CheckedNeedles"]

_PAGE_BYTES = 1 << 20
_KNOWN_MAX = 4096

_Name = tuple[int, int, int]


class CheckedNeedles:
    """Remembers of long needles that were checked which shard they must be read without. Any thread."""

    def __init__(self, reader: EcReader, repaired: Repaired) -> None:
        self._reader = reader
        self._repaired = repaired
        self._lock = threading.Lock()
        self._known: dict[_Name, frozenset[int]] = {}

    def without(self, stored: StoredEcNeedle) -> frozenset[int]:
        """Shards whose help makes the data of a long needle wrong: at most one. The first time all data are read.

        Raises `CorruptNeedle` when leaving out one shard does not help, and what `EcReader.read_data` raises."""
        known = self._known.get(_name(stored))
        if known is not None:
            return known
        wrong = self._checksum(stored, frozenset())
        if matches(wrong, stored.needle.checksum):
            return self._remember(stored, frozenset())
        for shard in _suspects(stored):
            if self._is_right_without(stored, shard):
                self._repaired(stored.volume, stored.needle, shard)
                return self._remember(stored, frozenset({shard}))
        raise CorruptNeedle.crc(stored.needle.key, wrong, stored.needle.checksum)

    def forget(self, stored: StoredEcNeedle) -> None:
        """The data were wrong after all: check them again the next time."""
        with self._lock:
            self._known.pop(_name(stored), None)

    def _remember(self, stored: StoredEcNeedle, without: frozenset[int]) -> frozenset[int]:
        with self._lock:
            while len(self._known) >= _KNOWN_MAX:
                del self._known[next(iter(self._known))]
            self._known[_name(stored)] = without
        return without

    def _is_right_without(self, stored: StoredEcNeedle, shard: int) -> bool:
        try:
            return matches(self._checksum(stored, frozenset({shard})), stored.needle.checksum)
        except EcReadFailed:
            return False

    def _checksum(self, stored: StoredEcNeedle, without: frozenset[int]) -> int:
        checksum = 0
        for at in range(0, stored.data_size, _PAGE_BYTES):
            length = min(_PAGE_BYTES, stored.data_size - at)
            checksum = crc32c(self._reader.read_data(stored, at, length, without), checksum)
        return checksum


def _name(stored: StoredEcNeedle) -> _Name:
    return stored.volume.volume_id, stored.volume.encode_ts_ns, stored.needle.key


def _suspects(stored: StoredEcNeedle) -> Iterator[int]:
    """The shards with bytes of the needle; where one of those is not here, also those that it is recovered from."""
    volume = stored.volume
    layout, (_, offset, size) = volume.source.layout, stored.row
    own = {piece.shard for piece in layout.intervals(offset, record_length(size, volume.source.version))}
    yield from sorted(own)
    if not own <= volume.here.keys():
        yield from (shard for shard in range(layout.ratio.total) if shard not in own)
