"""Volumes come and go: allocate, mount, unmount, delete (docs/spec/grpc.md 3.6, 3.7, 3.10, 3.11)."""

from __future__ import annotations

from volumed.bus import calls
from volumed.errors import FormatError, VolumedError, VolumeNotEmpty, VolumeNotFound
from volumed.formats.replication import ReplicaPlacement
from volumed.formats.ttl import parse_ttl
from volumed.formats.volumename import check_collection, normalize_disk_type
from volumed.grpc.node import GrpcNode
from volumed.grpc.profile import Profile
from volumed.wire import volume_server_pb2 as pb

__all__ = ["LifecycleServicer"]

_VERSIONS = (1, 2, 3)
_SLOW_CALL_TIMEOUT_S = 600.0
"""Loading or deleting a large volume may take minutes on a busy disk."""


class LifecycleServicer:
    """AllocateVolume, VolumeMount, VolumeUnmount, VolumeDelete, DeleteCollection."""

    def __init__(self, node: GrpcNode, profile: Profile) -> None:
        self._node = node
        self._profile = profile

    def allocate_volume(self, request: pb.AllocateVolumeRequest) -> pb.AllocateVolumeResponse:
        """Create a volume on the disk the supervisor chooses; checks in the order of section 3.7."""
        self._node.refuse_in_maintenance()
        placement = ReplicaPlacement.parse(request.replication)
        ttl = parse_ttl(request.ttl)
        disk_type = normalize_disk_type(request.disk_type)
        chosen = self._node.supervisor(calls.PlaceVolume(request.volume_id, disk_type))
        try:
            if request.version not in _VERSIONS:
                raise FormatError.unsupported_version(request.version)
            check_collection(request.collection)
            self._node.worker(
                chosen.disk_id,
                calls.AllocateVolume(
                    volume_id=request.volume_id,
                    collection=request.collection,
                    replica_placement=placement.byte,
                    ttl=ttl.to_u32(),
                    version=request.version,
                    preallocate_bytes=max(0, request.preallocate),
                ),
            )
        finally:
            self._node.supervisor(calls.ConfirmPlacement(request.volume_id))
        return pb.AllocateVolumeResponse()

    def volume_mount(self, request: pb.VolumeMountRequest) -> pb.VolumeMountResponse:
        """Ask the disks in order; the first that has the files loads them."""
        if self._node.disk_of(request.volume_id) is not None:
            disks = [self._node.disk_of(request.volume_id) or 0]
        else:
            disks = self._node.serving_disks()
        for disk_id in disks:
            try:
                self._node.worker(
                    disk_id,
                    calls.MountVolume(request.volume_id, request.collection),
                    _SLOW_CALL_TIMEOUT_S,
                )
            except VolumedError:
                continue
            return pb.VolumeMountResponse()
        raise VolumeNotFound.on_mount(request.volume_id)

    def volume_unmount(self, request: pb.VolumeUnmountRequest) -> pb.VolumeUnmountResponse:
        """Close the volume on every disk that holds it; not mounted is fine."""
        for disk_id in self._node.serving_disks():
            self._node.worker(disk_id, calls.UnmountVolume(request.volume_id))
        return pb.VolumeUnmountResponse()

    def volume_delete(self, request: pb.VolumeDeleteRequest) -> pb.VolumeDeleteResponse:
        """Remove the volume from every disk that holds it."""
        if not self._profile.delete_in_maintenance:
            self._node.refuse_in_maintenance()
        call = calls.DeleteVolume(request.volume_id, request.only_empty, request.only_garbage, request.keep_remote_data)
        deleted = [disk_id for disk_id in self._node.serving_disks() if self._delete_on(disk_id, call)]
        if not deleted:
            raise self._missing(request.volume_id)
        return pb.VolumeDeleteResponse()

    def delete_collection(self, request: pb.DeleteCollectionRequest) -> pb.DeleteCollectionResponse:
        """Remove all volumes of the collection; the empty name is the default collection."""
        for disk_id in self._node.serving_disks():
            self._node.worker(disk_id, calls.DeleteCollection(request.collection), _SLOW_CALL_TIMEOUT_S)
        return pb.DeleteCollectionResponse()

    def _delete_on(self, disk_id: int, call: calls.DeleteVolume) -> bool:
        try:
            self._node.worker(disk_id, call, _SLOW_CALL_TIMEOUT_S)
        except VolumeNotFound:
            return False
        except VolumeNotEmpty as error:
            raise self._not_empty(error) from None
        return True

    def _missing(self, volume_id: int) -> VolumedError:
        error = VolumeNotFound.on_delete(volume_id)
        if self._profile.missing_volume_has_code:
            return error
        return VolumedError(error.text.removesuffix(": volume not found"))

    def _not_empty(self, error: VolumeNotEmpty) -> VolumedError:
        return error if self._profile.not_empty_names_volume else VolumedError("volume not empty")
