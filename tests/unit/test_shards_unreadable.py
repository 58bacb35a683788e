"""Shards on sectors that their disk cannot read: what reads do without them, and what operators learn."""

from __future__ import annotations

import errno
import logging
import os
from collections import Counter
from pathlib import Path
from unittest.mock import ANY

import msgspec
import pytest

from tests.erasure_kit import RATIO, SmallVolume
from tests.shards_kit import ColdFiles, FakeElsewhere, SmallNode, mounted
from volumed.erasure.encode import Encoded
from volumed.erasure.errors import EcReadFailed
from volumed.erasure.layout import MIB, Interval
from volumed.errors import RetryError
from volumed.formats.idx import Row
from volumed.storage.fileio import File

ALL = range(RATIO.total)
Made = tuple[SmallVolume, Encoded]


class DyingFiles(ColdFiles):
    """Reading some files ends in an error."""

    def __init__(self) -> None:
        self.dying: dict[str, int] = {}
        """Error numbers by extension."""
        self.reads: Counter[str] = Counter()

    def read_at(self, file: File, offset: int, length: int) -> bytes:
        end = os.path.splitext(file.path)[1]
        self.reads[end] += 1
        if end in self.dying:
            raise OSError(self.dying[end], os.strerror(self.dying[end]))
        return super().read_at(file, offset, length)


