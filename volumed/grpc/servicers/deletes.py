"""BatchDelete (docs/spec/grpc.md 3.1): one result per file id, in order, never failing as a whole."""

from __future__ import annotations

from collections import defaultdict

from volumed.bus import calls
from volumed.errors import DiskUnavailable, FormatError, VolumedError, VolumeNotFound
from volumed.formats.fileid import parse_batch_file_id
from volumed.grpc.ec_batch import delete_in_shards
from volumed.grpc.node import GrpcNode
from volumed.wire import volume_server_pb2 as pb

__all__ = ["DeletesServicer"]

_BAD_REQUEST, _NOT_FOUND, _FAILED = 400, 404, 500
_BATCH_TIMEOUT_S = 120.0


class DeletesServicer:
    """BatchDelete."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node

    def batch_delete(self, request: pb.BatchDeleteRequest) -> pb.BatchDeleteResponse:
        """Delete every needle named; the needles of one disk go to its worker in one call, those in shards go first."""
        self._node.refuse_in_maintenance()
        results: list[calls.NeedleDeletion | None] = [None] * len(request.file_ids)
        per_disk: dict[int, list[tuple[int, calls.DeleteNeedle]]] = defaultdict(list)
        for index, text in enumerate(request.file_ids):
            try:
                file_id = parse_batch_file_id(text, with_delta=not request.skip_cookie_check)
            except FormatError as error:
                results[index] = calls.NeedleDeletion(_BAD_REQUEST, error.text)
                continue
            cookie = None if request.skip_cookie_check else file_id.cookie
            if volume := self._node.ec.find(file_id.volume_id):
                results[index] = delete_in_shards(self._node.ec, volume, file_id.key, cookie)
                continue
            disk = self._disk_of(file_id.volume_id, request.skip_cookie_check)
            if isinstance(disk, calls.NeedleDeletion):
                results[index] = disk
                continue
            per_disk[disk].append((index, calls.DeleteNeedle(file_id.volume_id, file_id.key, cookie)))
        for disk_id, needles in per_disk.items():
            for (index, _), result in zip(needles, self._delete_on(disk_id, needles), strict=True):
                results[index] = result
        return pb.BatchDeleteResponse(
            results=[
                pb.DeleteResult(file_id=text, status=done.status, error=done.error, size=done.size)
                for text, done in zip(request.file_ids, results, strict=True)
                if done is not None
            ]
        )

    def _disk_of(self, volume_id: int, skip_cookie_check: bool) -> int | calls.NeedleDeletion:
        """The disk that has the volume, or why nothing is deleted."""
        try:
            disk_id = self._node.disk_of(volume_id)
        except DiskUnavailable as error:
            return calls.NeedleDeletion(_FAILED, error.text)
        return self._missing(volume_id, skip_cookie_check) if disk_id is None else disk_id

    def _delete_on(self, disk_id: int, needles: list[tuple[int, calls.DeleteNeedle]]) -> list[calls.NeedleDeletion]:
        call = calls.DeleteNeedles([needle for _, needle in needles])
        try:
            results: list[calls.NeedleDeletion] = self._node.worker(disk_id, call, _BATCH_TIMEOUT_S).results
        except VolumedError as error:
            return [calls.NeedleDeletion(_FAILED, error.text)] * len(needles)
        return results

    def _missing(self, volume_id: int, skip_cookie_check: bool) -> calls.NeedleDeletion:
        if skip_cookie_check:
            address = f"{self._node.config.ip}:{self._node.config.port}"
            return calls.NeedleDeletion(_FAILED, VolumeNotFound.on_server(volume_id, address).text)
        return calls.NeedleDeletion(_NOT_FOUND, VolumeNotFound.of(volume_id).text)
