"""Spools: the data of large uploads while they arrive, one nameless file each on the disk they are meant for.

Theory of operation
    Nothing here waits for the disk: pieces are appended, read and finally copied into a volume by background threads.
    A front has one append of a spool under way at a time, so that its pieces need no order of their own. The checksum
    is computed from what arrived here; a store must name the same.

    A file without a name leaves nothing behind, however the worker ends. A spool ends when its front closes it, when
    that front is gone, or when nothing was done with it for very long. While disk space is low, nothing is appended.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec

from volumed.bus.frames import StoreResult
from volumed.bus.router import Reply
from volumed.bus.spool_calls import (
    SPOOL_BLOCK_BYTES_MAX,
    AppendSpool,
    AppendSpoolData,
    CloseSpool,
    OpenSpool,
    ReadSpool,
    SpoolBlock,
    SpoolStored,
    StoreSpool,
)
from volumed.errors import NodeError, NoFreeSpace, RetryError, VolumedError
from volumed.formats.checksum import crc32c
from volumed.storage.disk import Disk
from volumed.storage.fileio import File, disk_error
from volumed.storage.placed_put import PlacedPut, SpooledNeedle
from volumed.storage.space import is_space_low
from workers.host import Shell, Work, nothing

__all__ = ["Spools"]

_log = logging.getLogger(__name__)

_SPOOLS_MAX = 256
_IDLE_S = 86_400.0
"""The front sees to slow clients; this is for a spool that it has lost."""


_Key = tuple[bytes, int]
"""Front and number."""


@dataclass(slots=True)
class _Spool:
    used_at: float
    file: File | None = None
    """None until it is open."""
    length: int = 0
    checksum: int = 0
    appending: bool = False


class Spools:
    """The spools of one disk. Used on the loop thread."""

    def __init__(self, disk: Disk, shell: Shell, clock: Callable[[], float] = time.monotonic) -> None:
        self._disk = disk
        self._files = disk.site.files
        self._shell = shell
        self._clock = clock
        self._spools: dict[_Key, _Spool] = {}
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            OpenSpool: self._open,
            AppendSpool: self._append,
            AppendSpoolData: self._append_data,
            ReadSpool: self._read,
            StoreSpool: self._store,
            CloseSpool: self._close,
        }

    def forget(self, sender: bytes) -> None:
        """Close all spools of a front that is gone."""
        for key in [key for key in self._spools if key[0] == sender]:
            del self._spools[key]

    def tick(self) -> None:
        """Close what nobody has used for long."""
        oldest = self._clock() - _IDLE_S
        for key in [key for key, spool in self._spools.items() if spool.used_at < oldest]:
            _log.error("a spool was forgotten")
            del self._spools[key]

    # Calls

    def _open(self, request: OpenSpool, reply: Reply) -> None:
        if len(self._spools) >= _SPOOLS_MAX:
            raise RetryError("too many large uploads at once")
        key = (reply.sender, request.spool_id)
        spool = self._spools[key] = _Spool(self._clock())

        def work() -> File:
            # The spool and the record that is made of it are on the disk at the same time.
            self._require_space(2 * request.expected_bytes)
            try:
                return self._files.open_nameless(self._disk.config.directory)
            except OSError as error:
                raise disk_error("spool an upload", error) from error

        def done(file: File) -> None:
            spool.file = file
            reply.result()

        def failed(error: Exception) -> None:
            self._spools.pop(key, None)
            reply.error(error)

        self._shell.in_background(work, done, failed, Work.PIECE)

    def _append(self, request: AppendSpool, reply: Reply) -> None:
        self._append_piece(request.spool_id, request.length, reply, lambda: self._shared(request, reply))

    def _append_data(self, request: AppendSpoolData, reply: Reply) -> None:
        self._append_piece(request.spool_id, len(request.data), reply, lambda: memoryview(request.data))

    def _shared(self, request: AppendSpool, reply: Reply) -> memoryview:
        return self._shell.shared(reply.sender, request.shared_at, request.length)

    def _append_piece(self, spool_id: int, length: int, reply: Reply, content: Callable[[], memoryview]) -> None:
        spool, file = self._find(spool_id, reply)
        if spool.appending or not 0 < length <= SPOOL_BLOCK_BYTES_MAX:
            raise NodeError("a piece of a spool came out of turn")
        piece = content()
        spool.appending = True

        def work() -> int:
            self._require_space(0)
            try:
                self._files.write_at(file, spool.length, [piece])
            except OSError as error:
                raise disk_error("spool an upload", error) from error
            return crc32c(piece, spool.checksum)

        def done(checksum: int) -> None:
            spool.length += length
            spool.checksum = checksum
            spool.appending = False
            reply.result()

        # After an error nothing more is taken: what came is not all there.
        self._shell.in_background(work, done, reply.error, Work.PIECE)

    def _read(self, request: ReadSpool, reply: Reply) -> None:
        spool, file = self._find(request.spool_id, reply)
        if not 0 < request.length <= SPOOL_BLOCK_BYTES_MAX or request.offset + request.length > spool.length:
            raise NodeError(f"no {request.length} bytes at {request.offset} of a spool of {spool.length}")

        def work() -> SpoolBlock:
            try:
                return SpoolBlock(self._files.read_at(file, request.offset, request.length))
            except OSError as error:
                raise disk_error("read a spooled upload", error) from error

        self._shell.in_background(work, reply.result, reply.error, Work.PIECE)

    def _close(self, request: CloseSpool, reply: Reply) -> None:
        self._spools.pop((reply.sender, request.spool_id), None)
        reply.result()

    def _store(self, request: StoreSpool, reply: Reply) -> None:
        spool, file = self._find(request.spool_id, reply)
        if spool.appending or request.checksum != spool.checksum:
            raise NodeError("the data of a put do not match their checksum")
        fields = msgspec.structs.asdict(request)
        del fields["spool_id"]
        needle = SpooledNeedle(spool=file, data_length=spool.length, **fields)
        self._place(needle, reply)

    def _place(self, needle: SpooledNeedle, reply: Reply) -> None:
        """Copy the needle into its volume, when that is not busy, and answer."""
        shell, disk = self._shell, self._disk
        if disk.is_flushing(needle.volume_id):
            shell.after_flush(lambda: self._place_later(needle, reply))
            return
        copy = disk.begin_placing(needle)
        shell.hold()

        def placed(put: PlacedPut) -> None:
            shell.release(disk.place(copy, put), lambda results: _answer(reply, results[0]))

        def failed(error: Exception) -> None:
            shell.release(disk.place(copy, None), nothing)
            reply.error(error)

        shell.in_background(copy.run, placed, failed, Work.COPY)

    def _place_later(self, needle: SpooledNeedle, reply: Reply) -> None:
        try:
            self._place(needle, reply)
        except VolumedError as error:
            reply.error(error)

    # Inside

    def _find(self, spool_id: int, reply: Reply) -> tuple[_Spool, File]:
        spool = self._spools.get((reply.sender, spool_id))
        if spool is None or spool.file is None:
            raise NodeError(f"there is no spool {spool_id}")
        spool.used_at = self._clock()
        return spool, spool.file

    def _require_space(self, wanted_bytes: int) -> None:
        """Any thread. Raises `NoFreeSpace`, `DiskError`."""
        try:
            space = self._disk.probe_space()
        except OSError as error:
            raise disk_error("spool an upload", error) from error
        left = space._replace(free_bytes=space.free_bytes - wanted_bytes)
        if left.free_bytes < 0 or is_space_low(left, self._disk.config.free_space_limit):
            raise NoFreeSpace.for_upload()


def _answer(reply: Reply, result: StoreResult) -> None:
    if result.error is None:
        reply.result(SpoolStored(result.outcome, result.size))
    else:
        reply.error(result.error)
