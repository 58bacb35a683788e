"""Reading a needle from shards, some of which may be away or wrong (docs/spec/erasure-coding.md 4.11).

Nothing here does I/O. A read is a generator: it yields the pieces of shards that it wants next, all at once, and is
sent what came of each, None for what could not be read. `answered` runs one with a plain function; a caller on an event
loop sends the answers itself, gathered as it likes::

    reading = read_needle(source, row)
    wanted = next(reading)
    while True:
        wanted = reading.send(await gather(wanted))     # StopIteration.value is the result
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Sequence
from typing import NamedTuple, TypeVar

from volumed.erasure.code import erasure_code
from volumed.erasure.errors import TooFewShards
from volumed.erasure.layout import Interval, Layout
from volumed.errors import CorruptNeedle
from volumed.formats.idx import Row
from volumed.formats.needle import Needle, decode_record, record_length

__all__ = ["EcSource", "FoundNeedle", "Reading", "answered", "read_needle", "read_span"]

Answer = bytes | bytearray | memoryview | None
_Result = TypeVar("_Result")
Reading = Generator[list[Interval], Sequence[Answer], bytes]


class EcSource(NamedTuple):
    """What a read must know of the volume."""

    volume_id: int
    version: int
    layout: Layout
    preference: tuple[int, ...] = ()
    """Shards to recover from, the nearest first; ids that are left out come last."""


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
        self.used: set[int] = set()
        """Shards whose bytes are in the result."""

    def fetch(self, wanted: Sequence[Interval]) -> Generator[list[Interval], Sequence[Answer], None]:
        new = [interval for interval in dict.fromkeys(wanted) if interval not in self.read]
        if not new:
            return
        answers = yield new
        for interval, answer in zip(new, answers, strict=True):
            # Fewer bytes than asked for are as good as none.
            self.read[interval] = answer if answer is not None and len(answer) == interval.length else None

    def span(self, offset: int, length: int, excluded: Collection[int]) -> Reading:
        """Bytes of the `.dat` without the help of the excluded shards. Raises `TooFewShards`."""
        self.used = set()
        intervals = list(self.source.layout.intervals(offset, length))
        yield from self.fetch([interval for interval in intervals if interval.shard not in excluded])
        parts = []
        for interval in intervals:
            answer = None if interval.shard in excluded else self.read[interval]
            if answer is None:
                answer = yield from self.recovered(interval, excluded)
            else:
                self.used.add(interval.shard)
            parts.append(answer)
        return bytes(parts[0]) if len(parts) == 1 else b"".join(parts)

    def recovered(self, interval: Interval, excluded: Collection[int]) -> Reading:
        """The bytes of an interval, from the same place of other shards; no more of them are read than needed."""
        source = self.source
        needed = source.layout.ratio.data
        candidates = [shard for shard in self._order() if shard != interval.shard and shard not in excluded]
        good: list[int] = []
        while len(good) < needed and candidates:
            chosen, candidates = candidates[: needed - len(good)], candidates[needed - len(good) :]
            yield from self.fetch([interval._replace(shard=shard) for shard in chosen])
            good += [shard for shard in chosen if self.read[interval._replace(shard=shard)] is not None]
        if len(good) < needed:
            missing = [shard for shard in range(source.layout.ratio.total) if shard not in good]
            raise TooFewShards.for_read(source.volume_id, interval.shard, sorted(good), needed, missing)
        columns = {shard: self.read[interval._replace(shard=shard)] or b"" for shard in good}
        self.used.update(good)
        # The code is loaded here, with numpy and a library, since most processes never recover anything.
        return bytes(erasure_code(source.layout.ratio).recover(columns, [interval.shard])[0])

    def _order(self) -> list[int]:
        total = self.source.layout.ratio.total
        return list(dict.fromkeys((*self.source.preference, *range(total))))


def read_span(source: EcSource, offset: int, length: int, excluded: Collection[int] = ()) -> Reading:
    """``length`` bytes of the `.dat` at ``offset``; what cannot be read is recovered. Raises `TooFewShards`.

    For parts of records: nothing here checks what the bytes are.
    """
    return _Pieces(source).span(offset, length, excluded)


def read_needle(source: EcSource, row: Row) -> Generator[list[Interval], Sequence[Answer], FoundNeedle]:
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


def answered(
    reading: Generator[list[Interval], Sequence[Answer], _Result], read: Callable[[Interval], Answer]
) -> _Result:
    """Run a read to its end, piece after piece."""
    try:
        wanted = next(reading)
        while True:
            wanted = reading.send([read(interval) for interval in wanted])
    except StopIteration as end:
        result: _Result = end.value
        return result