class Dying:
    """A node with all shards on one disk, of which some are dying."""

    def __init__(self, made: Made, number: int, *ends: str, shards: range | list[int] = ALL) -> None:
        self.volume, encoded = made
        self.files = DyingFiles()
        self.files.dying = dict.fromkeys(ends, number)
        self.node = SmallNode(FakeElsewhere(self.volume), mounted(self.volume, encoded, shards, files=self.files))

    def row(self, shard: int) -> Row:
        """Of the first needle that is only in that shard."""
        return next(row for row in self.volume.rows if row[1] // MIB == shard == (row[1] + row[2] + 40) // MIB)

    def read(self, shard: int = 0) -> None:
        """That needle."""
        key = self.row(shard)[0]
        found = self.node.reader.read(self.node.volume, key).needle
        assert found.data == self.volume.contents[key]

    def reads_of(self, end: str) -> int:
        """How often a file is read for one needle of shard 0."""
        before = self.files.reads[end]
        self.read()
        return self.files.reads[end] - before


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    volume = SmallVolume(tmp_path_factory.mktemp("ec") / "d", needles=80)
    return volume, volume.encode()


@pytest.mark.parametrize("number", [errno.EIO, errno.EUCLEAN, errno.EBADMSG], ids=errno.errorcode.get)
def test_a_dying_shard_is_left_aside_for_longer_each_time(
    made: Made, number: int, caplog: pytest.LogCaptureFixture
) -> None:
    dying = Dying(made, number, ".ec00")
    assert dying.reads_of(".ec00") == 1, "and the needle is recovered"
    for pause_s in (60, 120, 240, 480, 960, 1920, 3600, 3600):
        assert dying.reads_of(".ec00") == 0
        dying.node.now_s += pause_s - 1
        assert dying.reads_of(".ec00") == 0
        dying.node.now_s += 1
        assert dying.reads_of(".ec00") == 1
    assert len(dying.node.disk_errors) == 9
    reason = os.strerror(number).lower()
    offset = dying.row(0)[1]
    what = f"cannot read byte {offset} of shard 9.0 on disk 0, {dying.volume.shard_path(0)}: {reason}"
    assert caplog.messages[:2] == [f"{what}; it is left aside for {pause_s} s" for pause_s in (60, 120)]
    assert len(caplog.messages) == 9
    assert dying.node.told == [(0, 0)] * 9


def test_only_that_shard_is_left_aside(made: Made) -> None:
    dying = Dying(made, errno.EIO, ".ec00")
    dying.read()
    before = dying.files.reads.copy()
    dying.read(shard=1)
    assert dying.files.reads - before == {".ecx": ANY, ".ec01": 1}


def test_other_errors_make_nobody_wait_and_are_logged_once_in_a_while(
    made: Made, caplog: pytest.LogCaptureFixture
) -> None:
    dying = Dying(made, errno.ESTALE, ".ec00")
    assert [dying.reads_of(".ec00") for _ in range(3)] == [1, 1, 1]
    reason = os.strerror(errno.ESTALE).lower()
    shard = f"shard 9.0 on disk 0, {dying.volume.shard_path(0)}"
    assert caplog.messages == [f"cannot read byte {dying.row(0)[1]} of {shard}: {reason}"]
    assert dying.node.disk_errors == dying.node.told == []
    dying.node.now_s += 60
    dying.read()
    assert len(caplog.messages) == 2


def test_what_cannot_be_recovered_is_read_from_it_all_the_same(made: Made) -> None:
    """Shard 0 answers again, but nobody knows it; without it too few are left."""
    dying = Dying(made, errno.EIO, ".ec00", shards=[0, 1])
    with pytest.raises(EcReadFailed):
        dying.read()
    dying.files.dying.clear()
    assert dying.reads_of(".ec00") == 1


def test_a_shard_that_answers_again_is_used_again(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "volumed.shards.unreadable")
    dying = Dying(made, errno.EIO, ".ec00")
    dying.read()
    dying.files.dying.clear()
    dying.node.now_s += 60
    assert dying.reads_of(".ec00") == 1
    assert caplog.messages[1:] == [f"shard 9.0 on disk 0, {dying.volume.shard_path(0)}, can be read again"]
    dying.files.dying[".ec00"] = errno.EIO
    dying.read()
    dying.node.now_s += 60
    assert dying.reads_of(".ec00") == 1, "it starts with the short pause again"


def test_a_shard_that_was_made_anew_is_used_at_once(made: Made) -> None:
    dying = Dying(made, errno.EIO, ".ec00")
    dying.read()
    dying.files.dying.clear()
    disk = dying.node.disks[0]
    record = msgspec.structs.replace(disk.record, generation=2)
    dying.node.disks[0] = disk._replace(record=record, raw=record.encode())
    assert dying.reads_of(".ec00") == 1


def test_other_servers_are_told_at_once_that_those_bytes_cannot_be_read(made: Made) -> None:
    dying = Dying(made, errno.EIO, ".ec00")
    disk = dying.node.disks[0]
    piece = Interval(0, 4096, 4096)
    for _ in range(2):
        with pytest.raises(RetryError, match=r"ec shard 9\.0 cannot be read"):
            dying.node.reader.read_shard(disk, piece)
    assert dying.files.reads[".ec00"] == 1
    dying.files.dying.clear()
    assert len(dying.node.reader.read_shard(disk, Interval(0, 8192, 100))) == 100, "others may"


def test_an_index_that_cannot_be_read_is_asked_last(made: Made, caplog: pytest.LogCaptureFixture) -> None:
    volume, encoded = made
    disks = [DyingFiles(), DyingFiles()]
    disks[0].dying[".ecx"] = errno.EIO
    places = [mounted(volume, encoded, [disk, disk + 2], disk_id=disk, files=files) for disk, files in enumerate(disks)]
    node = SmallNode(FakeElsewhere(volume), *places)
    for key in (1, 2, 3):
        assert node.reader.read(node.volume, key).needle.data == volume.contents[key]
    assert disks[0].reads[".ecx"] == 1
    index = f"the index of ec volume 9 on disk 0, {volume.paths.index('.ecx')}"
    assert caplog.messages == [f"cannot read {index}: input/output error; it is left aside for 60 s"]
    assert node.told == []


def test_a_shard_that_is_too_short_is_logged_once_in_a_while(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    volume = SmallVolume(tmp_path / "d", needles=80)
    encoded = volume.encode()
    disk = mounted(volume, encoded, ALL, files=ColdFiles())
    os.truncate(volume.shard_path(0), 100)
    node = SmallNode(FakeElsewhere(volume), disk)
    key = next(row[0] for row in volume.rows if 100 < row[1] < MIB // 2)
    with caplog.at_level(logging.ERROR):
        for _ in range(3):
            assert node.reader.read(node.volume, key).needle.data == volume.contents[key]
    assert len([text for text in caplog.messages if "ends before" in text]) == 1
