"""The first record that is newer than a time: any rows, also such without records, and files that are not in order."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.errors import CorruptNeedle, FormatError
from volumed.formats.idx import pack_rows, unpack_row
from volumed.formats.needle import Needle, encode_record
from volumed.storage.append_search import AppendTimes, find_first
from volumed.storage.fileio import FileIO

START = 8


@given(
    st.lists(st.booleans(), max_size=40),
    st.integers(0, 100),
)
def test_the_first_newer_row_is_found_whatever_has_no_record(has_record, threshold):
    times = range(0, 10 * len(has_record), 10)
    expected = next((row for row, there in enumerate(has_record) if there and times[row] > threshold), None)

    def is_newer(row: int) -> bool:
        assert has_record[row], "a row without a record has no time"
        return times[row] > threshold

    assert find_first(len(has_record), lambda row: int(has_record[row]), is_newer) == expected


def make(directory: Path, rows: list[tuple[int, int, int]], dat: bytes, version: int = 3) -> AppendTimes:
    (directory / "1.dat").write_bytes(dat)
    (directory / "1.idx").write_bytes(pack_rows(rows))
    io = FileIO()
    idx = io.open(str(directory / "1.idx"), writable=False)
    return AppendTimes(io, io.open(str(directory / "1.dat"), writable=False), idx, io.size(idx), version, 5)


@pytest.fixture
def times(tmp_path) -> AppendTimes:
    """Three needles appended at 100, 200 and 300, then a deletion at 400, then one that has no record."""
    dat, rows = bytes(START), []
    for key, data in ((1, b"abc"), (2, b""), (3, b"x" * 50), (1, None)):
        record = encode_record(Needle(7, key, data=data or b"", append_at_ns=100 * (len(rows) + 1)), 3)
        rows.append((key, len(dat), -1 if data is None else int.from_bytes(record[12:16], "big")))
        dat += record
    return make(tmp_path, [*rows, (2, 0, -1)], dat)


@pytest.mark.parametrize(
    ("since", "row"), [(0, 0), (99, 0), (100, 1), (250, 2), (300, 3), (400, None), (1 << 62, None)]
)
def test_offset_of_the_first_newer_record(times, since, row):
    offsets = [unpack_row(times.io.read_at(times.idx, 17 * at, 17))[1] for at in range(4)]
    assert times.first_newer(since) == (None if row is None else offsets[row])


def test_the_last_row_with_a_record_tells_the_last_append(times):
    assert times.last() == 400


def test_an_empty_volume_has_nothing(tmp_path):
    times = make(tmp_path, [], bytes(START))
    assert (times.first_newer(0), times.last()) == (None, 0)


def test_versions_without_times_have_nothing_newer(times):
    old = times._replace(version=2)
    assert (old.first_newer(0), old.last()) == (None, 0)


def test_an_index_of_half_a_row_is_refused(times):
    with pytest.raises(FormatError, match="unexpected file .*1.idx size: 20"):
        times._replace(idx_bytes=20).first_newer(0)


def test_a_record_behind_the_end_is_an_error(tmp_path):
    with pytest.raises(CorruptNeedle, match="EOF"):
        make(tmp_path, [(1, 1 << 20, 10)], bytes(START)).first_newer(0)
