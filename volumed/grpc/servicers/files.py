"""Volumes as files, for peers that copy them (docs/spec/grpc.md 3.8, 3.9, 3.17)."""

from __future__ import annotations

import re
from collections.abc import Iterator

from volumed.bus.copy_calls import VolumeFilesView
from volumed.errors import FormatError, StaleGeneration, VolumedError
from volumed.formats.numbers import quote
from volumed.formats.replication import ReplicaPlacement
from volumed.formats.ttl import Ttl
from volumed.formats.volumename import check_collection
from volumed.grpc import texts
from volumed.grpc.ec_source import EcSourceFile
from volumed.grpc.local_volumes import LocalVolumes
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.grpc.volume_files import VolumeFiles, blocks
from volumed.grpc.volume_info import volume_info_message
from volumed.storage.fileio import File, error_text
from volumed.storage.mounted import MountedVolume
from volumed.wire import volume_server_pb2 as pb

__all__ = ["FilesServicer", "check_extension"]

_EXTENSION = re.compile(r"\.[0-9A-Za-z]+")
_ANY_REVISION = (1 << 32) - 1
_ATTEMPTS = 3
"""A vacuum replaces the files of a volume, but not soon again."""


def check_extension(extension: str) -> None:
    """Refuse what is not a dot and letters or digits. Raises `FormatError`."""
    if not _EXTENSION.fullmatch(extension):
        raise FormatError(f"invalid file extension {quote(extension)}")


class FilesServicer:
    """CopyFile, VolumeIncrementalCopy, ReadVolumeFileStatus, VolumeSyncStatus."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node
        self._volumes = LocalVolumes(node)

    def volume_sync_status(self, request: pb.VolumeSyncStatusRequest) -> pb.VolumeSyncStatusResponse:
        """What a follower of the volume compares."""
        view = VolumeFiles.describe(self._node, request.volume_id).view
        return pb.VolumeSyncStatusResponse(
            volume_id=request.volume_id,
            collection=view.collection,
            replication=str(ReplicaPlacement.from_byte(view.replica_placement)),
            ttl=str(Ttl.from_u32(view.ttl)),
            tail_offset=view.dat_end,
            compact_revision=view.compaction_revision,
            idx_file_size=view.idx_bytes,
            version=view.version,
        )

    def read_volume_file_status(self, request: pb.ReadVolumeFileStatusRequest) -> pb.ReadVolumeFileStatusResponse:
        """Sizes and times as of what has been written."""
        view = VolumeFiles.describe(self._node, request.volume_id).view
        return pb.ReadVolumeFileStatusResponse(
            volume_id=request.volume_id,
            idx_file_timestamp_seconds=view.modified_at_s,
            idx_file_size=view.idx_bytes,
            dat_file_timestamp_seconds=view.modified_at_s,
            dat_file_size=view.dat_end,
            file_count=view.file_count,
            compaction_revision=view.compaction_revision,
            collection=view.collection,
            disk_type=view.disk_type,
            volume_info=volume_info_message(view.vif),
            version=view.version,
        )

    def copy_file(self, request: pb.CopyFileRequest, call: Call) -> Iterator[pb.CopyFileResponse]:  # noqa: ARG002
        """One file from its start to ``stop_offset``."""
        check_extension(request.ext)
        check_collection(request.collection)
        stop = request.stop_offset if request.stop_offset < 1 << 63 else 0
        may_be_missing = request.ignore_source_file_not_found
        if request.is_ec_volume:
            yield from self._ec_messages(request, stop)
            return
        files, file = self._open(request, may_be_missing or not stop)
        if file is None:
            return
        message = pb.CopyFileResponse(modified_ts_ns=files.io.mtime_ns(file))
        sent = False
        for block in blocks(files.io, file, 0, min(stop, files.length(request.ext, file))):
            message.file_content = block
            yield message
            message = pb.CopyFileResponse()
            sent = True
        if not sent:
            yield message

    def volume_incremental_copy(
        self,
        request: pb.VolumeIncrementalCopyRequest,
        call: Call,  # noqa: ARG002
    ) -> Iterator[pb.VolumeIncrementalCopyResponse]:
        """`.dat` from the first record that is newer to the end of this moment."""
        since_ns, missing = request.since_ns, texts.no_such_volume_id(request.volume_id)
        volume, start = self._volumes.use(request.volume_id, missing, lambda _, volume: _first_newer(volume, since_ns))
        if start is not None:
            for block in blocks(volume.files, volume.dat, start, volume.state.end):
                yield pb.VolumeIncrementalCopyResponse(file_content=block)

    def _ec_messages(self, request: pb.CopyFileRequest, stop: int) -> Iterator[pb.CopyFileResponse]:
        disks = [self._node.config.disks[disk_id] for disk_id in self._node.serving_disks()]
        found = EcSourceFile.find(disks, request, self._node.config.offset_width)
        if found is not None:
            yield from found.messages(stop)
            return
        self._node.certain_disks()  # what is away for a moment is not missing
        if not request.ignore_source_file_not_found:
            raise VolumedError(texts.no_such_ec_volume(request.volume_id))

    def _open(self, request: pb.CopyFileRequest, may_be_missing: bool) -> tuple[VolumeFiles, File | None]:
        """The volume, and the file as it is now, None when it is missing and may be."""
        for _ in range(_ATTEMPTS):
            files = VolumeFiles.describe(self._node, request.volume_id)
            _check_revision(request, files.view)
            try:
                return files, files.open(request.ext)
            except StaleGeneration:
                continue
            except FileNotFoundError as error:
                if may_be_missing:
                    return files, None
                raise VolumedError(f"open {files.path(request.ext)}: {error_text(error)}") from None
            except OSError as error:
                raise VolumedError(f"open {files.path(request.ext)}: {error_text(error)}") from None
        raise VolumedError(texts.was_compacted(request.volume_id))


def _first_newer(volume: MountedVolume, since_ns: int) -> tuple[MountedVolume, int | None]:
    """The volume, and where in it the first record begins that is newer."""
    try:
        return volume, volume.first_newer(since_ns)
    except StaleGeneration:
        raise
    except VolumedError as error:
        raise VolumedError(texts.not_located(since_ns, error.text)) from None


def _check_revision(request: pb.CopyFileRequest, view: VolumeFilesView) -> None:
    if request.compaction_revision not in (view.compaction_revision, _ANY_REVISION):
        raise VolumedError(texts.was_compacted(request.volume_id))
