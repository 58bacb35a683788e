"""Single needles and raw records (docs/spec/grpc.md 3.19-3.22, 3.31)."""

from __future__ import annotations

import logging
from collections.abc import Iterator

from volumed.bus.record_calls import ForeignRecord, StoreRecords
from volumed.codes import Code
from volumed.erasure.errors import NoSuchEcNeedle
from volumed.errors import (
    CorruptNeedle,
    DiskError,
    NeedleDeleted,
    NeedleNotFound,
    ReadOnlyVolume,
    VolumedError,
    VolumeNotFound,
)
from volumed.formats.blob import check_blob
from volumed.formats.checksum import masked
from volumed.formats.needle import (
    HEADER_LENGTH,
    PAGED_HEAD_LENGTH,
    Needle,
    decode_body,
    decode_body_meta,
    decode_header,
    decode_paged_head,
    decode_record,
    record_length,
)
from volumed.grpc import texts
from volumed.grpc.local_volumes import LocalVolumes
from volumed.grpc.node import GrpcNode
from volumed.grpc.profile import Profile
from volumed.grpc.streams import Call
from volumed.shards.view import NodeEcVolume
from volumed.storage.mounted import MountedVolume
from volumed.storage.record_scan import BlockReader, RecordHeader, scan_headers
from volumed.storage.view import VolumeHandle
from volumed.wire import volume_server_pb2 as pb

__all__ = ["NeedlesServicer"]

_log = logging.getLogger(__name__)

_CHECKSUM_LENGTH = 4
_STORE_TIMEOUT_S = 120.0


class NeedlesServicer:
    """ReadNeedleBlob, ReadNeedleMeta, WriteNeedleBlob, VolumeNeedleStatus, ReadAllNeedles."""

    def __init__(self, node: GrpcNode, profile: Profile) -> None:
        self._node = node
        self._profile = profile
        self._volumes = LocalVolumes(node)

    def read_needle_blob(self, request: pb.ReadNeedleBlobRequest) -> pb.ReadNeedleBlobResponse:
        """A whole record, whatever it is."""

        def read(_: VolumeHandle, volume: MountedVolume) -> bytes:
            if request.size < 0:
                raise DiskError(texts.invalid_needle_size(request.size))
            if request.offset < 0:
                raise DiskError(texts.negative_offset(volume.dat.path))
            return volume.read(request.offset, record_length(request.size, volume.version))

        try:
            missing = texts.no_such_volume_id(request.volume_id)
            blob = self._volumes.use(request.volume_id, missing, read)
        except DiskError as error:
            raise VolumedError(texts.read_blob_failed(request.offset, request.size, error.text)) from None
        return pb.ReadNeedleBlobResponse(needle_blob=blob)

    def read_needle_meta(self, request: pb.ReadNeedleMetaRequest) -> pb.ReadNeedleMetaResponse:
        """What a record says of itself, without its data."""
        needle = self._volumes.use(
            request.volume_id,
            texts.no_volume_for_meta(request.volume_id),
            lambda _, volume: _read_meta(volume, request.offset, max(request.size, 0)),
        )
        return pb.ReadNeedleMetaResponse(
            cookie=needle.cookie,
            last_modified=needle.last_modified,
            crc=masked(needle.checksum),
            ttl=str(needle.ttl),
            append_at_ns=needle.append_at_ns,
        )

    def write_needle_blob(self, request: pb.WriteNeedleBlobRequest) -> pb.WriteNeedleBlobResponse:
        """Append a raw record; nothing of it is verified but its lengths."""
        self._node.refuse_in_maintenance()
        volume_id, key, size, blob = request.volume_id, request.needle_id, request.size, request.needle_blob
        missing = texts.no_such_volume_id(volume_id)
        handle = self._volumes.find(volume_id, missing)
        footer = HEADER_LENGTH + max(size, 0)
        try:
            if handle.record.read_only:
                raise ReadOnlyVolume.of(volume_id)
            check_blob(key, size, blob, handle.record.version)
            checksum = int.from_bytes(blob[footer : footer + _CHECKSUM_LENGTH], "big")
            record = ForeignRecord(key, blob[:HEADER_LENGTH], blob[HEADER_LENGTH:footer], checksum)
            self._node.worker(handle.disk_id, StoreRecords(volume_id, [record], verbatim=True), _STORE_TIMEOUT_S)
        except VolumeNotFound:
            raise VolumedError(missing) from None
        except VolumedError as error:
            raise VolumedError(texts.write_blob_failed(key, size, error.text), error.code) from None
        return pb.WriteNeedleBlobResponse()

    def volume_needle_status(self, request: pb.VolumeNeedleStatusRequest) -> pb.VolumeNeedleStatusResponse:
        """A live needle, verified."""
        key = request.needle_id
        volume = self._node.ec_volume(request.volume_id)
        if volume is not None:
            needle = self._read_in_shards(volume, key)
        else:
            needle = self._volumes.use(
                request.volume_id,
                texts.volume_not_found(request.volume_id),
                lambda handle, volume: self._read_live(handle, volume, key),
            )
        return pb.VolumeNeedleStatusResponse(
            needle_id=needle.key,
            cookie=needle.cookie,
            size=needle.size,
            last_modified=needle.last_modified,
            crc=masked(needle.checksum),
            ttl=str(needle.ttl),
        )

    def read_all_needles(self, request: pb.ReadAllNeedlesRequest, call: Call) -> Iterator[pb.ReadAllNeedlesResponse]:
        """The records of the volumes that are not overwritten, in file order."""
        for volume_id in request.volume_ids:
            missing = texts.no_such_volume_id(volume_id)
            handle = self._volumes.find(volume_id, missing)
            volume = self._volumes.open(handle, self._volumes.state(handle))
            for needle in _current_needles(handle, volume):
                if call.ended:
                    return
                yield pb.ReadAllNeedlesResponse(
                    volume_id=volume_id,
                    needle_id=needle.key,
                    cookie=needle.cookie,
                    needle_blob=bytes(needle.data),
                    needle_blob_compressed=needle.is_gzipped,
                    last_modified=needle.last_modified,
                    crc=masked(needle.checksum),
                    name=needle.name,
                    mime=needle.mime,
                )

    def _read_in_shards(self, volume: NodeEcVolume, key: int) -> Needle:
        try:
            return self._node.ec.read(volume, key).needle
        except NoSuchEcNeedle as error:
            if not self._profile.missing_needle_has_code:
                raise
            raise NeedleNotFound(texts.needle_not_found(key), Code.NOT_FOUND) from error

    def _read_live(self, handle: VolumeHandle, volume: MountedVolume, key: int) -> Needle:
        offset, size = handle.lookup(key) or (0, 0)
        if not offset:
            code = Code.NOT_FOUND if self._profile.missing_needle_has_code else Code.UNKNOWN
            raise NeedleNotFound(texts.needle_not_found(key), code)
        if size < 0:
            raise NeedleDeleted
        if not size:
            # COMPAT: nothing is read of an empty object, so its cookie is not known.
            return Needle(key=key)
        record = volume.read(offset, record_length(size, volume.version))
        return decode_record(record, volume.version, size, offset)


