"""Reading a needle from shards, some of which may be away or wrong (docs/spec/erasure-coding.md 4.11).

Nothing here does I/O. A read is a generator: it yields the pieces of shards that it wants next, all at once, and is
sent what came of each, None for what could not be read. `answered` runs one with a plain function; others send the
answers themselves, gathered as they like::

    reading = read_needle(source, row)
    wanted = next(reading)
    while True:
        wanted = reading.send(gather(wanted.pieces))     # StopIteration.value is the result
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import NamedTuple, TypeVar

from volumed.erasure.code import erasure_code
from volumed.erasure.errors import TooFewShards
from volumed.erasure.layout import Interval, Layout
from volumed.erasure.multiply import Buffer
from volumed.errors import CorruptNeedle
from volumed.formats.idx import Row
from volumed.formats.needle import Needle, decode_record, record_length

__all__ = ["EcSource", "FoundNeedle", "Reading", "Wanted", "answered", "read_needle", "read_span"]

_COLUMN_BYTES = 256 << 10
"""A longer piece is recovered so much at a time: k times as much is in memory for it."""

Answer = Buffer | None
_Result = TypeVar("_Result")


class Wanted(NamedTuple):
    """Pieces that a read wants next."""

    pieces: list[Interval]
    recovers: bool
    """Whether they are to recover others; those that are wanted for themselves come first."""


Reading = Generator[Wanted, Sequence[Answer], bytes]
_Recovering = Generator[Wanted, Sequence[Answer], bytearray]


class EcSource(NamedTuple):
    """What a read must know of the volume."""

    volume_id: int
    version: int
    layout: Layout
    preference: tuple[int, ...] = ()
    """Shards of the ratio to recover from, the nearest first; ids that are left out come last."""


class FoundNeedle(NamedTuple):
    """A needle whose checksum is right."""

    needle: Needle
    suspect: int | None
    """The shard without which alone it could be read: its bytes are wrong."""


class _Pieces:
    """What has been read during one read, and which shards are of no use."""

    def __init__(self, source: EcSource) -> None:
        self.source = source
        self.read: dict[Interval, Answer] = {}
        """All but the columns of long pieces."""
        self.failed: set[int] = set()
        self.used: set[int] = set()
        """Shards whose bytes are in the result."""

    def fetch(
        self, pieces: Sequence[Interval], read: dict[Interval, Answer], *, recovers: bool
    ) -> Generator[Wanted, Sequence[Answer], None]:
        """Add to ``read`` what is not there yet."""
        new = [interval for interval in pieces if interval not in read]
        if not new:
            return
        answers = yield Wanted(new, recovers)
        for interval, answer in zip(new, answers, strict=True):
            if answer is None or len(answer) != interval.length:
                # Fewer bytes than asked for are as good as none.
                read[interval] = None
                self.failed.add(interval.shard)
            else:
                read[interval] = answer

    def span(self, offset: int, length: int, excluded: Collection[int]) -> Reading:
        """Bytes of the `.dat` without the help of the excluded shards. Raises `TooFewShards`."""
        self.used = set()
        intervals = list(self.source.layout.intervals(offset, length))
        direct = [interval for interval in intervals if interval.shard not in excluded]
        yield from self.fetch(direct, self.read, recovers=False)
        parts = []
        for interval in intervals:
            answer = None if interval.shard in excluded else self.read[interval]
            if answer is None:
                answer = yield from self.recovered(interval, excluded)
            else:
                self.used.add(interval.shard)
            parts.append(answer)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def recovered(self, interval: Interval, excluded: Collection[int]) -> _Recovering:
        """The bytes of an interval, from the same place of other shards, column after column."""
        if interval.length <= _COLUMN_BYTES:
            return (yield from self.recovered_column(interval, excluded, self.read))
        whole = bytearray()
        for at in range(0, interval.length, _COLUMN_BYTES):
            length = min(_COLUMN_BYTES, interval.length - at)
            column = Interval(interval.shard, interval.offset + at, length)
            whole += yield from self.recovered_column(column, excluded, {})
        return whole

    def recovered_column(
        self, column: Interval, excluded: Collection[int], read: dict[Interval, Answer]
    ) -> _Recovering:
        """The same of a short one; no more of the other shards are read than needed."""
        source = self.source
        needed = source.layout.ratio.data
        _, offset, length = column
        candidates = [shard for shard in self._order() if shard != column.shard and shard not in excluded]
        good: dict[int, Buffer] = {}
        while len(good) < needed and candidates:
            chosen = [Interval(shard, offset, length) for shard in candidates[: needed - len(good)]]
            del candidates[: len(chosen)]
            yield from self.fetch(chosen, read, recovers=True)
            good |= {piece.shard: answer for piece in chosen if (answer := read[piece]) is not None}
        if len(good) < needed:
            missing = [shard for shard in range(source.layout.ratio.total) if shard not in good]
            raise TooFewShards.for_read(source.volume_id, column.shard, sorted(good), needed, missing)
        self.used.update(good)
        # The code is loaded here, with numpy and a library, since most processes never recover anything.
        return erasure_code(source.layout.ratio).recover(good, [column.shard])[0]

    def _order(self) -> list[int]:
        """What could not be read a moment ago comes last: it may take long to fail again."""
        shards = dict.fromkeys((*self.source.preference, *range(self.source.layout.ratio.total)))
        return sorted(shards, key=self.failed.__contains__)


def read_span(source: EcSource, offset: int, length: int, excluded: Collection[int] = ()) -> Reading:
    """``length`` bytes of the `.dat` at ``offset``; what cannot be read is recovered. Raises `TooFewShards`.

    For parts of records: nothing here checks what the bytes are.
    """
    return _Pieces(source).span(offset, length, excluded)


def read_needle(source: EcSource, row: Row) -> Generator[Wanted, Sequence[Answer], FoundNeedle]:
    """The needle of a live index row, its checksum verified.

    Exactly its record is read (rule R3). When the record is wrong, every shard that took part is left out once, until
    what comes out is right (R6). Raises `TooFewShards`, and `CorruptNeedle` when leaving out one shard does not help.
    """
    _, offset, size = row
    pieces = _Pieces(source)
    length = record_length(size, source.version)
    try:
        return FoundNeedle(_decode(source, (yield from pieces.span(offset, length, ())), row), None)
    except CorruptNeedle as error:
        first = error
    for suspect in sorted(pieces.used):
        try:
            return FoundNeedle(_decode(source, (yield from pieces.span(offset, length, {suspect})), row), suspect)
        except (CorruptNeedle, TooFewShards):
            continue
    raise first


def _decode(source: EcSource, record: bytes, row: Row) -> Needle:
    key, offset, size = row
    needle = decode_record(record, source.version, size, offset)
    if needle.key != key:
        raise CorruptNeedle.size_mismatch(offset, needle.key, needle.size, size)
    return needle


def answered(reading: Generator[Wanted, Sequence[Answer], _Result], read: Callable[[Interval], Answer]) -> _Result:
    """Run a read to its end, piece after piece."""
    try:
        wanted = next(reading)
        while True:
            wanted = reading.send([read(interval) for interval in wanted.pieces])
    except StopIteration as end:
        result: _Result = end.value
        return result
