"""Is every needle what the index of its erasure coded volume says? (docs/spec/erasure-coding.md 5.12)

Decisions and texts: where the bytes come from is the business of a `ShardReads`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol

from volumed.erasure.errors import TooFewShards, numbers
from volumed.erasure.layout import Interval, Layout
from volumed.erasure.scrub_findings import EcFindings
from volumed.errors import Corruption, CorruptNeedle, VolumedError
from volumed.formats.needle import HEADER_LENGTH, decode_header, record_length
from volumed.storage.fileio import Buffer
from volumed.storage.index_check import FINDINGS_MAX
from volumed.storage.record_check import check_record

if TYPE_CHECKING:
    from volumed.storage.index_check import IndexRows

__all__ = ["ScrubbedVolume", "ShardReads", "UnreadablePiece", "scrub_all", "scrub_local"]


class UnreadablePiece(VolumedError):
    """A piece of a shard that could not be read as a whole; the text says why."""


class ShardReads(Protocol):
    """How pieces of shards are read; as many bytes as asked for, or an error."""

    @property
    def lengths(self) -> Mapping[int, int]:
        """Of the shards on this node, in bytes."""

    def local(self, wanted: Interval) -> Buffer:
        """From this node. Raises `UnreadablePiece`."""

    def direct(self, wanted: Interval, key: int) -> Buffer:
        """From this node or another one; zeros when the needle is deleted where the shard is, and the shard cannot be
        read. Raises `UnreadablePiece`."""

    def recovered(self, wanted: Interval) -> Buffer:
        """Computed from other shards. Raises `TooFewShards`."""


class ScrubbedVolume(NamedTuple):
    """What is looked at, and how."""

    volume_id: int
    version: int
    layout: Layout
    rows: IndexRows
    reads: ShardReads
    check: Callable[[], None]
    """Called for every needle; raises to stop."""


class _Record:
    """The record of one needle, and its pieces in shards."""

    def __init__(self, volume: ScrubbedVolume, key: int, offset: int, size: int) -> None:
        self.key = key
        self.size = size
        self.length = record_length(size, volume.version)
        self.intervals = list(volume.layout.intervals(offset, self.length))
        self.shards = numbers([interval.shard for interval in self.intervals])

    def pieces(self, offset: int, length: int) -> Iterator[tuple[int, Interval]]:
        """Where bytes of the record are: (number of the interval from 1, piece)."""
        start, end = 0, offset + length
        for number, interval in enumerate(self.intervals, start=1):
            first, behind = max(start, offset), min(start + interval.length, end)
            if first < behind:
                yield number, Interval(interval.shard, interval.offset + first - start, behind - first)
            start += interval.length


def _records(volume: ScrubbedVolume) -> Iterator[tuple[int, _Record]]:
    """(number of the row from 1, record) of what the index does not call deleted."""
    rows = volume.rows
    columns = zip(rows.keys.tolist(), rows.offsets.tolist(), rows.sizes.tolist(), strict=True)
    for number, (key, offset, size) in enumerate(columns, start=1):
        if size >= 0:
            volume.check()
            yield number, _Record(volume, key, offset, size)


def _fault(
    volume: ScrubbedVolume, record: _Record, read: Callable[[int, int], bytes], *, forced: bool = False
) -> str | None:
    """What is wrong with the bytes of a record. Raises what ``read`` raises."""
    try:
        key = check_record(read, volume.version, record.size, 0)
        # DEVIATE: the reference does not compare the id.
        return None if key == record.key else CorruptNeedle.size_mismatch(0, key, record.size, record.size).text
    except CorruptNeedle as error:
        if error.kind is Corruption.SIZE and not forced and not decode_header(read(0, HEADER_LENGTH))[2]:
            return None  # a deletion that the index has not got
        return error.text


def scrub_local(volume: ScrubbedVolume, findings: EcFindings) -> None:
    """Every needle as far as its shards are on this node; ends with the first that cannot be read."""
    findings.files = len(volume.rows.keys)
    for number, record in _records(volume):
        if not _LocalRecord(volume, findings, record).is_readable():
            findings.files = number
            return


class _LocalRecord:
    """Looks at one record in the shards of this node."""

    def __init__(self, volume: ScrubbedVolume, findings: EcFindings, record: _Record) -> None:
        self._volume = volume
        self._reads = volume.reads
        self._findings = findings
        self._record = record
        self._failed: set[int] = set()

    def is_readable(self) -> bool:
        """Whether all that must be here is; findings are noted."""
        record, volume = self._record, self._volume
        for number, interval in enumerate(record.intervals, start=1):
            length = self._reads.lengths.get(interval.shard)
            if length is not None and interval.offset + interval.length > length:
                chunk = f"cannot read chunk {number}/{len(record.intervals)}"
                self._fail(
                    number, f"local shard {interval.shard} for needle {record.key} is too short ({length}), {chunk}"
                )
        if not self._failed:
            self._read()
        if not self._failed:
            return True
        got = sum(at.length for number, at in enumerate(record.intervals, start=1) if number not in self._failed)
        self._findings.say(
            f"expected {record.length} bytes for needle {record.key} on volume {volume.volume_id}, got {got}"
        )
        return False

    def _read(self) -> None:
        record, volume = self._record, self._volume
        try:
            if any(interval.shard not in self._reads.lengths for interval in record.intervals):
                for number, interval in enumerate(record.intervals, start=1):
                    if interval.shard in self._reads.lengths:
                        self._piece(number, interval)
                return
            fault = _fault(volume, record, self._bytes)
        except UnreadablePiece:
            return
        if fault is not None:
            self._findings.say(f"needle {record.key} on volume {volume.volume_id}, shards {record.shards}: {fault}")

    def _bytes(self, offset: int, length: int) -> bytes:
        return b"".join(self._piece(number, piece) for number, piece in self._record.pieces(offset, length))

    def _piece(self, number: int, wanted: Interval) -> Buffer:
        try:
            return self._reads.local(wanted)
        except UnreadablePiece as error:
            chunk = f"chunk {number}/{len(self._record.intervals)} for needle {self._record.key}"
            where = f"local shard {wanted.shard} at offset {wanted.offset}"
            self._fail(number, f"failed to read {chunk} from {where}: {error.text}")
            raise

    def _fail(self, number: int, text: str) -> None:
        shard = self._record.intervals[number - 1].shard
        self._failed.add(number)
        self._findings.broken[shard] = self._reads.lengths[shard]
        self._findings.say(text)


def scrub_all(volume: ScrubbedVolume, findings: EcFindings, *, recover: bool, forced: bool) -> None:
    """Every needle, from all servers; with ``recover`` what cannot be read is computed, as reads do. With ``forced`` a
    record that is deleted, while its row is not, is a finding."""
    for _, record in _records(volume):
        _DirectRecord(volume, findings, record, recover=recover).look(forced=forced)
        if len(findings.texts) >= FINDINGS_MAX:
            return


class _DirectRecord:
    """Looks at one record in the shards of all servers."""

    def __init__(self, volume: ScrubbedVolume, findings: EcFindings, record: _Record, *, recover: bool) -> None:
        self._volume = volume
        self._findings = findings
        self._record = record
        self._recover = recover

    def look(self, *, forced: bool) -> None:
        """Findings are noted."""
        record = self._record
        name = f"EC volume {self._volume.volume_id}, needle {record.key} on shards {record.shards}"
        try:
            fault = _fault(self._volume, record, self._bytes, forced=forced)
        except _Stopped as stopped:
            fault = f"expected {record.length} bytes, got {stopped.got}"
        if fault is not None:
            self._findings.say(f"{name}: {fault}")

    def _bytes(self, offset: int, length: int) -> bytes:
        return b"".join(self._piece(number, piece) for number, piece in self._record.pieces(offset, length))

    def _piece(self, number: int, wanted: Interval) -> Buffer:
        try:
            return self._volume.reads.direct(wanted, self._record.key)
        except UnreadablePiece as error:
            self._findings.broken[wanted.shard] = self._record.intervals[number - 1].length
            if not self._recover:
                raise self._stopped("read", number, wanted.shard, error) from error
        try:
            return self._volume.reads.recovered(wanted)
        except TooFewShards as error:
            raise self._stopped("recover", number, wanted.shard, error) from error

    def _stopped(self, what: str, number: int, shard: int, error: VolumedError) -> _Stopped:
        record = self._record
        where = f"needle {record.key} on volume {self._volume.volume_id}"
        interval = f"(interval {number}/{len(record.intervals)})"
        self._findings.say(f"failed to {what} EC shard {shard} for {where} {interval}: {error.text}")
        return _Stopped(sum(interval.length for interval in record.intervals[: number - 1]))


class _Stopped(Exception):
    """A record that cannot be had; ``got`` bytes of it can."""

    def __init__(self, got: int) -> None:
        super().__init__(got)
        self.got = got
