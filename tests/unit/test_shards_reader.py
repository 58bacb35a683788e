"""Needles read from the shards of several disks and servers."""

from __future__ import annotations

import errno
import os
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from tests.erasure_kit import RATIO, WIDTH, SmallVolume
from tests.shards_kit import ColdFiles, FakeElsewhere, HungFiles, SmallNode, journal_of, mounted
from volumed.erasure.encode import Encoded
from volumed.erasure.errors import EcReadFailed, NoSuchEcNeedle
from volumed.erasure.layout import MIB
from volumed.errors import CorruptNeedle, NeedleDeleted, RetryError, StaleGeneration, VolumeNotFound
from volumed.formats.idx import Row
from volumed.shards import reader
from volumed.shards.gathering import Patience
from volumed.shards.long_data import NotChecked
from volumed.storage.fileio import File

ALL = range(RATIO.total)
Made = tuple[SmallVolume, Encoded]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    volume = SmallVolume(tmp_path_factory.mktemp("ec") / "d", needles=80)
    return volume, volume.encode()


def data(node: SmallNode, key: int) -> bytes:
    return bytes(node.reader.read(node.volume, key).needle.data)


def across_a_border(volume: SmallVolume) -> Row:
    """A needle that lies in shards 0 and 1."""
    return next(row for row in volume.rows if row[1] < MIB < row[1] + row[2])


def test_one_disk_with_everything(made: Made) -> None:
    volume, encoded = made
    node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, ALL))
    assert node.reader.read_now(node.volume, 5) is None, "nothing is open yet"
    assert data(node, 5) == volume.contents[5]
    cached = node.reader.read_now(node.volume, 5)
    assert cached is not None
    assert bytes(cached.data) == volume.contents[5]
    assert node.elsewhere.asked == [], "nobody else is asked for what is here"


@pytest.mark.parametrize("lost", [[0], [0, 1]], ids=str)
def test_what_is_cached_but_for_lost_shards_is_recovered_on_the_spot(made: Made, lost: list[int]) -> None:
    """Once the master has said that nobody has them: another server might know of a deletion."""
    volume, encoded = made
    node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, [shard for shard in ALL if shard not in lost]))
    key = across_a_border(volume)[0]
    assert data(node, key) == volume.contents[key]
    assert node.reader.read_now(node.volume, key) is None
    node.elsewhere.master_was_asked = True
    found = node.reader.read_now(node.volume, key)
    assert found is not None
    assert bytes(found.data) == volume.contents[key]
    node.elsewhere.files = FakeElsewhere(volume, lost).files
    assert node.reader.read_now(node.volume, key) is None


def test_what_is_not_cached_waits(made: Made) -> None:
    volume, encoded = made
    node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, ALL, files=ColdFiles()))
    assert data(node, 5) == volume.contents[5]
    assert node.reader.read_now(node.volume, 5) is None


def test_shards_of_several_disks_and_servers_make_one_volume(made: Made) -> None:
    volume, encoded = made
    node = SmallNode(
        FakeElsewhere(volume, [1, 4]),
        mounted(volume, encoded, [0], disk_id=0),
        mounted(volume, encoded, [3], disk_id=1),
    )
    for row in (volume.rows[0], across_a_border(volume), volume.rows[-1]):
        assert data(node, row[0]) == volume.contents[row[0]]
    assert (1, False) in node.elsewhere.asked
    assert (1, True) in node.elsewhere.asked, "shard 2 is nowhere"


def test_unknown_and_deleted_needles(made: Made) -> None:
    """A deletion in the journal of any disk counts, and what another server says."""
    volume, encoded = made
    one, two = mounted(volume, encoded, [0], disk_id=0), mounted(volume, encoded, [1, 2], disk_id=1)
    node = SmallNode(FakeElsewhere(volume), one, two)
    with pytest.raises(NoSuchEcNeedle):
        node.reader.read(node.volume, 999)
    assert data(node, 5) == volume.contents[5]
    journal_of(two).deleted.add(5)
    with pytest.raises(NeedleDeleted):
        node.reader.read(node.volume, 5)
    with pytest.raises(NeedleDeleted):
        node.reader.read_now(node.volume, 5)
    away = SmallNode(FakeElsewhere(volume, ALL), mounted(volume, encoded, [4]))
    away.elsewhere.deleted.add(6)
    with pytest.raises(NeedleDeleted):
        away.reader.read(away.volume, 6)


def test_shards_that_have_moved_are_looked_for_again(made: Made) -> None:
    volume, encoded = made
    node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, [1, 3]))
    node.elsewhere.arriving = FakeElsewhere(volume, [0]).files
    key = volume.rows[0][0]
    assert node.reader.read(node.volume, key).needle.data == volume.contents[key]


