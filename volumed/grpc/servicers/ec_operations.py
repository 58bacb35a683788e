"""Shards are made: VolumeEcShardsGenerate, VolumeEcShardsRebuild (docs/spec/erasure-coding.md 5.1, 5.6)."""

from __future__ import annotations

from collections.abc import Sequence

from volumed.bus.ec_calls import EcJobProgress, StartEncode, StartRebuild
from volumed.erasure.errors import RebuildFailed
from volumed.erasure.names import SIDECAR
from volumed.errors import VolumedError
from volumed.formats.volumename import format_base_name, require_collection
from volumed.grpc.ec_node import EcHolder, EcNode, latest_run, of_run
from volumed.grpc.ec_wipe import wipe_on_all
from volumed.grpc.streams import Call
from volumed.storage.fileio import disk_error
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcOperationsServicer"]


class EcOperationsServicer:
    """VolumeEcShardsGenerate, VolumeEcShardsRebuild."""

    def __init__(self, ec: EcNode) -> None:
        self._ec = ec
        self._node = ec.node

    def volume_ec_shards_generate(
        self, request: pb.VolumeEcShardsGenerateRequest, call: Call
    ) -> pb.VolumeEcShardsGenerateResponse:
        """Encode a volume, which stays as it is. Nothing is mounted."""
        self._node.refuse_in_maintenance()
        volume_id, collection = request.volume_id, request.collection
        with self._ec.alone(volume_id, call):
            handle = self._node.locate(volume_id)
            if handle is None:
                raise VolumedError(f"volume {volume_id} not found")
            require_collection(handle.record.collection, collection)
            wipe_on_all(self._ec, f"wipe stale EC artifacts for volume {volume_id}", volume_id, collection)
            self._ec.run_job(handle.disk_id, StartEncode(volume_id, collection), call)
        return pb.VolumeEcShardsGenerateResponse()

    def volume_ec_shards_rebuild(
        self, request: pb.VolumeEcShardsRebuildRequest, call: Call
    ) -> pb.VolumeEcShardsRebuildResponse:
        """Make lost and damaged shards anew: lost ones on the disk that has most, damaged ones where they are."""
        self._node.refuse_in_maintenance()
        with self._ec.alone(request.volume_id, call):
            holders = [
                holder
                for holder in self._ec.holders(request.volume_id)
                if holder.files.collection == request.collection and (holder.shard_count or holder.has_index)
            ]
            holders = of_run(holders, latest_run(holders))
            chosen = max((item for item in holders if item.has_index), key=lambda item: item.shard_count, default=None)
            if chosen is None:
                return pb.VolumeEcShardsRebuildResponse()
            with self._node.metrics.rebuild():
                made = self._rebuild(request, holders, chosen, call)
                self._fold(request, holders, chosen)
        return pb.VolumeEcShardsRebuildResponse(rebuilt_shard_ids=made)

    def _rebuild(
        self, request: pb.VolumeEcShardsRebuildRequest, holders: Sequence[EcHolder], chosen: EcHolder, call: Call
    ) -> list[int]:
        """The ids of what is new, those of damaged shards at the end."""

        def run(holder: EcHolder, *, absent: bool) -> EcJobProgress:
            others = [other.directories for other in holders if other is not holder]
            ignore = request.unsafe_ignore_sidecar
            start = StartRebuild(request.volume_id, request.collection, others, absent, ignore)
            return self._ec.run_job(holder.disk_id, start, call)

        first = run(chosen, absent=True)
        made, left = set(first.shard_ids), set(first.damaged_elsewhere)
        for holder in holders:
            here = {*holder.files.shards, *holder.files.empty_shards}
            if holder is not chosen and here & left:
                made.update(run(holder, absent=False).shard_ids)
        if left and not any(SIDECAR in holder.files.data or SIDECAR in holder.files.index for holder in holders):
            # Only now are all shards there to be vouched for.
            run(chosen, absent=True)
        damaged = {shard_id for holder in holders for shard_id in holder.files.shards}
        return sorted(made, key=lambda shard_id: (shard_id in damaged, shard_id))

    def _fold(self, request: pb.VolumeEcShardsRebuildRequest, holders: Sequence[EcHolder], chosen: EcHolder) -> None:
        try:
            self._ec.fold_journals(holders, request.volume_id, request.collection)
        except (VolumedError, OSError) as error:
            base_name = format_base_name(request.collection, request.volume_id)
            cause = error if isinstance(error, VolumedError) else disk_error("read ecj", error)
            raise RebuildFailed.index(f"{chosen.directories.data}/{base_name}", cause) from None
