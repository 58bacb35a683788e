"""Which records of a volume are newer than those in its shards."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from volumed.erasure.columns import Progress
from volumed.erasure.errors import EcInterrupted
from volumed.formats.checksum import crc32c
from volumed.formats.idx import DELETED, Row, decode_rows, pack_rows
from volumed.formats.needle import Needle, encode_record
from volumed.formats.superblock import SuperBlock
from volumed.storage.ec_newer import Comparison, Restored, VolumeRows
from volumed.storage.fileio import File, FileIO
from volumed.storage.index_scan import scan_rows
from volumed.storage.map_records import VolumeProgress
from volumed.storage.record_marks import read_marks

WIDTH = 5
ENCODED_NS = 1000


class Put(NamedTuple):
    key: int
    time: int = 1
    data: bytes = b"data"
    cookie: int = 1

    def needle(self) -> Needle:
        return Needle(self.cookie, self.key, data=self.data, checksum=crc32c(self.data), append_at_ns=self.time)


class CountingIO(FileIO):
    reads = 0

    def read_at(self, file: File, offset: int, length: int) -> bytes:
        self.reads += file.path.endswith(".dat")
        return super().read_at(file, offset, length)


class Volume:
    """A `.dat`, and its rows."""

    def __init__(self, path: Path, puts: Iterable[Put], revision: int = 0, version: int = 3) -> None:
        self.superblock = SuperBlock(version, compaction_revision=revision)
        content, self.rows = bytearray(self.superblock.encode()), list[Row]()
        for put in puts:
            self.rows.append((put.key, len(content), len(put.data) + 5))
            content += encode_record(put.needle(), version)
        path.write_bytes(content)
        self.path = path

    def delete(self, key: int) -> None:
        self.rows.append((key, 0, DELETED))


def newer(
    volume: Volume,
    encoded: Volume,
    *,
    folded: Collection[int] = (),
    journaled: Collection[int] = (),
    encode_ts_ns: int = ENCODED_NS,
    files: FileIO | None = None,
    progress: Progress | None = None,
) -> set[int]:
    """Keys."""
    files = files or FileIO()
    ecx = encoded.path.with_suffix(".ecx")
    rows = ((key, offset, DELETED if key in folded else size) for key, offset, size in sorted(encoded.rows))
    ecx.write_bytes(pack_rows(rows, WIDTH))
    version = volume.superblock.version
    columns = decode_rows(pack_rows(volume.rows, WIDTH), WIDTH)
    entries = scan_rows(*columns, version, VolumeProgress())
    dat = files.open(str(encoded.path))
    shards = Restored(encoded.superblock, dat, files.open(str(ecx)), journaled, encode_ts_ns, files.size(dat))
    mine = VolumeRows(volume.superblock, files.open(str(volume.path)), entries)
    comparison = Comparison(files, mine, shards, WIDTH, progress or Progress())
    return set(entries.keys[comparison.newer()].tolist())


ENCODED = [Put(key, time=key) for key in (3, 1, 2, 4)]


@pytest.fixture
def encoded(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "encoded.dat", ENCODED)


def test_a_volume_that_nothing_has_moved_is_not_read(tmp_path: Path) -> None:
    puts = [Put(key, time=key) for key in range(1, 5000)]
    files = CountingIO()
    volume, encoded = Volume(tmp_path / "1.dat", [*puts, Put(7, 9000)]), Volume(tmp_path / "2.dat", puts)
    assert newer(volume, encoded, files=files) == {7}
    assert files.reads <= 8, "both ends of one record to be sure, and of the one that lies elsewhere"


def test_what_is_written_after_the_encode_is_newer(tmp_path: Path, encoded: Volume) -> None:
    later = [Put(1, 2000), Put(2, 2001, b"other size"), Put(9, 2002)]
    assert newer(Volume(tmp_path / "1.dat", [*ENCODED, *later]), encoded) == {1, 2, 9}


def test_a_copy_elsewhere_is_not_newer(tmp_path: Path, encoded: Volume) -> None:
    """A vacuum, or a decode, has put the records into the order of their keys."""
    volume = Volume(tmp_path / "1.dat", [*sorted(ENCODED), Put(1, 2000)], revision=1)
    assert newer(volume, encoded) == {1}


def test_a_vacuum_may_bring_a_later_record_to_the_place_of_the_one_in_the_shards(tmp_path: Path) -> None:
    in_order = sorted(ENCODED)
    encoded = Volume(tmp_path / "encoded.dat", in_order)
    volume = Volume(tmp_path / "1.dat", [Put(1, 2000), *in_order[1:]], revision=1)
    assert newer(volume, encoded) == {1}


def test_another_volume_of_the_id_with_the_same_places(tmp_path: Path, encoded: Volume) -> None:
    assert newer(Volume(tmp_path / "1.dat", [Put(3, 2000), Put(1, 2001)]), encoded) == {1, 3}


@pytest.mark.parametrize("how", ["folded", "journaled"])
def test_a_deletion_does_not_count_for_what_is_written_after_the_encode(
    tmp_path: Path, encoded: Volume, how: str
) -> None:
    deletions: dict[str, Any] = {how: [1, 2, 3]}
    volume = Volume(tmp_path / "1.dat", [*sorted(ENCODED), Put(1, 2000), Put(2, 2000, b"other size")], revision=1)
    assert newer(volume, encoded, **deletions) == {1, 2}
    assert newer(volume, encoded, encode_ts_ns=0, **deletions) == set()
    assert newer(volume, encoded, encode_ts_ns=2000, **deletions) == set()


def test_what_lies_behind_all_that_was_encoded_is_newer_whatever_the_clock_says(
    tmp_path: Path, encoded: Volume
) -> None:
    puts = [*ENCODED, Put(1, 5)]
    assert newer(Volume(tmp_path / "1.dat", puts), encoded, folded=[1, 2]) == {1}
    assert newer(Volume(tmp_path / "2.dat", puts, revision=1), encoded, folded=[1, 2]) == set(), "places say nothing"


def test_the_record_in_the_shards_stays_deleted_whatever_the_clock_says(tmp_path: Path, encoded: Volume) -> None:
    assert newer(Volume(tmp_path / "1.dat", ENCODED), encoded, folded=[1], journaled=[2], encode_ts_ns=1) == set()


def test_what_the_volume_has_deleted_is_not_newer(tmp_path: Path, encoded: Volume) -> None:
    volume = Volume(tmp_path / "1.dat", [*ENCODED, Put(1, 2000)])
    volume.delete(1)
    assert newer(volume, encoded) == newer(volume, encoded, folded=[1]) == set()


def test_rows_without_their_records_are_not_newer(tmp_path: Path, encoded: Volume) -> None:
    """A crash of the machine: the file has zeros there, or has got no longer."""
    volume = Volume(tmp_path / "1.dat", [*ENCODED, Put(1, 2000), Put(2, 2001)])
    _, offset, _ = volume.rows[-2]
    content = volume.path.read_bytes()
    volume.path.write_bytes(content[:offset].ljust(len(content), b"\0"))
    assert newer(volume, encoded) == newer(volume, encoded, folded=[1]) == set()
    volume.path.write_bytes(content[:offset])
    assert newer(volume, encoded) == newer(volume, encoded, folded=[1]) == set()


def test_without_times_cookie_and_checksum_count(tmp_path: Path) -> None:
    def puts(data: bytes, cookie: int) -> list[Put]:
        return [Put(1, 0, b"same"), Put(2, 0, data), Put(3, 0, b"same", cookie)]

    encoded = Volume(tmp_path / "encoded.dat", puts(b"old", 1), version=2)
    volume = Volume(tmp_path / "1.dat", puts(b"new", 2), revision=1, version=2)
    assert newer(volume, encoded) == {2, 3}


def test_a_damaged_checksum_does_not_make_a_copy_newer(tmp_path: Path, encoded: Volume) -> None:
    puts = [put._replace(data=b"rot!") if put.key == 2 else put for put in sorted(ENCODED)]
    assert newer(Volume(tmp_path / "1.dat", puts, revision=1), encoded) == set()


def test_a_comparison_can_be_stopped(tmp_path: Path, encoded: Volume) -> None:
    progress = Progress()
    progress.stop()
    with pytest.raises(EcInterrupted):
        newer(Volume(tmp_path / "1.dat", sorted(ENCODED), revision=1), encoded, progress=progress)


def test_marks_of_small_and_large_records_in_any_order(tmp_path: Path) -> None:
    lengths = [4, 3_000_000, 200_000, 60_000, 2_000_000, 40, 1, 130_000, 7]
    puts = [Put(key, 10 * key, bytes(length), 5 * key) for key, length in enumerate(lengths, 1)]
    volume = Volume(tmp_path / "1.dat", puts)
    _, offsets, sizes = decode_rows(pack_rows(volume.rows, WIDTH), WIDTH)
    files = CountingIO()
    order = np.array([8, 0, 4, 2, 6, 1, 3, 5, 7])
    marks = read_marks(files, files.open(str(volume.path)), offsets[order], sizes[order], 3, Progress())
    assert marks.keys.tolist() == (order + 1).tolist()
    assert marks.times.tolist() == (10 * (order + 1)).tolist()
    assert marks.cookies.tolist() == (5 * (order + 1)).tolist()
    assert marks.checksums.tolist() == [crc32c(puts[at].data) for at in order]
    assert files.reads < 2 * len(lengths), "what lies close together goes together"
