"""Files that others send (docs/spec/grpc.md 3.18)."""

from __future__ import annotations

from collections.abc import Iterator

import grpc

from volumed.bus import calls
from volumed.bus.file_calls import CloseFile, OpenFile, WriteFile
from volumed.errors import ClientError, Code, NoFreeSpace, VolumedError, VolumeNotFound
from volumed.formats.volumename import check_collection, format_base_name, normalize_disk_type
from volumed.grpc import texts
from volumed.grpc.incoming import StagedCalls
from volumed.grpc.node import GrpcNode
from volumed.grpc.servicers.files import check_extension
from volumed.grpc.streams import Call
from volumed.storage.fileio import FileIO
from volumed.storage.site import COPYING
from volumed.wire import volume_server_pb2 as pb

__all__ = ["ReceiveServicer"]

_FINISH_TIMEOUT_S = 600.0
_STAGED = (".dat", ".idx", ".vif")


class ReceiveServicer:
    """ReceiveFile."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node

    def receive_file(self, requests: Iterator[pb.ReceiveFileRequest], call: Call) -> pb.ReceiveFileResponse:  # noqa: ARG002
        """Store the files of the stream; what is wrong with one is told in the response."""
        self._node.refuse_in_maintenance()
        written = 0
        file: _Incoming | None = None
        try:
            for request in requests:
                match request.WhichOneof("data"):
                    case "info":
                        if file is not None:
                            file.complete()
                        file = None
                        file = _Incoming(self._node, *self._place(request.info))
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

    def _place(self, info: pb.ReceiveFileInfo) -> tuple[int, pb.ReceiveFileInfo]:
        """The disk of a file. Raises `VolumedError`."""
        check_extension(info.ext)
        check_collection(info.collection)
        if info.is_ec_volume:
            raise VolumedError(texts.not_implemented("ReceiveFile of erasure-coded volumes"), Code.UNIMPLEMENTED)
        disk_id = self._node.disk_of(info.volume_id)
        if disk_id is None:
            if not info.disk_type:
                raise VolumeNotFound.of(info.volume_id)
            disk_id = self._staging_disk(info)
        return disk_id, info

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


class _Incoming:
    """One file, begun. Raises `VolumedError`."""

    def __init__(self, node: GrpcNode, disk_id: int, info: pb.ReceiveFileInfo) -> None:
        self._calls = StagedCalls(node, disk_id)
        self._file_id: int = self._calls.open(
            lambda path: OpenFile(info.volume_id, info.collection, info.ext, path)
        ).file_id

    def write(self, block: bytes) -> None:
        self._calls.hand_over(block, lambda length: WriteFile(self._file_id, length))

    def complete(self) -> None:
        """The file is durable afterwards."""
        self._calls.ask(CloseFile(self._file_id, keep=True), _FINISH_TIMEOUT_S)
        self._calls.close()

    def discard(self) -> None:
        """Give it up; a worker that does not answer sees by itself that nobody is there."""
        self._calls.give_up(CloseFile(self._file_id, keep=False))
