"""The node's state file, ``state.pb``: maintenance mode and its version (docs/spec/grpc.md 4)."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from volumed.bus.calls import ServerState
from volumed.errors import NodeError, VolumedError

__all__ = ["StateFile"]

_NAME = "state.pb"
_MODE = 0o644


class StateFile:
    """The state of the node, kept in the index directory of its first disk.

    That disk may hang: `load` and `replace` block and are called on a thread of their own; `current` never does.
    """

    def __init__(self, directory: str) -> None:
        self._path = Path(directory) / _NAME
        self._lock = threading.Lock()
        self._current = ServerState()

    @property
    def current(self) -> ServerState:
        return self._current

    def load(self) -> None:
        """Read the file; absent means the default state. Raises `NodeError` when it cannot be parsed.

        DEVIATE: a file that cannot be *read* counts as absent, since a dead first disk must not stop the others.
        """
        try:
            content = self._path.read_bytes()
        except OSError:
            return
        from google.protobuf.message import DecodeError

        from volumed.wire.volume_server_pb2 import VolumeServerState

        try:
            message = VolumeServerState.FromString(content)
        except DecodeError as error:
            raise NodeError(f"cannot parse {self._path}: {error}") from None
        self._current = ServerState(message.maintenance, message.version)

    def replace(self, wanted: ServerState) -> ServerState:
        """Store a new state with the next version and return it. Raises `VolumedError` when ``wanted`` was made from
        another version, or the file cannot be written; then nothing changed."""
        with self._lock:
            if wanted.version != self._current.version:
                raise VolumedError(
                    f"version mismatch for VolumeServerState (got {self._current.version}, want {wanted.version})"
                )
            changed = ServerState(wanted.maintenance, wanted.version + 1)
            try:
                self._write(changed)
            except OSError as error:
                raise VolumedError(f"cannot write {self._path}: {error.strerror}") from None
            self._current = changed
            return changed

    def _write(self, state: ServerState) -> None:
        from volumed.wire.volume_server_pb2 import VolumeServerState

        message = VolumeServerState(maintenance=state.maintenance, version=state.version)
        fresh = self._path.with_suffix(".pb.new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        try:
            os.write(fd, message.SerializeToString())
            os.fsync(fd)
        finally:
            os.close(fd)
        os.rename(fresh, self._path)
        _sync_directory(self._path.parent)


def _sync_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
