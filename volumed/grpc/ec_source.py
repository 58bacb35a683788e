"""Files of an erasure coded volume for servers that copy them (docs/spec/erasure-coding.md 5.11).

They are read by the call's own thread: a disk that hangs holds up nobody else.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Collection, Iterable, Iterator

from volumed.config.node import DiskConfig
from volumed.erasure.errors import BadEcConfig
from volumed.erasure.index import folded
from volumed.erasure.journal import decode_journal, encode_journal
from volumed.erasure.names import INDEX, JOURNAL
from volumed.errors import VolumedError
from volumed.formats.volumename import format_base_name
from volumed.grpc.volume_files import BLOCK_BYTES, blocks
from volumed.storage.ec_volume import read_geometry
from volumed.storage.fileio import File, FileIO, error_text
from volumed.storage.site import VolumePaths
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcSourceFile"]

_log = logging.getLogger(__name__)


class EcSourceFile:
    """One file, as the disks that serve have it."""

    def __init__(self, files: FileIO, found: list[File], journal: bytes | None = None) -> None:
        """``found`` on one disk or several, never empty; ``journal`` is what is sent of it instead, None: the last."""
        self._files = files
        self._found = found
        self._journal = journal

    @classmethod
    def find(cls, disks: Iterable[DiskConfig], request: pb.CopyFileRequest, offset_width: int) -> EcSourceFile | None:
        """None when no disk has it. Raises `VolumedError`."""
        files = FileIO()
        places, known = _places(files, disks, request)
        found = _opened(files, places, request.ext)
        if request.ext != JOURNAL:
            return cls(files, found) if found else None
        indexes = _opened(files, known, INDEX)
        deleted = _deleted(files, found, indexes, offset_width)
        # A journal that was folded in may be gone; who asks has to learn of what it said.
        sources = found or (indexes if deleted else [])
        return cls(files, sources, encode_journal(deleted)) if sources else None

    def messages(self, stop: int) -> Iterator[pb.CopyFileResponse]:
        """From the start to ``stop``; the first one tells the time of the last change. Raises `VolumedError`."""
        chosen = self._chosen()
        message = pb.CopyFileResponse(modified_ts_ns=self._files.mtime_ns(chosen))
        is_first = True
        for block in self._blocks(chosen, stop):
            message.file_content = block
            yield message
            message, is_first = pb.CopyFileResponse(), False
        if is_first:
            yield message

    def _chosen(self) -> File:
        """The last one, as in the reference; an empty one only if there is no other (R5)."""
        return next((file for file in reversed(self._found) if self._files.size(file)), self._found[-1])

    def _blocks(self, chosen: File, stop: int) -> Iterator[bytes]:
        if self._journal is None:
            return blocks(self._files, chosen, 0, stop)
        whole = self._journal[:stop]
        return (whole[start : start + BLOCK_BYTES] for start in range(0, len(whole), BLOCK_BYTES))


def _deleted(files: FileIO, journals: list[File], indexes: list[File], offset_width: int) -> Collection[int]:
    """What any disk has deleted: each has a journal of its own. Raises `VolumedError`: a journal cannot be read.

    DEVIATE: what was folded into an index counts too (R23).
    """
    keys: dict[int, None] = {}
    for file in journals:
        try:
            keys |= dict.fromkeys(decode_journal(files.read_at(file, 0, files.size(file))))
        except OSError as error:
            raise VolumedError(f"read {file.path}: {error_text(error)}") from None
    for file in indexes:
        try:
            keys |= dict.fromkeys(folded(files, file, offset_width))
        except OSError as error:
            # A copy of shards that others need must not fail for it.
            _log.error("%s: deletions that it alone knows are left out: %s", file.path, error_text(error))
    return keys


def _opened(files: FileIO, places: Iterable[VolumePaths], extension: str) -> list[File]:
    """What there is of it, in this order. Raises `VolumedError`."""
    found = []
    for path in dict.fromkeys(path for place in places for path in place.places(extension)):
        try:
            with contextlib.suppress(FileNotFoundError):
                found.append(files.open(path, writable=False))
        except OSError as error:
            raise VolumedError(f"open {path}: {error_text(error)}") from None
    return found


def _places(
    files: FileIO, disks: Iterable[DiskConfig], request: pb.CopyFileRequest
) -> tuple[list[VolumePaths], list[VolumePaths]]:
    """Where the file may be, what is better comes later; and those of them that are of the latest run for certain.

    DEVIATE: the reference takes no notice of encode runs. One older than the latest, as of a disk that was away while
    the volume was encoded anew, takes no part (R15). Disks of which nobody can tell do, if no other has the file.
    """
    base_name = format_base_name(request.collection, request.volume_id)
    places = [VolumePaths(disk.directory, disk.idx_directory, base_name) for disk in disks]
    runs = {place: _encode_run(files, place) for place in places}
    latest = max(runs.values(), default=0)
    fitting = sorted((place for place, run in runs.items() if run in (0, latest)), key=runs.__getitem__)
    return fitting, [place for place in fitting if runs[place] == latest]


def _encode_run(files: FileIO, paths: VolumePaths) -> int:
    """Identity of what a disk has; 0: unknown."""
    try:
        return read_geometry(files, paths).encode_ts_ns
    except (BadEcConfig, OSError):
        return 0