class GoneFiles(ColdFiles):
    """All files have been removed."""

    def open(self, path: str, *, writable: bool = True, create: bool = False) -> File:
        del writable, create
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)


def test_a_volume_that_leaves_while_it_is_read(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    volume, encoded = made
    leaving = mounted(volume, encoded, ALL, files=GoneFiles())
    node = SmallNode(FakeElsewhere(volume), leaving)
    found = node.volume
    with pytest.raises(RetryError, match="no disk reads its index"):
        node.reader.read(found, 5)
    assert "no such file" in caplog.text
    caplog.clear()
    node.now_s += 3600
    journal_of(leaving).unmount()
    node.disks.clear()
    for read in (node.reader.read, node.reader.find_row):
        with pytest.raises(VolumeNotFound):
            read(found, 5)
    assert caplog.text == ""
    node.disks.append(mounted(volume, encoded, ALL))
    assert node.reader.read(found, 5).needle.data == volume.contents[5]


def test_too_few_shards(made: Made) -> None:
    volume, encoded = made
    node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, [1, 3]))
    with pytest.raises(EcReadFailed) as failure:
        node.reader.read(node.volume, volume.rows[0][0])
    assert failure.value.text == (
        "ReadEcShardIntervals: cannot recover shard 9.0: only 2 shards available [1 3], "
        "need at least 3 (missing: [0 2 4])"
    )
    node.elsewhere.why_unknown = "failed to locate shard via master grpc m:1: lookup ec volume 9: gone"
    with pytest.raises(EcReadFailed, match="ReadEcShardIntervals: failed to locate shard"):
        node.reader.read(node.volume, volume.rows[0][0])


@pytest.mark.parametrize("older", [0, 1])
def test_shards_of_an_older_encode_run_are_left_alone(made: Made, older: int) -> None:
    """Their disk was away while the volume was encoded anew: what they have may be deleted since."""
    volume, encoded = made
    runs = [77 if disk_id == older else None for disk_id in range(2)]
    node = SmallNode(
        FakeElsewhere(volume),
        mounted(volume, encoded, [0, 1], disk_id=0, encode_ts_ns=runs[0]),
        mounted(volume, encoded, [2, 3, 4], disk_id=1, encode_ts_ns=runs[1]),
    )
    assert {disk.disk_id for disk in node.volume.disks} == {1 - older}
    assert set(node.volume.here) == ({2, 3, 4} if older == 0 else {0, 1})


@pytest.mark.parametrize("run", [0, 77], ids=["unknown", "older"])
def test_nothing_of_another_encode_run_is_believed(made: Made, tmp_path: Path, run: int) -> None:
    """Neither its shards, in place of those of other servers, nor its index, when the right one is not cached."""
    volume, encoded = made
    other = SmallVolume(tmp_path / "other", needles=10)
    node = SmallNode(
        FakeElsewhere(volume, [0, 1]),
        mounted(volume, encoded, [2, 3, 4], disk_id=0, files=ColdFiles()),
        mounted(other, other.encode(), [0, 1], disk_id=1, encode_ts_ns=run),
    )
    assert node.disks[1].find_row(5, WIDTH) is not None, "it is open now"
    key = across_a_border(volume)[0]
    assert data(node, key) == volume.contents[key]


def test_disks_that_do_not_know_their_run_are_one_volume(made: Made) -> None:
    volume, encoded = made
    disks = [mounted(volume, encoded, [disk_id, disk_id + 1], disk_id=disk_id, encode_ts_ns=0) for disk_id in range(2)]
    node = SmallNode(FakeElsewhere(volume), *disks)
    assert {shard: disk.disk_id for shard, disk in node.volume.here.items()} == {0: 0, 1: 0, 2: 1}


def test_a_shard_that_was_cut_off_does_not_say_where_needles_are(made: Made) -> None:
    """Of shards in the old layout, when nothing tells how long the volume was, the longest does, on whatever disk."""
    volume, encoded = made
    cut, whole = (mounted(volume, encoded, [disk_id], disk_id=disk_id) for disk_id in range(2))
    disks = []
    for disk, length in ((cut, MIB), (whole, 3 << 30)):
        shards = dict.fromkeys(disk.record.shards, length)
        record = msgspec.structs.replace(disk.record, block_size=0, dat_size=0, shards=shards)
        disks.append(disk._replace(record=record, raw=record.encode()))
    together, alone = SmallNode(FakeElsewhere(volume), *disks), SmallNode(FakeElsewhere(volume), disks[1])
    assert together.volume.source.layout == alone.volume.source.layout


