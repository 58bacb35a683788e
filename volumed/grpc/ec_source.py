"""Files of an erasure coded volume for servers that copy them (docs/spec/erasure-coding.md 5.11).

They are read by the call's own thread: a disk that hangs holds up nobody else.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator

from volumed.config.node import DiskConfig
from volumed.erasure.errors import BadEcConfig
from volumed.erasure.journal import decode_journal, encode_journal
from volumed.erasure.names import JOURNAL
from volumed.errors import VolumedError
from volumed.formats.volumename import format_base_name
from volumed.grpc.volume_files import BLOCK_BYTES, blocks
from volumed.storage.ec_volume import read_geometry
from volumed.storage.fileio import File, FileIO, error_text
from volumed.storage.site import VolumePaths
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcSourceFile"]


class EcSourceFile:
    """One file, as the disks that serve have it."""

    def __init__(self, files: FileIO, found: list[File]) -> None:
        """``found`` on one disk or several, never empty."""
        self._files = files
        self._found = found

    @classmethod
    def find(cls, disks: Iterable[DiskConfig], request: pb.CopyFileRequest) -> EcSourceFile | None:
        """None when no disk has it. Raises `VolumedError`."""
        files = FileIO()
        found = []
        for path in _paths(files, disks, request):
            try:
                with contextlib.suppress(FileNotFoundError):
                    found.append(files.open(path, writable=False))
            except OSError as error:
                raise VolumedError(f"open {path}: {error_text(error)}") from None
        return cls(files, found) if found else None

    def messages(self, extension: str, stop: int) -> Iterator[pb.CopyFileResponse]:
        """From the start to ``stop``; the first one tells the time of the last change. Raises `VolumedError`."""
        chosen = self._chosen()
        message = pb.CopyFileResponse(modified_ts_ns=self._files.mtime_ns(chosen))
        is_first = True
        for block in self._journal(stop) if extension == JOURNAL else blocks(self._files, chosen, 0, stop):
            message.file_content = block
            yield message
            message, is_first = pb.CopyFileResponse(), False
        if is_first:
            yield message

    def _chosen(self) -> File:
        """The last one, as in the reference; an empty one only if there is no other (R5)."""
        return next((file for file in reversed(self._found) if self._files.size(file)), self._found[-1])

    def _journal(self, stop: int) -> Iterator[bytes]:
        """What any disk has deleted: each has a journal of its own."""
        try:
            contents = [self._files.read_at(file, 0, self._files.size(file)) for file in self._found]
        except OSError as error:
            raise VolumedError(f"read {self._found[0].path}: {error_text(error)}") from None
        keys = dict.fromkeys(key for content in contents for key in decode_journal(content))
        whole = encode_journal(keys)[:stop]
        for start in range(0, len(whole), BLOCK_BYTES):
            yield whole[start : start + BLOCK_BYTES]


def _paths(files: FileIO, disks: Iterable[DiskConfig], request: pb.CopyFileRequest) -> Iterable[str]:
    """Where the file may be; what is better comes later.

    DEVIATE: the reference takes no notice of encode runs. One older than the latest, as of a disk that was away while
    the volume was encoded anew, takes no part (R15). Disks of which nobody can tell do, if no other has the file.
    """
    base_name = format_base_name(request.collection, request.volume_id)
    places = [VolumePaths(disk.directory, disk.idx_directory, base_name) for disk in disks]
    runs = {place: _encode_run(files, place) for place in places}
    latest = max(runs.values(), default=0)
    fitting = sorted((place for place, run in runs.items() if run in (0, latest)), key=runs.__getitem__)
    return dict.fromkeys(path for place in fitting for path in (place.data(request.ext), place.index(request.ext)))


def _encode_run(files: FileIO, paths: VolumePaths) -> int:
    """Identity of what a disk has; 0: unknown."""
    try:
        return read_geometry(files, paths).encode_ts_ns
    except (BadEcConfig, OSError):
        return 0
