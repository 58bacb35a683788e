"""Encoded volumes of two disks, and damage done to their files."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tests.erasure_kit import NOW_NS, RATIO, WIDTH
from volumed.erasure.coding import CoderHere
from volumed.erasure.columns import Progress
from volumed.erasure.encode import encode_volume
from volumed.erasure.journal import encode_journal
from volumed.erasure.layout import MIB
from volumed.erasure.names import INDEX, JOURNAL, SIDECAR, shard_extension
from volumed.erasure.sidecar import ShardSums, Sidecar, decode_sidecar, encode_sidecar
from volumed.formats.checksum import crc32c
from volumed.formats.idx import ROW_LENGTH, Row, pack_row, pack_rows
from volumed.formats.needle import Needle, encode_record
from volumed.formats.superblock import SuperBlock
from volumed.storage.fileio import FileIO
from volumed.storage.site import VolumePaths

__all__ = [
    "LENGTHS", "LONG", "Damage", "EncodedVolume", "appended", "checksums_of_one_mib", "cut", "flipped", "lost",
    "moved", "other_sidecar", "patched", "row", "row_folded", "row_resized", "stale",
]  # fmt: skip

LENGTHS = {1: 100, 2: 1_500_000, 3: 100, 4: 900_000, 5: 10, 6: 300}
"""Of the data by key: one shard and two, in each of the three data shards. Key 3 is deleted by the journal."""
LONG = {1: 100, 2: 3_000_000, 3: 100, 4: 2_900_000, 5: 10, 6: 300}
"""Shards of two MiB."""


class EncodedVolume:
    """3+2 shards with index and sidecars, and no `.dat`, in the first of two directories."""

    def __init__(self, home: Path, volume_id: int, lengths: dict[int, int] | None = None) -> None:
        self.id = volume_id
        self.home = home / "d"
        self.second = home / "e"
        self.rows: list[Row] = []
        for directory in (self.home, self.second):
            directory.mkdir(parents=True, exist_ok=True)
        self._encode(lengths or LENGTHS)
        self.path(JOURNAL).write_bytes(encode_journal([3]))

    def path(self, extension: str) -> Path:
        return self.home / f"{self.id}{extension}"

    def shard(self, shard: int) -> Path:
        return self.path(shard_extension(shard))

    def sidecar(self) -> Sidecar:
        return decode_sidecar(self.path(SIDECAR).read_bytes())

    def _encode(self, lengths: dict[int, int]) -> None:
        files, source = FileIO(), random.Random(self.id)
        paths = VolumePaths(str(self.home), str(self.home), str(self.id))
        dat = bytearray(SuperBlock().encode())
        for key, length in lengths.items():
            data = source.randbytes(length)
            self.rows.append((key, len(dat), length + 5))
            dat += encode_record(Needle(cookie=0x11111111, key=key, data=data, checksum=crc32c(data)), 3)
        self.path(".dat").write_bytes(dat)
        self.path(".idx").write_bytes(pack_rows(self.rows, WIDTH))
        opened = (files.open(paths.data(extension)) for extension in (".dat", ".idx"))
        encode_volume(
            files, paths, *opened, ratio=RATIO, offset_width=WIDTH, now_ns=NOW_NS, progress=Progress(),
            coder=CoderHere(files, threads=1),
        )  # fmt: skip
        for extension in (".dat", ".idx"):
            self.path(extension).unlink()


Damage = Callable[[EncodedVolume], object]


def patched(extension: str, at: int, content: bytes) -> Damage:
    """Bytes overwritten in a file."""

    def damage(volume: EncodedVolume) -> None:
        with open(volume.path(extension), "r+b") as file:
            file.seek(at)
            file.write(content)

    return damage


def appended(extension: str, content: bytes) -> Damage:
    """Stray bytes at the end of a file."""

    def damage(volume: EncodedVolume) -> None:
        with open(volume.path(extension), "ab") as file:
            file.write(content)

    return damage


def cut(extension: str, length: int) -> Damage:
    """A file of so many bytes."""
    return lambda volume: os.truncate(volume.path(extension), length)


def lost(*extensions: str) -> Damage:
    """Files that are gone."""
    return lambda volume: [volume.path(extension).unlink() for extension in extensions]


def flipped(key: int, at: int) -> Damage:
    """One byte of a record."""

    def damage(volume: EncodedVolume) -> None:
        offset = next(offset for found, offset, _ in volume.rows if found == key)
        shard, inner = divmod(offset + at, MIB)
        content = bytearray(volume.shard(shard).read_bytes())
        content[inner] ^= 0xFF
        volume.shard(shard).write_bytes(content)

    return damage


def row(key: int, offset: int, size: int) -> Damage:
    """One more row of the index."""
    return appended(INDEX, pack_row(key, offset, size, WIDTH))


def row_folded(key: int) -> Damage:
    """A row whose deletion was folded in."""
    return row_resized(key, -1)


def row_resized(key: int, size: int) -> Damage:
    """A row that says another size."""
    return patched(INDEX, key * ROW_LENGTH[WIDTH] - 4, size.to_bytes(4, "big", signed=True))


def checksums_of_one_mib(volume: EncodedVolume) -> None:
    """More than one checksum for each shard."""
    shards = []
    for shard in range(RATIO.total):
        content = volume.shard(shard).read_bytes()
        sums = tuple(crc32c(content[at : at + MIB]) for at in range(0, len(content), MIB))
        shards.append(ShardSums(len(content), sums))
    other_sidecar(shards=tuple(shards), checksum_block=MIB)(volume)


def stale(volume: EncodedVolume) -> None:
    """Checksums that accuse a good shard."""
    shards = list(volume.sidecar().shards)
    shards[1] = ShardSums(shards[1].length, tuple(value ^ 1 for value in shards[1].blocks))
    other_sidecar(shards=tuple(shards))(volume)


def other_sidecar(**fields: object) -> Damage:
    """A sidecar that says something else."""

    def damage(volume: EncodedVolume) -> None:
        volume.path(SIDECAR).write_bytes(encode_sidecar(replace(volume.sidecar(), **fields)))  # type: ignore[arg-type]

    return damage


def moved(*shards: int, encoded_at_ns: int = NOW_NS, sidecar: bytes | None = None) -> Damage:
    """Shards on the second disk, with an index and sidecars of their own."""

    def damage(volume: EncodedVolume) -> None:
        for shard in shards:
            shutil.move(volume.shard(shard), volume.second)
        for extension in (INDEX, JOURNAL, SIDECAR):
            shutil.copy(volume.path(extension), volume.second)
        info = json.loads(volume.path(".vif").read_text())
        info["ecShardConfig"]["encodeTsNs"] = str(encoded_at_ns)
        (volume.second / f"{volume.id}.vif").write_text(json.dumps(info))
        if sidecar is not None:
            (volume.second / f"{volume.id}{SIDECAR}").write_bytes(sidecar)

    return damage
