"""Single files on their way in (``volumed.bus.file_calls``, docs/spec/grpc.md 3.18)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from volumed.bus.file_calls import CloseFile, FileOpened, OpenFile, WriteFile
from volumed.bus.router import Reply
from volumed.errors import VolumeBusy, VolumedError
from volumed.storage.disk import Disk
from volumed.storage.received_file import ReceivedFile, check_replaceable
from volumed.storage.site import COPYING
from workers.arrivals import Arrival, Arrivals
from workers.host import Shell, Work

__all__ = ["ReceivedFiles"]


class _File(Arrival):
    """One file."""

    def __init__(self, request: OpenFile, received: ReceivedFile) -> None:
        super().__init__(received.path, request.staging_path)
        self.received = received


class ReceivedFiles(Arrivals[_File]):
    """The files of one disk."""

    def __init__(self, disk: Disk, shell: Shell) -> None:
        super().__init__(shell)
        self._disk = disk
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            OpenFile: self._open,
            WriteFile: self._write,
            CloseFile: self._end,
        }

    def _open(self, request: OpenFile, reply: Reply) -> None:
        file = _File(request, ReceivedFile(self._disk.site.files, self._path(request)))
        number = self._add(file)

        def failed(error: Exception) -> None:
            self._discard(number, file)
            reply.error(VolumedError(f"failed to create file: {error}"))

        self._work(file, file.received.create, lambda _: reply.result(FileOpened(number)), failed)

    def _path(self, request: OpenFile) -> str:
        volume = self._disk.volumes.get(request.volume_id)
        if volume is not None:
            check_replaceable(request.volume_id, request.extension)
            return volume.paths.data(request.extension)
        if request.volume_id in self._disk.arriving:
            raise VolumeBusy.arriving(request.volume_id)
        paths = self._disk.site.paths(request.collection, request.volume_id)
        extension = request.extension + COPYING
        return paths.index(extension) if request.extension == ".idx" else paths.data(extension)

    def _write(self, request: WriteFile, reply: Reply) -> None:
        file = self._find(request.file_id)
        block = file.staged.view(request.length)

        def failed(error: Exception) -> None:
            reply.error(VolumedError(f"failed to write file: {error}"))

        self._work(file, lambda: file.received.write(block), lambda _: reply.result(), failed)

    def _end(self, request: CloseFile, reply: Reply) -> None:
        if not request.keep:
            self._close(request.file_id, reply)
            return
        file = self._find(request.file_id)

        def done(_: None) -> None:
            self._forget(request.file_id, file)
            reply.result()

        self._work(file, file.received.complete, done, reply.error, Work.COPY)

    def _remove(self, arrival: _File, ended: Callable[[object], None]) -> None:
        self._work(arrival, arrival.received.discard, ended, ended)
