"""The arithmetic of a vacuum: what is alive, in which pieces it is read, and which records are in order."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.errors import CorruptNeedle
from volumed.formats.checksum import crc32c, masked
from volumed.formats.needle import (
    FLAG_GZIP,
    FLAG_LAST_MODIFIED,
    FLAG_MIME,
    FLAG_NAME,
    FLAG_PAIRS,
    FLAG_TTL,
    Needle,
    decode_record,
    encode_record,
)
from volumed.formats.ttl import NO_TTL, parse_ttl
from volumed.storage.compaction_check import plainly_intact
from volumed.storage.compaction_plan import (
    cut_in_blocks,
    garbage_ratio,
    has_expired_for_good,
    live_needles,
    plan_spans,
)
from volumed.storage.map_records import Counters
from volumed.storage.throttle import Throttle

_ROWS = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 50).map(lambda unit: unit * 8), st.sampled_from([-5, -1, 0, 1, 40]))
)
_MINUTE_NS = 60 * 10**9


@given(rows=_ROWS)
def test_later_rows_win_and_deletions_remove(rows: list[tuple[int, int, int]]) -> None:
    alive: dict[int, tuple[int, int]] = {}
    for key, offset, size in rows:
        alive.pop(key, None)
        if offset and size >= 0:
            alive[key] = offset, size
    keys, offsets, sizes = zip(*rows, strict=True) if rows else ((), (), ())
    live = live_needles(np.array(keys, np.uint64), np.array(offsets, np.int64), np.array(sizes, np.int32))
    found = zip(live.offsets.tolist(), live.sizes.tolist(), strict=True)
    assert dict(zip(live.keys.tolist(), found, strict=True)) == alive
    assert live.keys.tolist() == sorted(alive)


@given(lengths=st.lists(st.integers(1, 100)), block=st.integers(1, 150))
def test_blocks_are_whole_and_small(lengths: list[int], block: int) -> None:
    parts = [lengths[part] for part in cut_in_blocks(np.array(lengths, np.int64), block)]
    assert list(itertools.chain(*parts)) == lengths
    assert all(sum(part) <= block or len(part) == 1 for part in parts)
    for part, following in itertools.pairwise(parts):
        assert sum(part) + following[0] > block


@given(
    records=st.lists(st.tuples(st.integers(0, 300), st.integers(1, 40)), min_size=1), gap=st.integers(0, 30)
)
def test_spans_hold_their_records_and_no_long_gaps(records: list[tuple[int, int]], gap: int) -> None:
    starts, lengths = (np.array(column, np.int64) for column in zip(*records, strict=True))
    spans = plan_spans(starts, lengths, gap)
    for (start, length), index in zip(records, spans.of_record.tolist(), strict=True):
        assert spans.starts[index] <= start
        assert start + length <= spans.ends[index]
    edges = list(zip(spans.starts.tolist(), spans.ends.tolist(), strict=True))
    assert all(following - end > gap for (_, end), (following, _) in itertools.pairwise(edges))
    covered = {at for start, length in records for at in range(start, start + length)}
    assert sum(end - start for start, end in edges) <= len(covered) + gap * (len(records) - 1)


@pytest.mark.parametrize(
    ("counters", "dat_bytes", "ratio"),
    [
        (Counters(), 8, 0.0),
        (Counters(2, 200, 1, 50), 1000, 0.25),
        (Counters(2, 200, 0, 0), 1000, 0.0),
        (Counters(2, 200, 1, 0), 1000, 0.792),
        (Counters(0, 0, 3, 0), 1000, 0.0),
    ],
)
def test_garbage_ratio(counters: Counters, dat_bytes: int, ratio: float) -> None:
    assert garbage_ratio(counters, dat_bytes) == pytest.approx(ratio)


@pytest.mark.parametrize(
    ("ttl", "volume_ttl", "written_min_ago", "modified_min_ago", "expired"),
    [
        ("3m", "", 2, 100, False),
        ("3m", "", 3, 0, True),
        ("", "3m", 100, 100, False),
        ("3m", "3m", 3, 3, True),
        ("3m", "3m", 3, 2, False),
        ("3m", "3m", 2, 100, False),
        ("5m", "3m", 4, 4, False),
        ("3m", "5m", 4, 4, False),
    ],
)
def test_needles_go_when_nobody_can_read_them(
    ttl: str, volume_ttl: str, written_min_ago: int, modified_min_ago: int, expired: bool
) -> None:
    now_ns = 10**18
    needle = Needle(
        flags=FLAG_LAST_MODIFIED | (FLAG_TTL if ttl else 0),
        ttl=parse_ttl(ttl),
        append_at_ns=now_ns - written_min_ago * _MINUTE_NS,
        last_modified=(now_ns - modified_min_ago * _MINUTE_NS) // 10**9,
    )
    assert has_expired_for_good(needle, parse_ttl(volume_ttl), now_ns) is expired


def _needle(draw: st.DrawFn) -> Needle:
    flags = draw(st.sets(st.sampled_from([FLAG_GZIP, FLAG_NAME, FLAG_MIME, FLAG_LAST_MODIFIED, FLAG_PAIRS])))
    data = draw(st.binary(max_size=30))
    return Needle(
        1, draw(st.integers(0, 2**64 - 1)), data=data, flags=sum(flags), name=draw(st.binary(max_size=5)),
        mime=draw(st.binary(max_size=5)), pairs=draw(st.binary(max_size=9)), checksum=crc32c(data), append_at_ns=5,
    )  # fmt: skip


@given(data=st.data(), version=st.sampled_from([1, 2, 3]))
def test_a_block_is_judged_like_its_records(data: st.DataObject, version: int) -> None:
    """Damage anywhere; what is called intact is so, and what is in order and without a TTL is called intact."""
    records = [bytearray(encode_record(_needle(data.draw), version)) for _ in range(data.draw(st.integers(1, 4)))]
    sizes = [int.from_bytes(record[12:16], "big") for record in records]
    whole = [True] * len(records)
    for _ in range(data.draw(st.integers(0, 3))):
        index = data.draw(st.integers(0, len(records) - 1))
        at = data.draw(st.integers(0, len(records[index]) - 1))
        records[index][at] = data.draw(st.integers(0, 255))
    for index, (record, size) in enumerate(zip(records, sizes, strict=True)):
        try:
            needle = decode_record(record, version, size)
            whole[index] = not needle.flags & FLAG_TTL
        except CorruptNeedle:
            whole[index] = False
    lengths = [len(record) for record in records]
    starts = np.cumsum([0, *lengths[:-1]])
    found = plainly_intact(b"".join(records), starts, np.array(sizes, np.int32), version)
    assert found.tolist() == whole


def test_records_with_a_ttl_or_an_old_checksum_are_not_judged_at_once() -> None:
    plain = Needle(1, 2, data=b"abc", checksum=crc32c(b"abc"))
    with_ttl = Needle(1, 2, data=b"abc", checksum=crc32c(b"abc"), flags=FLAG_TTL, ttl=parse_ttl("3m"))
    old = Needle(1, 2, data=b"abc", checksum=masked(crc32c(b"abc")))
    records = [encode_record(needle, 3) for needle in (plain, with_ttl, old)]
    starts = np.cumsum([0, *map(len, records[:-1])])
    sizes = np.array([int.from_bytes(record[12:16], "big") for record in records], np.int32)
    assert plainly_intact(b"".join(records), starts, sizes, 3).tolist() == [True, False, False]


class _Clock:
    """Goes on when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 0.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


def test_the_throttle_sleeps_off_what_was_too_much() -> None:
    clock = _Clock()
    throttle = Throttle(1000, clock.sleep, clock)
    throttle.spend(90)
    assert clock.slept == []
    clock.now = 0.05
    throttle.spend(110)
    assert clock.slept == pytest.approx([0.15])
    clock.now = 1.0
    throttle.spend(90)
    assert clock.slept == pytest.approx([0.15])
    throttle.spend(5000)
    assert clock.slept == pytest.approx([0.15, 5.0])
    Throttle(0, clock.sleep, clock).spend(1 << 40)
    assert len(clock.slept) == 2


def test_the_throttle_lets_no_bursts_pass() -> None:
    """A disk that takes a block in no time gets its share of them per period."""
    clock = _Clock()
    throttle = Throttle(10_000_000, clock.sleep, clock)
    for _ in range(100):
        throttle.spend(100_000)
    assert clock.slept == pytest.approx([0.1] * 10)


def test_no_ttl_is_no_ttl() -> None:
    assert not has_expired_for_good(Needle(flags=FLAG_TTL | FLAG_LAST_MODIFIED), NO_TTL, 10**18)
