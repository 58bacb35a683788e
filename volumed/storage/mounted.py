"""A mounted volume as seen by a process that only reads it, and may wait for its disk (docs/spec/storage.md 8).

What counts is what the map says: bytes behind its last row may be of a write that fails yet.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from volumed.errors import CorruptNeedle, DiskError, StaleGeneration, VolumeUnavailable
from volumed.formats.idx import ROW_LENGTH
from volumed.formats.needle import record_length
from volumed.formats.superblock import SUPERBLOCK_LENGTH_MAX, SuperBlock
from volumed.formats.vif import decode_vif
from volumed.storage.append_search import AppendTimes
from volumed.storage.fileio import DistantFile, File, FileIO, disk_error
from volumed.storage.map_records import VolumeFlag, VolumeProgress, VolumeRecord
from volumed.storage.needle_map import MapError
from volumed.storage.view import VolumeHandle

__all__ = ["MountedVolume", "VolumeState", "volume_state"]


class VolumeState(NamedTuple):
    """A volume at one moment."""

    volume_id: int
    record: VolumeRecord
    progress: VolumeProgress

    @property
    def end(self) -> int:
        """Offset behind the last indexed record; 0 when there is none."""
        progress = self.progress
        return progress.tail_offset and progress.tail_offset + record_length(progress.tail_size, self.record.version)


def volume_state(handle: VolumeHandle, offset_width: int) -> VolumeState:
    """The state of now; never waits for the disk. Raises `StaleGeneration` when the volume or its disk went away."""
    try:
        record, progress = handle.reader.state(handle.volume_id)
    except MapError:
        record = progress = None
    if record is None or progress is None:
        raise StaleGeneration(f"volume {handle.volume_id} went away")
    row_length = ROW_LENGTH[offset_width]
    return VolumeState(handle.volume_id, VolumeRecord.decode(record), VolumeProgress.decode(progress, row_length))


class MountedVolume:
    """The files of a volume in one state. Used by one thread, for one call or one round of a stream."""

    def __init__(
        self,
        files: FileIO,
        state: VolumeState,
        index_directory: str,
        offset_width: int,
        fetch: Callable[[int, int], bytes],
    ) -> None:
        """``fetch`` reads a `.dat` that is in a remote tier. Raises `VolumeUnavailable`, `StaleGeneration` (the files
        are not those of the state), `DiskError`."""
        self.files = files
        self.state = state
        self.version = state.record.version
        self.offset_width = offset_width
        base, _ = os.path.splitext(state.record.dat_path)
        self.index_path = os.path.join(index_directory, os.path.basename(base) + ".idx")
        if VolumeFlag.UNAVAILABLE in state.record.flags:
            reason = files.read_file(base + ".unavailable") or b""
            raise VolumeUnavailable.of(state.volume_id, reason.decode(errors="replace"))
        if state.record.is_remote:
            self.dat: File = self._distant(base, fetch)
        else:
            self.dat = self._open(state.record.dat_path, state.record.dat_inode)

    def read(self, offset: int, length: int) -> bytes:
        """Bytes of `.dat`. Raises `CorruptNeedle` (there are fewer), `DiskError`."""
        try:
            # A length from outside: nothing is allocated for what is not there.
            if offset + length > self.files.size(self.dat):
                raise CorruptNeedle.eof()
            data = self.files.read_at(self.dat, offset, length)
        except OSError as error:
            raise disk_error(f"read {self.dat.path}", error) from error
        if len(data) < length:
            raise CorruptNeedle.eof()
        return data

    def read_some(self, offset: int, length: int) -> bytes:
        """Bytes of `.dat`, fewer at its end. Raises `DiskError`."""
        try:
            return self.files.read_at(self.dat, offset, length)
        except OSError as error:
            raise disk_error(f"read {self.dat.path}", error) from error

    def index_length(self) -> int | None:
        """Bytes of `.idx` as it is now, None when there is none. Raises `DiskError`."""
        try:
            return self.files.size(self.files.open(self.index_path, writable=False))
        except FileNotFoundError:
            return None
        except OSError as error:
            raise disk_error(f"open {self.index_path}", error) from error

    def read_index(self, length: int) -> bytes:
        """The first ``length`` bytes of `.idx`. Raises `CorruptNeedle` (there are fewer), `DiskError`."""
        try:
            data = self.files.read_at(self.files.open(self.index_path, writable=False), 0, length)
        except OSError as error:
            raise disk_error(f"read {self.index_path}", error) from error
        if len(data) < length:
            raise CorruptNeedle.eof()
        return data

    def records_at(self) -> int:
        """Where the first record is. Raises `FormatError`, `DiskError`."""
        try:
            head = self.files.read_at(self.dat, 0, SUPERBLOCK_LENGTH_MAX)
        except OSError as error:
            raise disk_error(f"read {self.dat.path}", error) from error
        return SuperBlock.decode(head).length

    def first_newer(self, since_ns: int) -> int | None:
        """Offset of the first record that was appended later; None when there is none. Raises `FormatError`,
        `CorruptNeedle`, `StaleGeneration`, `DiskError`."""
        progress = self.state.progress
        idx = self._open(self.index_path, progress.idx_inode)
        times = AppendTimes(self.files, self.dat, idx, progress.idx_bytes, self.version, self.offset_width)
        try:
            return times.first_newer(since_ns)
        except OSError as error:
            raise disk_error(f"search {idx.path}", error) from error

    def _distant(self, base: str, fetch: Callable[[int, int], bytes]) -> DistantFile:
        info = decode_vif(self.files.read_file(base + ".vif") or b"")
        if not info.files:
            raise StaleGeneration(f"{base}.dat came back")
        return DistantFile(base + ".dat", info.files[0].file_size, info.files[0].modified_time * 10**9, fetch, b"")

    def _open(self, path: str, inode: int) -> File:
        try:
            file = self.files.open(path, writable=False)
        except FileNotFoundError:
            raise StaleGeneration(f"{path} went away") from None
        except OSError as error:
            raise DiskError(f"open {path}: {error.strerror}") from error
        if file.inode != inode:
            raise StaleGeneration(f"{path} was replaced")
        return file
