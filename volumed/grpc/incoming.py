"""What comes in from peers, as the front sees it: blocks for the worker that writes them."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from volumed.bus.calls import Request
from volumed.bus.copy_calls import CloseCopy, CopyMounted, EndCopiedFile, LiveDeletions, MountCopy, OpenCopy, WriteCopy
from volumed.bus.file_calls import CloseFile, FileClosed, WriteFile
from volumed.bus.staging import StagingArea
from volumed.errors import NodeError, VolumedError
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.storage.throttle import Throttle

__all__ = ["IncomingFile", "IncomingVolume", "StagedCalls", "copy_throttle"]

_log = logging.getLogger(__name__)

_STAGING_BYTES = 2 << 20
_BLOCK_TIMEOUT_S = 120.0
_FINISH_TIMEOUT_S = 3600.0
"""What was written has to reach the disk, and the index to be loaded."""


class StagedCalls:
    """Calls to one worker, and the memory through which blocks go. Used by one thread; raises `VolumedError`."""

    def __init__(self, node: GrpcNode, disk_id: int) -> None:
        self._node = node
        self._disk_id = disk_id
        try:
            self._area = StagingArea(node.config.runtime_dir, _STAGING_BYTES)
        except OSError as error:
            raise NodeError(f"no memory for what is to come: {error}") from error

    def open(self, opening: Callable[[str], Request]) -> Any:
        """The result of the call that tells the worker the path of the memory; closed when it fails."""
        try:
            return self.ask(opening(self._area.path))
        except VolumedError:
            self._area.close()
            raise
        finally:
            self._area.forget_name()

    def ask(self, request: Request, timeout_s: float = _BLOCK_TIMEOUT_S) -> Any:
        """The result of a call."""
        return self._node.worker(self._disk_id, request, timeout_s)

    def hand_over(self, block: bytes, writing: Callable[[int], Request]) -> None:
        """Make the calls that take a block, which may be empty, piece by piece."""
        rest = memoryview(block)
        while True:
            piece, rest = rest[: self._area.size], rest[self._area.size :]
            self._area.fill(piece)
            self.ask(writing(len(piece)))
            if not rest:
                return

    def give_up(self, closing: Request) -> None:
        """Tell the worker, if it can be told, and close: it sees that the memory is abandoned, and a new worker
        removes what is incomplete."""
        try:
            self.ask(closing)
        except VolumedError as error:
            _log.warning("what has come is not removed yet: %s", error.text)
        finally:
            self.close()

    def close(self) -> None:
        """Give the memory back."""
        self._area.close()


class IncomingFile:
    """One file, begun by the call that ``opening`` makes. Used by one thread; raises `VolumedError`."""

    def __init__(self, node: GrpcNode, disk_id: int, opening: Callable[[str], Request]) -> None:
        self._calls = StagedCalls(node, disk_id)
        self._file_id: int = self._calls.open(opening).file_id

    def write(self, block: bytes) -> None:
        """Append; an empty block does nothing."""
        self._calls.hand_over(block, lambda length: WriteFile(self._file_id, length))

    def complete(self) -> FileClosed:
        """The file is durable, under its name, afterwards."""
        closed: FileClosed = self._calls.ask(CloseFile(self._file_id, keep=True), _FINISH_TIMEOUT_S)
        self._calls.close()
        return closed

    def discard(self) -> None:
        """Give it up; a worker that does not answer sees by itself that nobody is there."""
        self._calls.give_up(CloseFile(self._file_id, keep=False))


class IncomingVolume:
    """One volume. A context manager: unless it is kept, nothing of it remains. Used by one thread; the methods raise
    `VolumedError`."""

    def __init__(self, node: GrpcNode, disk_id: int, volume_id: int, collection: str, source: str) -> None:
        self._calls = StagedCalls(node, disk_id)
        self._copy_id: int = self._calls.open(lambda path: OpenCopy(volume_id, collection, source, path)).copy_id
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._kept:
            self._calls.close()
        else:
            self._calls.give_up(CloseCopy(self._copy_id, keep=False))

    def write(self, extension: str, block: bytes) -> None:
        """Append to a file; an empty block creates it."""
        self._calls.hand_over(block, lambda length: WriteCopy(self._copy_id, extension, length))

    def end_file(self, extension: str, modified_at_ns: int) -> None:
        """A file is complete."""
        self._calls.ask(EndCopiedFile(self._copy_id, extension, modified_at_ns))

    def mount(self, dat_bytes: int, idx_bytes: int) -> CopyMounted:
        """All files are complete: check their sizes and mount the volume, on trial."""
        mounted: CopyMounted = self._calls.ask(MountCopy(self._copy_id, dat_bytes, idx_bytes), _FINISH_TIMEOUT_S)
        return mounted

    def live_deletions(self) -> int:
        """Deletions as a source may count them, too (docs/spec/grpc.md 3.33)."""
        count: int = self._calls.ask(LiveDeletions(self._copy_id), _FINISH_TIMEOUT_S).count
        return count

    def keep(self) -> None:
        """It is here for good."""
        self._calls.ask(CloseCopy(self._copy_id, keep=True))
        self._kept = True


def copy_throttle(node: GrpcNode, bytes_per_s: int, call: Call) -> Throttle:
    """For all files of one copy: what the request says, else `-maintenanceMBps`."""
    return Throttle(bytes_per_s if bytes_per_s > 0 else node.config.maintenance_bytes_per_s, call.wait)
