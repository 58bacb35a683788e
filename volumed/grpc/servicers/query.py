"""Query: filter and project the JSON values inside needles (docs/spec/grpc.md 3.30)."""

from __future__ import annotations

import time
from collections.abc import Iterator
from functools import partial

from volumed.codes import Code
from volumed.errors import NeedleDeleted, NeedleNotFound, VolumedError, VolumeNotFound
from volumed.formats.fileid import FileId, parse_batch_file_id
from volumed.formats.needle import Needle, decode_record, record_length
from volumed.grpc.local_volumes import LocalVolumes
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.query.select import Filter, Selection, selected
from volumed.storage.mounted import MountedVolume
from volumed.storage.view import VolumeHandle
from volumed.wire import volume_server_pb2 as pb

__all__ = ["QueryServicer"]

_SELECTIONS_MAX = 1024
_TEXT_MAX = 4096
"""Longest field, selection or value to compare with."""
_STRIPE_BYTES_MAX = 256 << 20


class QueryServicer:
    """Query."""

    def __init__(self, node: GrpcNode) -> None:
        self._volumes = LocalVolumes(node)
        self._limit = node.config.file_size_limit_bytes

    def query(self, request: pb.QueryRequest, call: Call) -> Iterator[pb.QueriedStripe]:
        """A stripe of records for each file; a wrong cookie ends everything quietly."""
        _check(request)
        condition = Filter(request.filter.field, request.filter.operand, request.filter.value)
        selection = Selection(request.selections)
        for text in request.from_file_ids:
            file_id = parse_batch_file_id(text)
            missing = VolumeNotFound.of(file_id.volume_id).text
            needle = self._volumes.use(file_id.volume_id, missing, partial(self._read, file_id))
            if needle.cookie != file_id.cookie:
                return
            # COMPAT: of other formats nothing is told, not even that they are not understood.
            if request.input_serialization.HasField("json_input"):
                yield pb.QueriedStripe(records=_records(needle, condition, selection, call))

    def _read(self, file_id: FileId, handle: VolumeHandle, volume: MountedVolume) -> Needle:
        offset, size = handle.lookup(file_id.key) or (0, 0)
        if not offset:
            raise VolumedError(NeedleNotFound().text)
        if size < 0:
            raise VolumedError(NeedleDeleted().text)
        if not size:
            # COMPAT: nothing is read of an empty object, so any cookie fits.
            return Needle(key=file_id.key, cookie=file_id.cookie)
        if size > self._limit:
            raise VolumedError(f"needle of {size} bytes is over the limit of {self._limit}")
        record = volume.read(offset, record_length(size, volume.version))
        needle = decode_record(record, volume.version, size, offset)
        if needle.is_expired(time.time_ns()):
            raise VolumedError(NeedleNotFound().text)
        return needle


def _check(request: pb.QueryRequest) -> None:
    # The reference process ends on a request without these (rule P9).
    for field in ("filter", "input_serialization"):
        if not request.HasField(field):
            raise VolumedError(f"the query has no {field}", Code.INVALID_ARGUMENT)
    if len(request.selections) > _SELECTIONS_MAX:
        raise VolumedError(f"{len(request.selections)} selections are too many", Code.INVALID_ARGUMENT)
    texts = (request.filter.field, request.filter.value, *request.selections)
    if max(map(len, texts)) > _TEXT_MAX:
        raise VolumedError(f"a text of the query is longer than {_TEXT_MAX}", Code.INVALID_ARGUMENT)


def _records(needle: Needle, condition: Filter, selection: Selection, call: Call) -> bytes:
    records, length = [], 0
    for record in selected(bytes(needle.data), condition, selection):
        records.append(record)
        length += len(record)
        if length > _STRIPE_BYTES_MAX:
            raise VolumedError(f"the answer is longer than {_STRIPE_BYTES_MAX} bytes")
        if call.ended:
            break
    return b"".join(records)