def _read_meta(volume: MountedVolume, offset: int, size: int) -> Needle:
    version = volume.version
    if not size or version == 1:
        record = volume.read(offset, record_length(size, version))
        _, key, found = decode_header(record)
        if found != size:
            raise CorruptNeedle.paged_size_mismatch(offset, key, found, size)
        return decode_record(record, version, size, offset)
    head = decode_paged_head(volume.read(offset, PAGED_HEAD_LENGTH), version, size, offset)
    return decode_body_meta(head, volume.read(offset + head.tail_offset, head.tail_length), version)


def _current_needles(handle: VolumeHandle, volume: MountedVolume) -> Iterator[Needle]:
    """Those that the map knows at the very place. A deleted one is known where it was (P8)."""
    reader = BlockReader(volume.files, volume.dat)
    for header in scan_headers(reader, volume.records_at(), volume.state.end, volume.version):
        known = handle.lookup(header.key)
        if known is not None and known[0] == header.offset:
            yield _decode(reader.read(header.offset, header.length), header, volume.version)


def _decode(record: memoryview, header: RecordHeader, version: int) -> Needle:
    """A damaged record is told as far as it goes."""
    try:
        return decode_record(record, version, header.size, header.offset)
    except CorruptNeedle as error:
        _log.error("needle %x at %d: %s", header.key, header.offset, error.text)
    try:
        needle = decode_body(record[HEADER_LENGTH : HEADER_LENGTH + header.size], version)
    except CorruptNeedle:
        needle = Needle()
    # COMPAT: the checksum of a damaged record is told as 0.
    needle.cookie, needle.key, needle.size = header.cookie, header.key, header.size
    return needle
