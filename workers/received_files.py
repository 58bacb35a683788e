"""Single files on their way in (``volumed.bus.file_calls``, docs/spec/grpc.md 3.18)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from volumed.bus.file_calls import CloseFile, FileClosed, FileOpened, OpenEcFile, OpenFile, WriteFile
from volumed.bus.router import Reply
from volumed.erasure.names import INDEX
from volumed.errors import VolumeBusy, VolumedError
from volumed.storage.disk import Disk
from volumed.storage.received_file import ReceivedFile, check_ec_replaceable, check_replaceable
from volumed.storage.site import COPYING
from workers.arrivals import Arrival, Arrivals
from workers.ec_volumes import EcVolumes
from workers.host import Shell, Work
from workers.turns import End

__all__ = ["ReceivedFiles"]


class _File(Arrival):
    """One file."""

    def __init__(self, request: OpenFile | OpenEcFile, received: ReceivedFile) -> None:
        super().__init__(received.path, request.staging_path)
        self.received = received
        self.coded = request if isinstance(request, OpenEcFile) else None


class ReceivedFiles(Arrivals[_File]):
    """The files of one disk."""

    def __init__(self, disk: Disk, shell: Shell, ec_volumes: EcVolumes) -> None:
        super().__init__(shell)
        self._disk = disk
        self._ec_volumes = ec_volumes
        self.handlers: dict[type[Any], Callable[[Any, Reply], None]] = {
            OpenFile: lambda request, reply: self._open(request, self._path(request), reply),
            OpenEcFile: lambda request, reply: self._open(request, self._ec_path(request), reply),
            WriteFile: self._write,
            CloseFile: self._end,
        }

    def _open(self, request: OpenFile | OpenEcFile, path: str, reply: Reply) -> None:
        file = _File(request, ReceivedFile(self._disk.site.files, path))
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

    def _ec_path(self, request: OpenEcFile) -> str:
        if request.volume_id in self._disk.volumes:
            check_ec_replaceable(request.volume_id, request.extension)
        paths = self._disk.site.paths(request.collection, request.volume_id)
        path = paths.index(request.extension) if request.in_index else paths.data(request.extension)
        if any(file.received.path == path for file in self._arrivals.values()):
            raise VolumeBusy(f"{path} is being received")
        return path

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

        def settled(deletions: list[int]) -> None:
            self._forget(request.file_id, file)
            reply.result(FileClosed(deletions))

        if file.coded is None:
            self._work(file, partial(_complete, file.received), settled, reply.error, Work.COPY)
        else:
            self._settle_coded(file, file.coded, settled, reply.error)

    def _settle_coded(
        self,
        file: _File,
        request: OpenEcFile,
        settled: Callable[[list[int]], None],
        failed: Callable[[Exception], None],
    ) -> None:
        """In the volume's turn: who works with its files meanwhile does so to its end."""
        volume_id, file.busy = request.volume_id, True

        def begin(end: End) -> None:
            def broken(error: Exception) -> None:
                end()
                failed(error)

            def done(deletions: list[int]) -> None:
                def told() -> None:
                    end()
                    settled(deletions)

                self._ec_volumes.files_replaced(volume_id, told, broken)

            work = self._index_settling(file.received, request) if request.extension == INDEX else None
            self._work(file, work or partial(_complete, file.received), done, broken, Work.COPY)

        self._ec_volumes.turns.take(volume_id, begin)

    def _index_settling(self, received: ReceivedFile, request: OpenEcFile) -> Callable[[], list[int]]:
        from volumed.storage.ec_arrival import settle_index

        paths = self._disk.site.paths(request.collection, request.volume_id)
        is_mounted = request.volume_id in self._ec_volumes.volumes
        return partial(settle_index, self._disk.site, received, paths, is_mounted=is_mounted)

    def _remove(self, arrival: _File, ended: Callable[[object], None]) -> None:
        self._work(arrival, arrival.received.discard, ended, ended)


def _complete(received: ReceivedFile) -> list[int]:
    received.complete()
    return []
