"""What the storage tests share: a disk in a temporary directory, operations, a file layer that fails on demand."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from volumed.bus.calls import AllocateVolume
from volumed.bus.frames import (
    FLAG_READ_DELETED,
    READ_NEEDLE,
    STORE_DELETE,
    STORE_PUT,
    ReadOperation,
    StoreOperation,
    StoreOutcome,
    StoreResult,
)
from volumed.config.node import DiskConfig, FreeSpaceLimit, NodeConfig
from volumed.formats.checksum import crc32c
from volumed.formats.needle import FLAG_LAST_MODIFIED, FLAG_MIME, FLAG_NAME, Needle, decode_record, encode_body
from volumed.storage.disk import Disk
from volumed.storage.fileio import Buffer, File, FileIO
from volumed.storage.read_payload import unpack_payload
from volumed.storage.store import ANY_GENERATION

COOKIE = 0xC00C1E
GOLDEN = Path(__file__).parent / "corpus" / "golden"


class Rig:
    """A disk that can be closed, killed and opened again."""

    def __init__(self, root: Path, files: FileIO | None = None, index: Path | None = None) -> None:
        self.directory = root / "data"
        self.maps = root / "maps"
        self.directory.mkdir(exist_ok=True)
        self.maps.mkdir(exist_ok=True)
        self.files = files or FileIO()
        directory = str(self.directory)
        self.config = DiskConfig(
            disk_id=0, directory=directory, idx_directory=str(index or directory), free_space_limit=FreeSpaceLimit()
        )
        self.node = NodeConfig(
            runtime_dir=str(root), map_dir=str(self.maps), state_dir=str(root), disks=(self.config,)
        )
        self._disk: Disk | None = None

    @property
    def disk(self) -> Disk:
        if self._disk is None:
            self._disk = Disk.open(self.config, self.node, self.files)
        return self._disk

    def close(self) -> None:
        if self._disk is not None:
            self._disk.close()
            self._disk = None

    def kill(self) -> None:
        """Leave files and map as a killed process would: nothing is flushed, the map's stamp stays dirty."""
        if self._disk is not None:
            self._disk.site.map.close(clean=False)
            self.files.unlock_directory(self._disk._lock)
            self._disk = None

    def reopen(self) -> Disk:
        self.close()
        return self.disk

    def reopen_after_kill(self) -> Disk:
        self.kill()
        return self.disk

    def forget_map(self) -> None:
        """Close the disk and throw its map away."""
        self.close()
        shutil.rmtree(self.maps)
        self.maps.mkdir()

    def path(self, name: str) -> Path:
        return self.directory / name

    def allocate(self, volume_id: int = 1, *, collection: str = "", ttl: int = 0, version: int = 3) -> None:
        self.disk.allocate(AllocateVolume(volume_id, collection, 0, ttl, version))

    def store(self, *operations: StoreOperation) -> list[StoreResult]:
        return self.disk.store(operations).results

    def read(self, volume_id: int, key: int, *, deleted: bool = False) -> Needle:
        """The verified needle; raises the read's error."""
        flags = FLAG_READ_DELETED if deleted else 0
        operation = ReadOperation(1, READ_NEEDLE, flags, volume_id, ANY_GENERATION, key, 0, 0)
        payload = unpack_payload(self.disk.read(operation))
        if not payload.size:
            return Needle()
        return decode_record(payload.record, payload.version, payload.size, payload.offset)

    def counters(self, volume_id: int = 1) -> tuple[int, int, int, int]:
        c = self.disk.volumes[volume_id].progress.counters
        return c.file_count, c.content_bytes, c.deleted_count, c.deleted_bytes


class BreakableFiles(FileIO):
    """A file layer whose next calls can be made to fail: ``break_next("write_at", ".idx", errno.ENOSPC)``."""

    def __init__(self) -> None:
        self._broken: list[tuple[str, str, int]] = []
        self.calls: list[tuple[str, str]] = []

    def break_next(self, call: str, suffix: str, code: int = errno.EIO) -> None:
        self._broken.append((call, suffix, code))

    def write_at(self, file: File, offset: int, pieces: Sequence[Buffer]) -> int:
        if self._must_fail("write_at", file.path, half=(file, offset, pieces)):
            raise AssertionError
        return super().write_at(file, offset, pieces)

    def truncate(self, file: File, length: int) -> None:
        self._must_fail("truncate", file.path)
        super().truncate(file, length)

    def sync(self, file: File) -> None:
        self._must_fail("sync", file.path)
        super().sync(file)

    def read_at(self, file: File, offset: int, length: int) -> bytes:
        self._must_fail("read_at", file.path)
        return super().read_at(file, offset, length)

    def _must_fail(
        self, call: str, path: str, half: tuple[File, int, Sequence[Buffer]] | None = None
    ) -> bool:
        self.calls.append((call, os.path.basename(path)))
        for broken in self._broken:
            if broken[0] == call and path.endswith(broken[1]):
                self._broken.remove(broken)
                if half is not None:
                    file, offset, pieces = half
                    content = b"".join(pieces)
                    super().write_at(file, offset, [content[: len(content) // 2]])
                raise OSError(broken[2], os.strerror(broken[2]), path)
        return False


def needle_body(data: bytes, version: int = 3, name: bytes = b"") -> bytes:
    """The body a front would send for an upload."""
    flags = FLAG_NAME | FLAG_MIME | FLAG_LAST_MODIFIED
    needle = Needle(data=data, flags=flags, name=name, last_modified=1_700_000_000)
    return b"".join(encode_body(needle, version))


def put(
    key: int,
    data: bytes,
    *,
    volume_id: int = 1,
    cookie: int = COOKIE,
    flags: int = 0,
    version: int = 3,
    name: bytes = b"",
    generation: int = ANY_GENERATION,
) -> StoreOperation:
    body = needle_body(data, version, name)
    return StoreOperation(
        STORE_PUT, flags, volume_id, generation, cookie, key, crc32c(data), len(body), body, 0
    )


def delete(key: int, *, volume_id: int = 1, cookie: int = COOKIE, flags: int = 0) -> StoreOperation:
    return StoreOperation(STORE_DELETE, flags, volume_id, ANY_GENERATION, cookie, key, 0, 0, b"", 0)


def outcomes(results: Sequence[StoreResult]) -> list[int]:
    return [result.outcome for result in results]


STORED, UNCHANGED = StoreOutcome.STORED, StoreOutcome.UNCHANGED
DELETED, ERROR = StoreOutcome.DELETED, StoreOutcome.ERROR
