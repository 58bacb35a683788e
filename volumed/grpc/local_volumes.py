"""Reading mounted volumes for a call, on the call's own thread: a disk that hangs holds up nobody else."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from volumed.bus.tier_calls import DISTANT_BYTES_MAX, ReadDistant
from volumed.errors import StaleGeneration, VolumedError
from volumed.grpc.node import GrpcNode
from volumed.storage.fileio import FileIO
from volumed.storage.mounted import MountedVolume, VolumeState, volume_state
from volumed.storage.view import VolumeHandle

__all__ = ["LocalVolumes"]

T = TypeVar("T")

_ATTEMPTS = 5
"""A volume changes its files when it is compacted or mounted again, which takes minutes the next time."""


class LocalVolumes:
    """The volumes of this node, by id. Any thread."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node
        self._files = FileIO()

    def find(self, volume_id: int, missing_text: str) -> VolumeHandle:
        """Raises `VolumedError` with ``missing_text`` when nobody has it, `DiskUnavailable`."""
        handle = self._node.locate(volume_id)
        if handle is None:
            raise VolumedError(missing_text)
        return handle

    def state(self, handle: VolumeHandle) -> VolumeState:
        """What the volume is now, without waiting for its disk. Raises `StaleGeneration`."""
        return volume_state(handle, self._node.config.offset_width)

    def open(self, handle: VolumeHandle, state: VolumeState) -> MountedVolume:
        """Its files. Raises what `MountedVolume` raises."""
        config = self._node.config
        directory = config.disks[handle.disk_id].idx_directory

        def fetch(offset: int, length: int) -> bytes:
            return self._fetch(handle.disk_id, state, offset, length)

        return MountedVolume(self._files, state, directory, config.offset_width, fetch)

    def _fetch(self, disk_id: int, state: VolumeState, offset: int, length: int) -> bytes:
        """Bytes of a `.dat` in a remote tier, by the worker."""
        pieces, end = [], offset + length
        while offset < end:
            piece_length = min(DISTANT_BYTES_MAX, end - offset)
            request = ReadDistant(state.volume_id, state.record.generation, offset, piece_length)
            pieces.append(self._node.worker(disk_id, request).data)
            offset += piece_length
        return b"".join(pieces)

    def use(self, volume_id: int, missing_text: str, work: Callable[[VolumeHandle, MountedVolume], T]) -> T:
        """The result of ``work``, which is done again when the volume's files were replaced meanwhile."""
        for attempts_left in reversed(range(_ATTEMPTS)):
            handle = self.find(volume_id, missing_text)
            try:
                return work(handle, self.open(handle, self.state(handle)))
            except StaleGeneration:
                if not attempts_left:
                    raise
        raise AssertionError
