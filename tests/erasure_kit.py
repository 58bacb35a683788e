"""A small volume and its shards for the tests of erasure coding."""

from __future__ import annotations

import errno
import os
import random
from collections.abc import Sequence
from pathlib import Path

from volumed.erasure.code import Ratio
from volumed.erasure.coding import CoderHere
from volumed.erasure.columns import Progress
from volumed.erasure.encode import Encoded, encode_volume
from volumed.erasure.layout import Interval
from volumed.erasure.names import shard_extension
from volumed.erasure.read import EcSource
from volumed.formats.checksum import crc32c
from volumed.formats.idx import Row, pack_rows
from volumed.formats.needle import Needle, encode_record
from volumed.formats.superblock import SuperBlock
from volumed.formats.ttl import Ttl
from volumed.storage.fileio import Buffer, File, FileIO
from volumed.storage.site import VolumePaths

RATIO = Ratio(3, 2)
WIDTH = 5
NOW_NS = 1_800_000_000 * 10**9


class FailingIO(FileIO):
    """Fails from the n-th change on, counted from 0; ``stays_broken`` also for everything after it."""

    def __init__(self, fails_at: int, *, stays_broken: bool) -> None:
        self.changes = 0
        self.fails_at = fails_at
        self.stays_broken = stays_broken

    def _change(self) -> None:
        self.changes += 1
        number = self.changes - 1
        if number == self.fails_at or (number > self.fails_at and self.stays_broken):
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    def truncate(self, file: File, length: int) -> None:
        self._change()
        super().truncate(file, length)

    def write_at(self, file: File, offset: int, pieces: Sequence[Buffer]) -> int:
        self._change()
        return super().write_at(file, offset, pieces)

    def copy(self, source: File, target: File, target_offset: int, length: int, *, source_offset: int = 0) -> None:
        self._change()
        super().copy(source, target, target_offset, length, source_offset=source_offset)

    def sync(self, file: File) -> None:
        self._change()
        super().sync(file)

    def rename(self, source: str, target: str) -> None:
        self._change()
        super().rename(source, target)

    def remove(self, path: str) -> bool:
        self._change()
        return super().remove(path)

    def sync_directory(self, path: str) -> None:
        self._change()
        super().sync_directory(path)


class SmallVolume:
    """Needles of known contents in ``9.dat`` and ``9.idx``; `encode` makes the shards."""

    def __init__(self, directory: Path, needles: int = 40, needle_bytes: int = 60_000, ttl: Ttl | None = None) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self.files = FileIO()
        self.paths = VolumePaths(str(directory), str(directory), "9")
        self.contents: dict[int, bytes] = {}
        self.rows: list[Row] = []
        source = random.Random(needles)
        dat = bytearray(SuperBlock(ttl=ttl or Ttl()).encode())
        for key in range(needles, 0, -1):
            data = self.contents[key] = source.randbytes(source.randrange(1, needle_bytes))
            needle = Needle(cookie=0xC0FFEE, key=key, data=data, checksum=crc32c(data))
            record = encode_record(needle, 3)
            self.rows.append((key, len(dat), len(data) + 5))
            dat += record
        Path(self.paths.data(".dat")).write_bytes(dat)
        Path(self.paths.index(".idx")).write_bytes(pack_rows(self.rows, WIDTH))

    def encode(self, files: FileIO | None = None, progress: Progress | None = None) -> Encoded:
        plain = self.files
        dat, idx = plain.open(self.paths.data(".dat")), plain.open(self.paths.index(".idx"))
        return encode_volume(
            files or plain, self.paths, dat, idx, ratio=RATIO, offset_width=WIDTH, now_ns=NOW_NS,
            progress=progress or Progress(), coder=CoderHere(files or plain, threads=1),
        )  # fmt: skip

    def shard_path(self, shard: int) -> Path:
        return Path(self.paths.data(shard_extension(shard)))

    def shards(self, lost: Sequence[int] = ()) -> dict[int, File]:
        return {
            shard: self.files.open(str(self.shard_path(shard)))
            for shard in range(RATIO.total)
            if shard not in lost and self.shard_path(shard).exists()
        }

    def shard_bytes(self) -> list[bytes]:
        return [self.shard_path(shard).read_bytes() for shard in range(RATIO.total)]

    def damage(self, shard: int, offset: int = 0, content: bytes = b"wrong") -> None:
        with open(self.shard_path(shard), "r+b") as file:
            file.seek(offset)
            file.write(content)

    def names(self) -> set[str]:
        return {path.name for path in self.directory.iterdir()}

    def source(self, encoded: Encoded, preference: tuple[int, ...] = ()) -> EcSource:
        layout = encoded.geometry.layout(0)
        return EcSource(9, 3, layout, preference)


class ShardReads:
    """Answers reads from the files and notes them; ``lost`` shards answer nothing."""

    def __init__(self, volume: SmallVolume, lost: Sequence[int] = ()) -> None:
        self.volume = volume
        self.files = volume.shards(lost)
        self.asked: list[Interval] = []

    def __call__(self, wanted: Interval) -> bytes | None:
        self.asked.append(wanted)
        file = self.files.get(wanted.shard)
        return None if file is None else self.volume.files.read_at(file, wanted.offset, wanted.length)
