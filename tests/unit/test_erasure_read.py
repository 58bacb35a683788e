"""Reading needles from shards that are there, away, or wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.erasure_kit import ShardReads, SmallVolume
from volumed.erasure.encode import Encoded
from volumed.erasure.errors import TooFewShards
from volumed.erasure.layout import MIB
from volumed.erasure.read import answered, read_needle, read_span
from volumed.errors import CorruptNeedle
from volumed.formats.idx import Row
from volumed.formats.needle import record_length


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[SmallVolume, Encoded]:
    volume = SmallVolume(tmp_path_factory.mktemp("ec") / "d", needles=80)
    return volume, volume.encode()


def across_a_border(volume: SmallVolume) -> Row:
    """A needle that lies in shards 0 and 1."""
    return next(row for row in volume.rows if row[1] < MIB < row[1] + row[2])


def test_a_needle_costs_one_read_of_exactly_its_record(made: tuple[SmallVolume, Encoded]) -> None:
    """Rule R3."""
    volume, encoded = made
    key, offset, size = volume.rows[3]
    reads = ShardReads(volume)
    found = answered(read_needle(volume.source(encoded), volume.rows[3]), reads)
    assert found.needle.data == volume.contents[key]
    assert found.suspect is None
    assert reads.asked == [(0, offset, record_length(size, 3))]


@pytest.mark.parametrize("lost", [[0], [1], [0, 1], [1, 4], [3, 4]], ids=str)
def test_with_shards_away(made: tuple[SmallVolume, Encoded], lost: list[int]) -> None:
    volume, encoded = made
    for row in (volume.rows[0], across_a_border(volume), volume.rows[-1]):
        found = answered(read_needle(volume.source(encoded), row), ShardReads(volume, lost))
        assert found.needle.data == volume.contents[row[0]]


def test_the_nearest_shards_are_read_first_and_no_more_than_needed(made: tuple[SmallVolume, Encoded]) -> None:
    volume, encoded = made
    reads = ShardReads(volume, lost=[0])
    answered(read_needle(volume.source(encoded, preference=(4, 2)), volume.rows[0]), reads)
    assert [wanted.shard for wanted in reads.asked] == [0, 4, 2, 1]
    reads = ShardReads(volume, lost=[0, 4])
    answered(read_needle(volume.source(encoded, preference=(4, 2)), volume.rows[0]), reads)
    assert [wanted.shard for wanted in reads.asked] == [0, 4, 2, 1, 3]


def test_too_few(made: tuple[SmallVolume, Encoded]) -> None:
    volume, encoded = made
    with pytest.raises(TooFewShards) as failure:
        answered(read_needle(volume.source(encoded), volume.rows[0]), ShardReads(volume, lost=[0, 2, 4]))
    assert failure.value.text == (
        "cannot recover shard 9.0: only 2 shards available [1 3], need at least 3 (missing: [0 2 4])"
    )


def test_a_short_answer_is_no_answer(made: tuple[SmallVolume, Encoded]) -> None:
    volume, encoded = made
    reads = ShardReads(volume)

    def short(wanted: object) -> bytes | None:
        data = reads(wanted)  # type: ignore[arg-type]
        return data[:-1] if wanted.shard == 0 and data else data  # type: ignore[attr-defined]

    found = answered(read_needle(volume.source(encoded), volume.rows[0]), short)
    assert found.needle.data == volume.contents[volume.rows[0][0]]


@pytest.mark.parametrize("bad", [0, 1])
def test_a_wrong_shard_is_found_by_leaving_it_out(tmp_path: Path, bad: int) -> None:
    volume = SmallVolume(tmp_path / "d", needles=80)
    encoded = volume.encode()
    row = across_a_border(volume)
    volume.damage(bad, offset=MIB - 5 if bad == 0 else 0)
    found = answered(read_needle(volume.source(encoded), row), ShardReads(volume))
    assert found.needle.data == volume.contents[row[0]]
    assert found.suspect == bad


def test_a_wrong_shard_among_those_that_recover_another(tmp_path: Path) -> None:
    volume = SmallVolume(tmp_path / "d", needles=80)
    encoded = volume.encode()
    key, offset, _ = volume.rows[0]
    volume.damage(2, offset=offset + 20)
    reads = ShardReads(volume, lost=[0])
    found = answered(read_needle(volume.source(encoded), volume.rows[0]), reads)
    assert found.needle.data == volume.contents[key]
    assert found.suspect == 2
    assert len(reads.asked) == len(set(reads.asked))


def test_two_wrong_shards_are_an_error(tmp_path: Path) -> None:
    volume = SmallVolume(tmp_path / "d", needles=80)
    encoded = volume.encode()
    _, offset, _ = volume.rows[0]
    for shard in (0, 1):
        volume.damage(shard, offset=offset + 20)
    with pytest.raises(CorruptNeedle, match="invalid CRC"):
        answered(read_needle(volume.source(encoded), volume.rows[0]), ShardReads(volume))


def test_spans_can_do_without_a_shard(made: tuple[SmallVolume, Encoded]) -> None:
    volume, encoded = made
    original = Path(volume.paths.data(".dat")).read_bytes()
    reads = ShardReads(volume)
    found = answered(read_span(volume.source(encoded), MIB - 1000, 2000, excluded={1}), reads)
    assert found == original[MIB - 1000 : MIB + 1000]
    assert 1 not in {wanted.shard for wanted in reads.asked}
