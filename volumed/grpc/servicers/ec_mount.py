"""Shards are mounted, unmounted and described (docs/spec/erasure-coding.md 5.2, 5.3, 5.10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from volumed.bus.ec_calls import (
    DescribeShards,
    EcDirectories,
    EcFilesView,
    EcVolumeView,
    ListEcFiles,
    MirrorSidecars,
    MountShards,
    UnmountShards,
)
from volumed.erasure.errors import EcVolumeNotFound, MountFailed
from volumed.erasure.names import INDEX, INFO, JOURNAL
from volumed.errors import VolumedError, VolumeNotFound
from volumed.grpc.ec_recovery import recover_indexes
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcMountServicer"]

_SLOW_CALL_TIMEOUT_S = 600.0
"""Copying an index to another disk takes as long as it is."""


class _Holder(NamedTuple):
    """A disk and what it has of the volume."""

    disk_id: int
    directories: EcDirectories
    files: EcFilesView

    @property
    def has_index(self) -> bool:
        """Whether it has one with rows."""
        return bool(self.files.index.get(INDEX) or self.files.data.get(INDEX))

    @property
    def has_info(self) -> bool:
        """Whether it has a `.vif`."""
        return bool(self.files.data.get(INFO) or self.files.index.get(INFO))

    def has_shard(self, shard_id: int) -> bool:
        """Whether it has the file, empty or not."""
        return shard_id in self.files.shards or shard_id in self.files.empty_shards


class _Sources(NamedTuple):
    """Disks to copy from what others lack."""

    of_index: _Holder | None
    of_info: _Holder | None


class EcMountServicer:
    """VolumeEcShardsMount, VolumeEcShardsUnmount, VolumeEcShardsInfo."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node

    def mount(self, request: pb.VolumeEcShardsMountRequest, call: Call) -> pb.VolumeEcShardsMountResponse:
        """One shard after the other, each on the first disk that can; the first that fails ends it. Before, if asked
        to, indexes that were lost come from other servers."""
        if request.recover_missing_index:
            recover_indexes(self._node, call, request.volume_id)
        holders = self._holders(request.volume_id, request.collection) if request.shard_ids else []
        owner = next((holder for holder in holders if holder.has_index), None)
        informed = next((holder for holder in holders if holder.files.shards and holder.has_info), owner)
        for shard_id in request.shard_ids:
            self._mount_one(request, shard_id, holders, _Sources(owner, informed))
        return pb.VolumeEcShardsMountResponse()

    def _holders(self, volume_id: int, collection: str) -> list[_Holder]:
        found = []
        for disk_id in self._node.serving_disks():
            listing = self._node.worker(disk_id, ListEcFiles(volume_id))
            found += [
                _Holder(disk_id, listing.directories, files)
                for files in listing.volumes
                if files.collection == collection
            ]
        return found

    def _mount_one(
        self, request: pb.VolumeEcShardsMountRequest, shard_id: int, holders: list[_Holder], sources: _Sources
    ) -> None:
        failures = []
        for holder in holders:
            if not holder.has_shard(shard_id):
                continue
            try:
                error = self._mount_on(request, shard_id, holder, sources)
            except VolumedError as failure:
                error = failure.text
            if error is None:
                return
            failures.append((holder.directories.data, error))
        known = [(directory, error) for directory, error in failures if error]
        raise MountFailed.of(request.volume_id, shard_id, known, has_index=sources.of_index is not None)

    def _mount_on(
        self, request: pb.VolumeEcShardsMountRequest, shard_id: int, holder: _Holder, sources: _Sources
    ) -> str | None:
        """None when it is mounted, else why it is not, empty when it is not there."""
        if sources.of_index is not None and not holder.has_index:
            self._mirror(request, holder, [INDEX, JOURNAL], sources.of_index)
        if sources.of_info is not None and not holder.has_info:
            self._mirror(request, holder, [INFO], sources.of_info)
        call = MountShards(request.volume_id, request.collection, [shard_id], request.source_disk_type)
        (outcome,) = self._node.worker(holder.disk_id, call, _SLOW_CALL_TIMEOUT_S).shards
        return None if outcome.mounted else outcome.error

    def _mirror(
        self, request: pb.VolumeEcShardsMountRequest, holder: _Holder, extensions: list[str], source: _Holder
    ) -> None:
        call = MirrorSidecars(request.volume_id, request.collection, extensions, source.directories)
        self._node.worker(holder.disk_id, call, _SLOW_CALL_TIMEOUT_S)

    def unmount(self, request: pb.VolumeEcShardsUnmountRequest) -> pb.VolumeEcShardsUnmountResponse:
        """On every disk; what is not mounted does not matter."""
        for disk_id in self._node.serving_disks():
            call = UnmountShards(request.volume_id, list(request.shard_ids), request.encode_ts_ns)
            self._node.worker(disk_id, call)
        self._node.certain_disks()  # one that comes back has them mounted
        return pb.VolumeEcShardsUnmountResponse()

    def info(self, request: pb.VolumeEcShardsInfoRequest) -> pb.VolumeEcShardsInfoResponse:
        """The shards of all disks, each once; counters and layout are those of the first disk."""
        response = pb.VolumeEcShardsInfoResponse()
        told: set[int] = set()
        for is_first, view in self._views(request.volume_id):
            if is_first:
                _describe(view, response)
            for shard_id, size in view.shards.items():
                if shard_id not in told:
                    told.add(shard_id)
                    response.ec_shard_infos.add(
                        shard_id=shard_id, size=size, collection=view.collection, volume_id=request.volume_id
                    )
        if not told:
            self._node.certain_disks()  # what is away for a moment is not "not found"
            raise EcVolumeNotFound.for_info(request.volume_id)
        return response

    def _views(self, volume_id: int) -> Iterator[tuple[bool, EcVolumeView]]:
        is_first = True
        for disk_id in self._node.serving_disks():
            try:
                yield is_first, self._node.worker(disk_id, DescribeShards(volume_id, is_first), _SLOW_CALL_TIMEOUT_S)
            except VolumeNotFound:
                continue
            is_first = False


def _describe(view: EcVolumeView, response: pb.VolumeEcShardsInfoResponse) -> None:
    response.file_count = view.live
    response.file_deleted_count = view.deleted
    response.volume_size = view.content_bytes
    response.ec_shard_config.data_shards = view.data_shards
    response.ec_shard_config.parity_shards = view.parity_shards
    response.ec_shard_config.block_size = view.block_size
