"""A volume that comes in from a peer, as the front sees it: blocks for the worker that writes them."""

from __future__ import annotations

import logging
from types import TracebackType
from typing import Self

from volumed.bus.copy_calls import CloseCopy, CopyMounted, EndCopiedFile, LiveDeletions, MountCopy, OpenCopy, WriteCopy
from volumed.bus.staging import StagingArea
from volumed.errors import NodeError, VolumedError
from volumed.grpc.node import GrpcNode

__all__ = ["IncomingVolume"]

_log = logging.getLogger(__name__)

_STAGING_BYTES = 2 << 20
_BLOCK_TIMEOUT_S = 120.0
_FINISH_TIMEOUT_S = 3600.0
"""What was written has to reach the disk, and the index to be loaded."""


class IncomingVolume:
    """One volume. A context manager: unless it is kept, nothing of it remains. Used by one thread."""

    def __init__(self, node: GrpcNode, disk_id: int, volume_id: int, collection: str, source: str) -> None:
        """Raises `VolumedError`."""
        self._node = node
        self._disk_id = disk_id
        self._volume_id = volume_id
        try:
            self._area = StagingArea(node.config.runtime_dir, _STAGING_BYTES)
        except OSError as error:
            raise NodeError(f"no memory for a copy: {error}") from error
        try:
            opening = OpenCopy(volume_id, collection, source, self._area.path)
            self._copy_id: int = node.worker(disk_id, opening, _BLOCK_TIMEOUT_S).copy_id
            self._area.forget_name()
        except VolumedError:
            self._area.close()
            raise
        self._kept = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if not self._kept:
                self._node.worker(self._disk_id, CloseCopy(self._copy_id, keep=False), _BLOCK_TIMEOUT_S)
        except VolumedError as failure:
            # The worker sees that the staging area is abandoned; a new one removes incomplete volumes.
            _log.warning("volume %d: what was copied is not removed yet: %s", self._volume_id, failure.text)
        finally:
            self._area.close()

    def write(self, extension: str, block: bytes) -> None:
        """Append to a file; an empty block creates it."""
        rest = memoryview(block)
        while True:
            piece, rest = rest[: self._area.size], rest[self._area.size :]
            self._area.fill(piece)
            self._node.worker(self._disk_id, WriteCopy(self._copy_id, extension, len(piece)), _BLOCK_TIMEOUT_S)
            if not rest:
                return

    def end_file(self, extension: str, modified_at_ns: int) -> None:
        """A file is complete."""
        self._node.worker(self._disk_id, EndCopiedFile(self._copy_id, extension, modified_at_ns), _BLOCK_TIMEOUT_S)

    def mount(self, dat_bytes: int, idx_bytes: int) -> CopyMounted:
        """All files are complete: check their sizes and mount the volume, on trial."""
        mounted: CopyMounted = self._node.worker(
            self._disk_id, MountCopy(self._copy_id, dat_bytes, idx_bytes), _FINISH_TIMEOUT_S
        )
        return mounted

    def live_deletions(self) -> int:
        """Deletions as a source may count them, too (docs/spec/grpc.md 3.33)."""
        count: int = self._node.worker(self._disk_id, LiveDeletions(self._copy_id), _FINISH_TIMEOUT_S).count
        return count

    def keep(self) -> None:
        """It is here for good."""
        self._node.worker(self._disk_id, CloseCopy(self._copy_id, keep=True), _BLOCK_TIMEOUT_S)
        self._kept = True
