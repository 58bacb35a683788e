"""Files that others send (docs/spec/grpc.md 3.18)."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from volumed.bus import calls
from volumed.bus.file_calls import OpenEcFile, OpenFile
from volumed.erasure.errors import EcVolumeMounted, NoRoomForShards
from volumed.errors import ClientError, NoFreeSpace, VolumedError, VolumeNotFound
from volumed.formats.volumename import check_collection, format_base_name, normalize_disk_type
from volumed.grpc import texts
from volumed.grpc.ec_target import EcTargets
from volumed.grpc.incoming import IncomingFile
from volumed.grpc.node import GrpcNode
from volumed.grpc.servicers.files import check_extension
from volumed.grpc.streams import Call
from volumed.storage.fileio import FileIO
from volumed.storage.site import COPYING
from volumed.wire import volume_server_pb2 as pb

__all__ = ["ReceiveServicer"]

_STAGED = (".dat", ".idx", ".vif")


class ReceiveServicer:
    """ReceiveFile."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node

    def receive_file(self, requests: Iterator[pb.ReceiveFileRequest], call: Call) -> pb.ReceiveFileResponse:  # noqa: ARG002
        """Store the files of the stream; what is wrong with one is told in the response."""
        self._node.refuse_in_maintenance()
        written = 0
        file: IncomingFile | None = None
        try:
            for request in requests:
                match request.WhichOneof("data"):
                    case "info":
                        if file is not None:
                            file.complete()
                        file = None
                        file = self._begin(request.info)
                    case "file_content":
                        if file is None:
                            raise ClientError("file info must be sent first")
                        file.write(request.file_content)
                        written += len(request.file_content)
                    case _:
                        raise ClientError("unknown message type")
            if file is not None:
                file.complete()
                file = None
        except VolumedError as error:
            return pb.ReceiveFileResponse(error=error.text)
        except grpc.RpcError as error:
            raise VolumedError(f"failed to receive stream: {error}") from None
        finally:
            if file is not None:
                file.discard()
        return pb.ReceiveFileResponse(bytes_written=written)

    def _begin(self, info: pb.ReceiveFileInfo) -> IncomingFile:
        """Begin a file on its disk. Raises `VolumedError`."""
        check_extension(info.ext)
        check_collection(info.collection)
        names = info.volume_id, info.collection, info.ext
        if info.is_ec_volume:
            # COMPAT: whatever it is, it goes to the data directory.
            return IncomingFile(self._node, self._place_ec(info), lambda path: OpenEcFile(*names, False, path))
        return IncomingFile(self._node, self._place(info), lambda path: OpenFile(*names, path))

    def _place_ec(self, info: pb.ReceiveFileInfo) -> int:
        """The disk of a file of an erasure coded volume, which must not be mounted. Raises `VolumedError`."""
        targets = EcTargets.look(self._node, info.volume_id)
        mounted_on = targets.mounted_on()
        if mounted_on:
            raise EcVolumeMounted.of(info.volume_id, mounted_on)
        disk_id = targets.choose(info.collection, info.disk_id)
        if disk_id is None:
            raise NoRoomForShards.for_file()
        return disk_id

    def _place(self, info: pb.ReceiveFileInfo) -> int:
        """The disk of a file of a normal volume. Raises `VolumedError`."""
        disk_id = self._node.disk_of(info.volume_id)
        if disk_id is None:
            if not info.disk_type:
                raise VolumeNotFound.of(info.volume_id)
            disk_id = self._staging_disk(info)
        return disk_id

    def _staging_disk(self, info: pb.ReceiveFileInfo) -> int:
        """All files of an absent volume go to one disk."""
        disk_type = normalize_disk_type(info.disk_type)
        base_name = format_base_name(info.collection, info.volume_id)
        files = FileIO()
        for disk_id in self._node.serving_disks():
            disk = self._node.config.disks[disk_id]
            if disk.disk_type == disk_type and any(
                files.exists(f"{directory}/{base_name}{extension}{COPYING}")
                for directory in {disk.directory, disk.idx_directory}
                for extension in _STAGED
            ):
                return disk_id
        try:
            chosen = self._node.supervisor(calls.PlaceCopy(info.volume_id, disk_type, info.file_size))
        except NoFreeSpace:
            raise NoFreeSpace(texts.no_staging_disk(info.disk_type, info.volume_id)) from None
        self._node.supervisor(calls.ConfirmPlacement(info.volume_id))
        return int(chosen.disk_id)