def test_a_shard_that_the_ratio_does_not_have_is_of_no_use(made: Made) -> None:
    """Of an encode with another ratio, for instance."""
    volume, encoded = made
    disk = mounted(volume, encoded, [3, 4])
    record = msgspec.structs.replace(disk.record, block_size=0, dat_size=0)
    strays = msgspec.structs.replace(record, shards=record.shards | {20: 3 << 30})
    alone, with_stray = (
        SmallNode(FakeElsewhere(volume), disk._replace(record=each, raw=each.encode())) for each in (record, strays)
    )
    assert with_stray.volume.source == alone.volume.source


def test_a_deletion_is_not_overlooked_when_the_volume_goes(made: Made) -> None:
    """Its entries leave the map while a read is under way; what another disk says still counts."""
    volume, encoded = made
    one, two = mounted(volume, encoded, ALL, disk_id=0), mounted(volume, encoded, [1], disk_id=1)
    node = SmallNode(FakeElsewhere(volume), one, two)
    found = node.volume
    journal_of(one).unmount()
    assert node.reader.read(found, 5).needle.data == volume.contents[5]
    journal_of(two).unmount()
    with pytest.raises(VolumeNotFound):
        node.reader.read(found, 5)
    with pytest.raises(VolumeNotFound):
        node.reader.read_now(found, 5)


