"""Shards become a volume where another one may be already: nothing that was acknowledged is lost (R10)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.ec_sets import EncodedSet
from tests.erasure_kit import WIDTH, SmallVolume
from tests.storage_kit import Rig
from volumed.erasure.columns import Progress
from volumed.erasure.errors import EcVolumeUnusable
from volumed.erasure.journal import encode_journal
from volumed.erasure.names import INDEX
from volumed.errors import NeedleDeleted, NeedleNotFound
from volumed.formats.checksum import crc32c
from volumed.formats.idx import DELETED, pack_rows
from volumed.formats.needle import Needle, encode_record
from volumed.storage.ec_decode import DecodeTask, decode_set, put_in_place
from volumed.storage.site import VolumePaths

VOLUME = 7


@pytest.fixture(scope="module")
def encoded(tmp_path_factory: pytest.TempPathFactory) -> EncodedSet:
    return EncodedSet(tmp_path_factory.mktemp("set") / "files")


@pytest.fixture
def rig(tmp_path: Path, encoded: EncodedSet) -> Iterator[Rig]:
    """A disk that is open, and has the shards."""
    rig = Rig(tmp_path)
    encoded.place(rig.directory, VOLUME)
    assert rig.disk.volumes == {}
    yield rig
    rig.close()


def decode(rig: Rig, *others: Path) -> None:
    """Where nobody has a volume mounted."""
    site = rig.disk.site
    paths = site.paths("", VOLUME)
    elsewhere = [VolumePaths(str(other), str(other), str(VOLUME)) for other in others]
    task = DecodeTask(site, VOLUME, "", [paths, *elsewhere], paths)
    put_in_place(task, decode_set(task, Progress()))


def append(rig: Rig, *needles: tuple[int, bytes | None]) -> None:
    """What was written to the volume, or deleted from it, after the encode."""
    dat, idx = rig.path(f"{VOLUME}.dat"), rig.path(f"{VOLUME}.idx")
    for key, data in needles:
        row = (key, 0, DELETED)
        if data is not None:
            before = dat.read_bytes()
            dat.write_bytes(before + encode_record(Needle(0xC0FFEE, key=key, data=data, checksum=crc32c(data)), 3))
            row = (key, len(before), len(data) + 5)
        idx.write_bytes(idx.read_bytes() + pack_rows([row], WIDTH))


def damage(path: Path) -> None:
    """Of the first needle."""
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"damage" + content[106:])


def contents(rig: Rig) -> dict[int, bytes]:
    """All that the volume has when it is mounted."""
    rig.disk.mount(VOLUME)
    found = {}
    for key in range(1, 30):
        with suppress(NeedleNotFound, NeedleDeleted):
            found[key] = bytes(rig.read(VOLUME, key).data)
    return found


def test_a_volume_comes_back(rig: Rig, encoded: EncodedSet) -> None:
    decode(rig)
    assert contents(rig) == encoded.volume.contents


def test_what_the_volume_took_after_the_encode_stays(rig: Rig, encoded: EncodedSet) -> None:
    """It was decoded before, and the worker was killed before the shards were removed."""
    encoded.place_source(rig.directory, VOLUME)
    append(rig, (20, b"new"), (2, b"another one"), (3, None))
    decode(rig)
    expected = encoded.volume.contents | {20: b"new", 2: b"another one"}
    del expected[3]
    assert contents(rig) == expected


def test_a_deletion_in_the_shards_counts_for_what_they_have(rig: Rig, encoded: EncodedSet) -> None:
    encoded.place_source(rig.directory, VOLUME)
    rig.path(f"{VOLUME}.ecj").write_bytes(encode_journal([5]))
    append(rig, (20, b"new"))
    decode(rig)
    expected = encoded.volume.contents | {20: b"new"}
    del expected[5]
    assert contents(rig) == expected


@pytest.mark.parametrize("is_same", [True, False], ids=["same", "another"])
def test_a_disk_that_does_not_know_its_encode_run_tells_deletions_of_the_same_index(
    rig: Rig, encoded: EncodedSet, tmp_path: Path, is_same: bool
) -> None:
    source = encoded if is_same else EncodedSet(tmp_path / "old", needles=9)
    source.place(tmp_path / "away", VOLUME, (), (INDEX,))
    (tmp_path / "away" / f"{VOLUME}.ecj").write_bytes(encode_journal([5]))
    rig.path(f"{VOLUME}.ecj").write_bytes(encode_journal([6]))
    decode(rig, tmp_path / "away")
    deleted = {5, 6} if is_same else {6}
    assert contents(rig).keys() == encoded.volume.contents.keys() - deleted


def test_a_row_whose_record_was_never_written_is_no_obstacle(rig: Rig, encoded: EncodedSet) -> None:
    encoded.place_source(rig.directory, VOLUME)
    append(rig, (20, b"new"), (21, b"lost by a crash"))
    os.truncate(rig.path(f"{VOLUME}.dat"), rig.path(f"{VOLUME}.dat").stat().st_size - 8)
    decode(rig)
    assert contents(rig) == encoded.volume.contents | {20: b"new"}


def test_damaged_shards_do_not_become_a_volume(rig: Rig) -> None:
    """Who takes them for decoded would remove the others, from which they can be recovered."""
    damage(rig.path(f"{VOLUME}.ec00"))
    with pytest.raises(EcVolumeUnusable, match="1 needles of volume 7 cannot be read"):
        decode(rig)
    assert not rig.path(f"{VOLUME}.dat").exists()


def test_a_needle_that_was_damaged_before_the_encode_is_no_obstacle(rig: Rig) -> None:
    """Its shards are what their checksums say: nothing can be done about it."""
    volume = SmallVolume(rig.directory.parent / "worn", needles=12, needle_bytes=20_000)
    damage(volume.directory / "9.dat")
    volume.encode()
    for path in (*volume.directory.glob("9.ec*"), volume.directory / "9.vif"):
        path.rename(rig.path(f"{VOLUME}{path.suffix}"))
    decode(rig)
    rig.disk.mount(VOLUME)
    assert rig.disk.volumes[VOLUME].progress.counters.file_count == 12
