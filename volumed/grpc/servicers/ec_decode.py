"""VolumeEcShardsToVolume: shards become a volume again (docs/spec/erasure-coding.md 5.9)."""

from __future__ import annotations

from collections.abc import Sequence

from volumed.bus.ec_calls import MountStaged, StartDecode
from volumed.erasure.code import DEFAULT_RATIO
from volumed.erasure.errors import EcVolumeUnusable, StagedVolumeError
from volumed.errors import DiskUnavailable
from volumed.formats.volumename import check_collection, format_base_name, normalize_disk_type, require_collection
from volumed.grpc.ec_node import EcHolder, EcNode, latest_run, of_run
from volumed.grpc.streams import Call
from volumed.storage.fileio import FileIO
from volumed.storage.site import COPYING
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcDecodeServicer"]

_MOUNT_TIMEOUT_S = 600.0
"""Loading a large volume may take minutes on a busy disk."""


class EcDecodeServicer:
    """VolumeEcShardsToVolume."""

    def __init__(self, ec: EcNode) -> None:
        self._ec = ec
        self._node = ec.node

    def volume_ec_shards_to_volume(
        self, request: pb.VolumeEcShardsToVolumeRequest, call: Call
    ) -> pb.VolumeEcShardsToVolumeResponse:
        """Put a volume together from its data shards, all of which are here. The shards stay, and nothing is mounted.

        With ``from_staged`` a volume that was sent file by file is put in its place, and mounted."""
        self._node.refuse_in_maintenance()
        with self._ec.alone(request.volume_id, call):
            if request.from_staged:
                self._adopt(request)
            else:
                self._decode(request, call)
        return pb.VolumeEcShardsToVolumeResponse()

    def _decode(self, request: pb.VolumeEcShardsToVolumeRequest, call: Call) -> None:
        volume_id, collection = request.volume_id, request.collection
        holders = self._ec.holders(volume_id)
        mounted = [holder for holder in holders if holder.files.mounted]
        if not mounted:
            raise EcVolumeUnusable.missing(volume_id)
        require_collection(mounted[0].files.collection, collection)
        # DEVIATE: the reference takes the first disk at its word, also when it has an older encode run than others.
        run = latest_run(mounted)
        mounted = of_run(mounted, run)
        _require_data_shards(volume_id, mounted)
        target = self._target(volume_id, mounted)
        holders = of_run([holder for holder in holders if holder.files.collection == collection], run)
        self._ec.fold_journals(holders, volume_id, collection)
        others = [holder.directories for holder in holders if holder.disk_id != target.disk_id]
        self._ec.run_job(target.disk_id, StartDecode(volume_id, collection, others), call)

    def _target(self, volume_id: int, mounted: Sequence[EcHolder]) -> EcHolder:
        """The disk that gets the volume: where it is already, since two of one id would both be loaded at the next
        start. Raises `EcVolumeUnusable`."""
        try:
            handle = self._node.locate(volume_id)
        except DiskUnavailable:
            handle = None
        place = -1 if handle is None else handle.disk_id

        def rank(holder: EcHolder) -> tuple[int, bool, bool]:
            return holder.files.encode_ts_ns, holder.disk_id == place, ".dat" in holder.files.data

        target = max(mounted, key=rank)
        if handle is not None and target.disk_id != place:
            # DEVIATE: in the reference the decoded one takes no part until the next start, and may hide the other then.
            raise EcVolumeUnusable.elsewhere(volume_id, place)
        return target

    def _adopt(self, request: pb.VolumeEcShardsToVolumeRequest) -> None:
        volume_id, collection = request.volume_id, request.collection
        check_collection(collection)
        if self._node.locate(volume_id) is not None:
            raise StagedVolumeError.exists(volume_id)
        disk_id = self._staging_disk(volume_id, collection, normalize_disk_type(request.disk_type))
        if disk_id is None:
            raise StagedVolumeError.nowhere(volume_id, request.disk_type)
        self._node.worker(disk_id, MountStaged(volume_id, collection), _MOUNT_TIMEOUT_S)

    def _staging_disk(self, volume_id: int, collection: str, disk_type: str) -> int | None:
        files, name = FileIO(), f"{format_base_name(collection, volume_id)}.dat{COPYING}"
        for disk_id in self._ec.node.certain_disks():
            disk = self._node.config.disks[disk_id]
            if disk.disk_type == disk_type and files.exists(f"{disk.directory}/{name}"):
                return disk_id
        return None


def _require_data_shards(volume_id: int, mounted: Sequence[EcHolder]) -> None:
    there = {shard_id for holder in mounted for shard_id in holder.files.mounted}
    for shard_id in range(mounted[0].files.data_shards or DEFAULT_RATIO.data):
        if shard_id not in there:
            raise EcVolumeUnusable.lacks(volume_id, shard_id)