def test_a_hung_disk_is_done_without(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also its index: the other disk has one of its own. Only the first read waits for it."""
    volume, encoded = made
    monkeypatch.setattr(reader, "HASTY", Patience(0.05, 0.05))
    hung = HungFiles()
    node = SmallNode(
        FakeElsewhere(volume),
        mounted(volume, encoded, [0, 1], disk_id=0, files=hung),
        mounted(volume, encoded, [2, 3, 4], disk_id=1),
    )
    try:
        for key in (80, 79, 78):
            assert data(node, key) == volume.contents[key]
        assert hung.asked <= 2
    finally:
        hung.thawed.set()


def test_a_slow_disk_is_waited_for_when_it_is_needed(made: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    volume, encoded = made
    monkeypatch.setattr(reader, "HASTY", Patience(0.01, 0.01))
    slow = HungFiles(thaws_at=2)
    node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, [0, 1, 2], files=slow))
    assert data(node, volume.rows[0][0]) == volume.contents[volume.rows[0][0]]


@pytest.mark.parametrize("bad", [0, 1])
def test_a_damaged_shard_is_left_out_and_reported(tmp_path: Path, bad: int) -> None:
    volume = SmallVolume(tmp_path / "d", needles=80)
    encoded = volume.encode()
    row = across_a_border(volume)
    volume.damage(bad, offset=MIB - 5 if bad == 0 else 0)
    node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, ALL))
    for _ in range(2):
        assert node.reader.read_now(node.volume, row[0]) is None, "what is wrong is not answered on the spot"
        assert data(node, row[0]) == volume.contents[row[0]]
    assert node.repaired == [(row[0], bad)] * 2


def test_a_damaged_shard_is_left_out_when_others_have_just_moved(tmp_path: Path) -> None:
    volume = SmallVolume(tmp_path / "d")
    encoded = volume.encode()
    key, offset, _ = volume.rows[0]
    volume.damage(0, offset=offset + 100)
    node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, [0, 1, 2]))
    with pytest.raises(CorruptNeedle):
        node.reader.read(node.volume, key)
    node.elsewhere.arriving = FakeElsewhere(volume, [4]).files
    assert data(node, key) == volume.contents[key]
    assert node.repaired == [(key, 0)]


class TestLongNeedles:
    """They are checked as a whole before any of their bytes is used."""

    @pytest.fixture(autouse=True)
    def few_are_short(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(reader, "_WHOLE_BYTES_MAX", MIB)

    @pytest.fixture
    def long(self, tmp_path: Path) -> tuple[SmallVolume, Encoded, int]:
        volume = SmallVolume(tmp_path / "d", needles=4, needle_bytes=2 * MIB)
        key = max(volume.contents, key=lambda key: len(volume.contents[key]))
        assert len(volume.contents[key]) > MIB
        return volume, volume.encode(), key

    def pieces(self, node: SmallNode, key: int) -> bytes:
        stored = node.reader.read(node.volume, key)
        assert stored.is_long
        ends = [0, 5, MIB, stored.data_size]
        assert node.reader.read(node.volume, key).without == stored.without
        return b"".join(node.reader.read_data(stored, start, end - start) for start, end in pairwise(ends))

    def test_read_in_pieces(self, long: tuple[SmallVolume, Encoded, int]) -> None:
        volume, encoded, key = long
        node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, ALL))
        assert self.pieces(node, key) == volume.contents[key]
        recovering = SmallNode(FakeElsewhere(volume, [2]), mounted(volume, encoded, [3, 4]))
        assert self.pieces(recovering, key) == volume.contents[key]

    def test_the_rest_comes_from_others_when_all_shards_have_left(self, long: tuple[SmallVolume, Encoded, int]) -> None:
        volume, encoded, key = long
        node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, ALL))
        stored = node.reader.read(node.volume, key)
        node.disks.clear()
        node.elsewhere.files = FakeElsewhere(volume, ALL).files
        assert node.reader.read_data(stored, 0, stored.data_size) == volume.contents[key]

    @pytest.mark.parametrize("left", [[], [4]], ids=["none", "too few"])
    def test_nothing_of_another_run_is_mixed_in(
        self, long: tuple[SmallVolume, Encoded, int], monkeypatch: pytest.MonkeyPatch, left: list[int]
    ) -> None:
        """It is mounted while the read has too few shards of its own, and waits."""
        volume, encoded, key = long
        node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, ALL))
        stored = node.reader.read(node.volume, key)
        node.disks[:] = [mounted(volume, encoded, left)] if left else []
        another = mounted(volume, encoded, ALL, encode_ts_ns=stored.volume.encode_ts_ns + 1)
        monkeypatch.setattr(node.elsewhere, "renew", lambda _: node.disks.append(another))
        with pytest.raises(StaleGeneration):
            node.reader.read_data(stored, 0, 100)

    def test_shards_of_others_are_not_taken_for_those_of_an_unknown_run(
        self, long: tuple[SmallVolume, Encoded, int]
    ) -> None:
        volume, encoded, key = long
        node = SmallNode(FakeElsewhere(volume, ALL), mounted(volume, encoded, ALL, encode_ts_ns=0))
        stored = node.reader.read(node.volume, key)
        node.disks.clear()
        with pytest.raises(StaleGeneration):
            node.reader.read_data(stored, 0, 100)

    @pytest.mark.parametrize("here", [[0, 1, 2, 3], [3, 1, 4, 2], [0, 2, 3, 4]], ids=str)
    def test_any_damaged_shard(self, long: tuple[SmallVolume, Encoded, int], here: list[int]) -> None:
        volume, encoded, key = long
        originals = {shard: volume.shard_path(shard).read_bytes() for shard in here}
        for bad in here:
            volume.shard_path(bad).write_bytes(bytes(byte ^ 1 for byte in originals[bad]))
            node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, here))
            try:
                found = self.pieces(node, key)
            except CorruptNeedle:
                pytest.fail(f"shard {bad}")
            assert found == volume.contents[key]
            volume.shard_path(bad).write_bytes(originals[bad])

    def test_damage_after_a_check(self, long: tuple[SmallVolume, Encoded, int]) -> None:
        """What is read as a whole is checked as often."""
        volume, encoded, key = long
        node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, ALL))
        assert node.reader.read(node.volume, key).is_fresh
        assert not node.reader.read(node.volume, key).is_fresh
        pieces = node.volume.source.layout.intervals(node.reader.read(node.volume, key).data_at, 1)
        bad = next(pieces)
        volume.damage(bad.shard, bad.offset + 10)
        assert node.reader.read(node.volume, key).without == set()
        assert node.reader.read(node.volume, key, afresh=True).without == {bad.shard}
        assert self.pieces(node, key) == volume.contents[key]

    def test_only_who_checks_waits(self, long: tuple[SmallVolume, Encoded, int]) -> None:
        """What was checked lately is known while it is checked again, until that finds damage."""
        volume, encoded, key = long
        node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, ALL))
        with pytest.raises(NotChecked):
            node.reader.read(node.volume, key, checks=False)
        node.reader.read(node.volume, key)
        assert not node.reader.read(node.volume, key, checks=False).is_fresh
        for bad in ALL:
            volume.shard_path(bad).write_bytes(bytes(volume.shard_path(bad).stat().st_size))
        with pytest.raises(CorruptNeedle):
            node.reader.read(node.volume, key, afresh=True)
        with pytest.raises(NotChecked):
            node.reader.read(node.volume, key, checks=False)

    def test_two_damaged_shards(self, long: tuple[SmallVolume, Encoded, int]) -> None:
        volume, encoded, key = long
        for bad in ALL:
            volume.shard_path(bad).write_bytes(bytes(volume.shard_path(bad).stat().st_size))
        volume.shard_path(0).write_bytes(bytes(volume.shard_path(0).stat().st_size))
        node = SmallNode(FakeElsewhere(volume), mounted(volume, encoded, ALL))
        with pytest.raises(CorruptNeedle):
            self.pieces(node, key)
