"""Shards are mounted, unmounted and described (docs/spec/erasure-coding.md 5.2, 5.3, 5.10)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Self

from volumed.bus.ec_calls import (
    DescribeShards,
    EcVolumeView,
    MirrorSidecars,
    MountShards,
    UnmountShards,
)
from volumed.erasure.errors import EcVolumeNotFound, MountFailed
from volumed.erasure.names import INDEX, INFO, JOURNAL
from volumed.errors import VolumedError, VolumeNotFound
from volumed.grpc.ec_node import EcHolder, EcNode, of_run
from volumed.grpc.ec_recovery import recover_indexes
from volumed.grpc.streams import Call
from volumed.shards.planner import ShardPlanner
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcMountServicer"]

_log = logging.getLogger(__name__)

_SLOW_CALL_TIMEOUT_S = 600.0
"""Copying an index to another disk takes as long as it is."""


class _Sources(NamedTuple):
    """Disks to copy from what others lack."""

    of_index: EcHolder | None
    of_info: EcHolder | None

    @classmethod
    def of(cls, holder: EcHolder, holders: Sequence[EcHolder]) -> Self:
        """For one of ``holders``, who are in order: none who is known to be of another encode run."""
        run = holder.files.encode_ts_ns
        fitting = of_run(holders, run) if run else holders
        owner = next((other for other in fitting if other.has_filled_index), None)
        informed = next((other for other in fitting if other.files.shards and other.has_info), owner)
        return cls(owner, informed)


class EcMountServicer:
    """VolumeEcShardsMount, VolumeEcShardsUnmount, VolumeEcShardsInfo."""

    def __init__(self, ec: EcNode) -> None:
        self._ec = ec
        self._node = ec.node

    def mount(self, request: pb.VolumeEcShardsMountRequest, call: Call) -> pb.VolumeEcShardsMountResponse:
        """One shard after the other, each on the first disk that can; the first that fails ends it. Before, if asked
        to, indexes that were lost come from other servers."""
        if request.recover_missing_index:
            recover_indexes(self._node, call, request.volume_id)
        if request.shard_ids:
            with self._ec.alone(request.volume_id, call):
                self._mount(request)
        return pb.VolumeEcShardsMountResponse()

    def _mount(self, request: pb.VolumeEcShardsMountRequest) -> None:
        found = self._ec.serving_holders(request.volume_id)
        holders = [holder for holder in found if holder.files.collection == request.collection]
        # DEVIATE: the reference takes the first disk that has the shard, whatever encode run that is.
        holders.sort(key=lambda holder: -holder.files.encode_ts_ns)
        mounted: dict[str, list[int]] = {}
        try:
            for shard_id in request.shard_ids:
                mounted.setdefault(self._mount_one(request, shard_id, holders), []).append(shard_id)
        finally:
            for directory, shard_ids in mounted.items():
                _log.info("%s: mounted shards %s of volume %d", directory, shard_ids, request.volume_id)
            # A disk that had unmounted the volume has missed the deletions since.
            if len(holders) > 1:
                planner = ShardPlanner(self._node.worker, len(self._node.config.disks))
                planner.merge([holder.disk_id for holder in holders], volume_id=request.volume_id)

    def _mount_one(self, request: pb.VolumeEcShardsMountRequest, shard_id: int, holders: list[EcHolder]) -> str:
        """The directory of the disk that has it now."""
        failures = []
        for holder in holders:
            if not holder.has_shard(shard_id):
                continue
            try:
                error = self._mount_on(request, shard_id, holder, _Sources.of(holder, holders))
            except VolumedError as failure:
                error = failure.text
            if error is None:
                return holder.directories.data
            failures.append((holder.directories.data, error))
        known = [(directory, error) for directory, error in failures if error]
        has_index = any(holder.has_filled_index for holder in holders)
        raise MountFailed.of(request.volume_id, shard_id, known, has_index=has_index)

    def _mount_on(
        self, request: pb.VolumeEcShardsMountRequest, shard_id: int, holder: EcHolder, sources: _Sources
    ) -> str | None:
        """None when it is mounted, else why it is not, empty when it is not there."""
        if sources.of_index is not None and not holder.has_filled_index:
            self._mirror(request, holder, [INDEX, JOURNAL], sources.of_index)
        if sources.of_info is not None and not holder.has_info:
            self._mirror(request, holder, [INFO], sources.of_info)
        call = MountShards(request.volume_id, request.collection, [shard_id], request.source_disk_type)
        (outcome,) = self._node.worker(holder.disk_id, call, _SLOW_CALL_TIMEOUT_S).shards
        return None if outcome.mounted else outcome.error

    def _mirror(
        self, request: pb.VolumeEcShardsMountRequest, holder: EcHolder, extensions: list[str], source: EcHolder
    ) -> None:
        call = MirrorSidecars(request.volume_id, request.collection, extensions, source.directories)
        self._node.worker(holder.disk_id, call, _SLOW_CALL_TIMEOUT_S)

    def unmount(self, request: pb.VolumeEcShardsUnmountRequest, call: Call) -> pb.VolumeEcShardsUnmountResponse:
        """On every disk; what is not mounted does not matter."""
        unmount = UnmountShards(request.volume_id, list(request.shard_ids), request.encode_ts_ns)
        with self._ec.alone(request.volume_id, call):
            for disk_id in self._node.serving_disks():
                self._node.worker(disk_id, unmount)
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
        """Of the disks that have what is read."""
        # DEVIATE: the reference tells of all encode runs together.
        volume = self._node.ec.find(volume_id)
        is_first = True
        for disk in volume.disks if volume is not None else ():
            describe = DescribeShards(volume_id, is_first)
            try:
                yield is_first, self._node.worker(disk.disk_id, describe, _SLOW_CALL_TIMEOUT_S)
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
