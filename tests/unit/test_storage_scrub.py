"""`volumed.storage.scrub` on files that no server serves: blocks, pieces, and what a caller may stop."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from volumed.errors import RetryError
from volumed.formats.checksum import crc32c
from volumed.formats.idx import DELETED, Row, pack_rows
from volumed.formats.needle import Needle, encode_record, encode_tombstone
from volumed.formats.superblock import SuperBlock
from volumed.storage import record_check, scrub
from volumed.storage.fileio import FileIO
from volumed.storage.map_records import NO_FLAGS
from volumed.storage.mounted import MountedVolume
from volumed.storage.scrub import scrub_volume

BLOCK_BYTES = 300


class VolumeFiles:
    """A volume that grows record by record."""

    def __init__(self, directory: Path, version: int) -> None:
        self.base = directory / "1"
        self.version = version
        self.dat = bytearray(SuperBlock(version=version).encode())
        self.rows: list[Row] = []

    def put(self, key: int, data: bytes) -> int:
        """Offset of the record."""
        record = encode_record(Needle(7, key, data=data, checksum=crc32c(data) if data else 0), self.version)
        size = int.from_bytes(record[12:16], "big")
        return self._append(key, size, record)

    def delete(self, key: int) -> None:
        self._append(key, DELETED, encode_tombstone(key, 7, 0, 5, self.version))

    def _append(self, key: int, size: int, record: bytes) -> int:
        offset = len(self.dat)
        self.rows.append((key, offset, size))
        self.dat += record
        return offset

    def scrub(self, *, full: bool = True, check: Any = lambda: None) -> tuple[int, list[str]]:
        """Rows and findings."""
        self.base.with_suffix(".dat").write_bytes(self.dat)
        self.base.with_suffix(".idx").write_bytes(pack_rows(self.rows))
        files = FileIO()
        record = SimpleNamespace(
            version=self.version,
            dat_path=str(self.base) + ".dat",
            dat_inode=self.base.with_suffix(".dat").stat().st_ino,
            flags=NO_FLAGS,
            is_remote=False,
        )
        state: Any = SimpleNamespace(volume_id=1, record=record, end=len(self.dat), progress=None)
        volume = MountedVolume(files, state, str(self.base.parent), 5, lambda _, __: b"")
        return scrub_volume(volume, volume.index_length(), full=full, check=check)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (scrub, record_check):
        monkeypatch.setattr(module, "PIECE_BYTES", BLOCK_BYTES)


@pytest.fixture(params=[1, 2, 3])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> VolumeFiles:
    files = VolumeFiles(tmp_path, request.param)
    for key in range(1, 60):
        files.put(key, bytes([key]) * (key * 13 % 700))
    files.put(3, b"again")
    files.delete(5)
    files.put(60, b"")
    return files


def test_nothing_is_wrong_whatever_the_blocks(volume: VolumeFiles) -> None:
    assert volume.scrub() == (62, [])
    volume.rows.reverse()
    assert volume.scrub() == (62, [])


def test_every_flipped_byte_of_data_is_found(volume: VolumeFiles) -> None:
    data_at = 16 if volume.version == 1 else 20
    broken = [row for row in volume.rows if row[2] > 8][::7]
    for _, offset, _ in broken:
        volume.dat[offset + data_at] ^= 1
    rows, texts = volume.scrub()
    assert rows == 62
    assert [text.partition(" on ")[0] for text in texts] == [f"failed to read needle {key}" for key, _, _ in broken]
    assert all("invalid CRC" in text for text in texts)
    assert volume.scrub(full=False) == (62, [])


def test_findings_are_limited(volume: VolumeFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scrub, "FINDINGS_MAX", 4)
    volume.dat[8:] = bytes(len(volume.dat) - 8)
    assert len(volume.scrub()[1]) == 4


def test_it_can_be_stopped(volume: VolumeFiles) -> None:
    looks = iter([True] * 3)

    def check() -> None:
        if not next(looks, False):
            raise RetryError("stopped")

    with pytest.raises(RetryError, match="stopped"):
        volume.scrub(check=check)
