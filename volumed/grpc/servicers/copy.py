"""A volume copied here from another server (docs/spec/grpc.md 3.16)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from volumed.bus import calls
from volumed.bus.copy_calls import CopyMounted
from volumed.errors import VolumedError, VolumeLoadError, VolumeNotFound
from volumed.formats.volumename import check_collection, normalize_disk_type
from volumed.grpc import texts
from volumed.grpc.incoming import IncomingVolume, copy_throttle
from volumed.grpc.node import GrpcNode
from volumed.grpc.peer import Peer, PeerError, check_source
from volumed.grpc.profile import Profile
from volumed.grpc.streams import Call
from volumed.storage.throttle import Throttle
from volumed.wire import volume_server_pb2 as pb

__all__ = ["CopyServicer"]

_STATUS_TIMEOUT_S = 30.0
_DELETE_TIMEOUT_S = 600.0
_REPORT_BYTES = 128 << 20
_VIF_BYTES_MAX = 1 << 20
_NS = 10**9

_Response = pb.VolumeCopyResponse
_Counts = pb.VolumeStatusResponse


class CopyServicer:
    """VolumeCopy."""

    def __init__(self, node: GrpcNode, profile: Profile) -> None:
        self._node = node
        self._profile = profile

    def volume_copy(self, request: pb.VolumeCopyRequest, call: Call) -> Iterator[_Response]:
        """Pull a volume; one that is here already is replaced once the source has answered."""
        node, volume_id, source = self._node, request.volume_id, request.source_data_node
        node.refuse_in_maintenance()
        addresses: Sequence[str] = ()
        if self._profile.checks_sources and not node.config.allow_untrusted_endpoints:
            addresses = check_source(source)
        with Peer(node.channels.open(source, addresses), call) as peer:
            before = _counts(peer, volume_id)
            status = _file_status(peer, volume_id)
            check_collection(status.collection)
            disk_type = normalize_disk_type(request.disk_type or status.disk_type)
            needed = status.idx_file_size if status.volume_info.files else status.dat_file_size
            chosen = node.supervisor(calls.PlaceCopy(volume_id, disk_type, needed))
            try:
                self._delete_existing(volume_id)
                with IncomingVolume(node, chosen.disk_id, volume_id, status.collection, source) as incoming:
                    throttle = copy_throttle(node, request.io_byte_per_second, call)
                    pulling = _Pull(peer, incoming, request, status, throttle)
                    yield from pulling.files()
                    mounted = self._mount(pulling, before, call)
                    incoming.keep()
            finally:
                node.supervisor(calls.ConfirmPlacement(volume_id))
        yield _Response(last_append_at_ns=pulling.last_append_at_ns(mounted))

    def _delete_existing(self, volume_id: int) -> None:
        call = calls.DeleteVolume(volume_id, keep_remote_data=True)
        for disk_id in self._node.serving_disks():
            try:
                self._node.worker(disk_id, call, _DELETE_TIMEOUT_S)
            except VolumeNotFound:
                continue
            except VolumedError as error:
                raise VolumedError(texts.existing_not_deleted(volume_id, error.text)) from None

    def _mount(self, pulling: _Pull, before: _Counts | None, call: Call) -> CopyMounted:
        """Mount what has come and compare its counts with those of the source, if that stood still."""
        call.require()
        mounted = pulling.mount()
        if self._profile.counts_copied_needles and before is not None:
            pulling.compare_counts(before, mounted, call)
        return mounted


class _Pull:
    """The files of one volume on their way from peer to worker."""

    def __init__(
        self,
        peer: Peer,
        incoming: IncomingVolume,
        request: pb.VolumeCopyRequest,
        status: pb.ReadVolumeFileStatusResponse,
        throttle: Throttle,
    ) -> None:
        self.request = request
        self._peer = peer
        self._incoming = incoming
        self._status = status
        self._throttle = throttle
        self._is_tiered = bool(status.volume_info.files)

    def files(self) -> Iterator[_Response]:
        """Bring all files here; how far it is, from time to time."""
        status = self._status
        if not self._is_tiered:
            yield from self._file(".dat", status.dat_file_size, may_be_missing=True)
        for _ in self._file(".idx", status.idx_file_size, may_be_missing=False):
            pass
        for _ in self._file(".vif", _VIF_BYTES_MAX, may_be_missing=True):
            pass

    def mount(self) -> CopyMounted:
        """Mount the volume, when all sizes are right."""
        status = self._status
        return self._incoming.mount(-1 if self._is_tiered else status.dat_file_size, status.idx_file_size)

    def compare_counts(self, before: _Counts, mounted: CopyMounted, call: Call) -> None:
        """Raises `VolumeLoadError`, and what asking the source again raises."""
        volume_id = self.request.volume_id
        try:
            after: _Counts = self._peer.ask(
                "VolumeStatus", pb.VolumeStatusRequest(volume_id=volume_id), _STATUS_TIMEOUT_S
            )
        except PeerError as error:
            if call.ended:
                # Who hangs up now has the copy: the master knows it already, and it may have been written to.
                return
            raise error.under(texts.source_not_asked(volume_id)) from None
        expected = (before.file_count, before.file_deleted_count)
        if (after.file_count, after.file_deleted_count) != expected:
            return
        if mounted.file_count != before.file_count:
            reason = texts.copy_counts_differ("file", mounted.file_count, before.file_count)
            raise VolumeLoadError.after_copy(volume_id, reason)
        deleted = before.file_deleted_count
        if mounted.file_deleted_count != deleted and not self._incoming.live_deletions() <= deleted <= (
            mounted.file_deleted_count
        ):
            reason = texts.copy_counts_differ("deleted", mounted.file_deleted_count, deleted)
            raise VolumeLoadError.after_copy(volume_id, reason)

    def last_append_at_ns(self, mounted: CopyMounted) -> int:
        """From when on a follower has to look for what came later."""
        return mounted.last_append_at_ns or mounted.modified_at_s * _NS

    def _file(self, extension: str, stop: int, *, may_be_missing: bool) -> Iterator[_Response]:
        asked = pb.CopyFileRequest(
            volume_id=self.request.volume_id,
            ext=extension,
            compaction_revision=self._status.compaction_revision,
            stop_offset=stop,
            collection=self.request.collection,
            ignore_source_file_not_found=may_be_missing,
        )
        received = reported = modified_at_ns = 0
        for message in self._peer.stream("CopyFile", asked):
            modified_at_ns = modified_at_ns or message.modified_ts_ns
            if modified_at_ns:
                self._incoming.write(extension, message.file_content)
            received += len(message.file_content)
            if received > reported + _REPORT_BYTES:
                reported = received
                yield _Response(processed_bytes=received)
            self._throttle.spend(len(message.file_content))
        if modified_at_ns:
            self._incoming.end_file(extension, modified_at_ns)


def _counts(peer: Peer, volume_id: int) -> _Counts | None:
    """What the source counts; it may be too old to tell."""
    try:
        counts: _Counts = peer.ask("VolumeStatus", pb.VolumeStatusRequest(volume_id=volume_id), _STATUS_TIMEOUT_S)
    except PeerError:
        return None
    return counts


def _file_status(peer: Peer, volume_id: int) -> pb.ReadVolumeFileStatusResponse:
    request = pb.ReadVolumeFileStatusRequest(volume_id=volume_id)
    try:
        status: pb.ReadVolumeFileStatusResponse = peer.ask("ReadVolumeFileStatus", request, _STATUS_TIMEOUT_S)
    except PeerError as error:
        raise error.under(texts.source_has_no_status()) from None
    return status
