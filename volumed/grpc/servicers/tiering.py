"""Moving the data of a volume to a remote tier and back (docs/spec/grpc.md 5.3, 5.4)."""

from __future__ import annotations

import time
from collections.abc import Iterator

from volumed.bus.calls import Request
from volumed.bus.tier_calls import FetchTier, TierMoveView, UploadTier, WatchTier
from volumed.errors import VolumedError, VolumeNotFound
from volumed.grpc.node import GrpcNode
from volumed.grpc.streams import Call
from volumed.wire import volume_server_pb2 as pb

__all__ = ["TieringServicer"]

_FIRST_LOOK_S, _LOOK_S = 0.01, 0.25
_TELL_S = 1.0


class TieringServicer:
    """VolumeTierMoveDatToRemote, VolumeTierMoveDatFromRemote. A move goes on when its caller is gone."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node

    def volume_tier_move_dat_to_remote(
        self, request: pb.VolumeTierMoveDatToRemoteRequest, call: Call
    ) -> Iterator[pb.VolumeTierMoveDatToRemoteResponse]:
        """Upload, and tell how far that is."""
        self._node.refuse_in_maintenance()
        start = UploadTier(
            request.volume_id,
            request.collection,
            request.destination_backend_name,
            request.keep_local_dat_file,
            max(0, request.concurrency),
        )
        for view in self._move(request.volume_id, start, call):
            yield pb.VolumeTierMoveDatToRemoteResponse(processed=view.processed, processedPercentage=_percentage(view))

    def volume_tier_move_dat_from_remote(
        self, request: pb.VolumeTierMoveDatFromRemoteRequest, call: Call
    ) -> Iterator[pb.VolumeTierMoveDatFromRemoteResponse]:
        """Download, and tell how far that is; also in maintenance mode."""
        start = FetchTier(
            request.volume_id, request.collection, request.keep_remote_dat_file, max(0, request.concurrency)
        )
        for view in self._move(request.volume_id, start, call):
            yield pb.VolumeTierMoveDatFromRemoteResponse(
                processed=view.processed, processedPercentage=_percentage(view)
            )

    def _move(self, volume_id: int, start: Request, call: Call) -> Iterator[TierMoveView]:
        """Start a move and watch it to its end; now and then how far it is."""
        disk_id = self._node.disk_of(volume_id)
        if disk_id is None:
            raise VolumedError(VolumeNotFound.of(volume_id).text)
        move_id = self._node.worker(disk_id, start).move_id
        told_at, pause_s = time.monotonic(), _FIRST_LOOK_S
        while move_id and not call.ended:
            view: TierMoveView = self._node.worker(disk_id, WatchTier(move_id))
            if view.ended:
                return
            if time.monotonic() - told_at >= _TELL_S:
                told_at = time.monotonic()
                yield view
            call.wait(pause_s)
            pause_s = min(2 * pause_s, _LOOK_S)


def _percentage(view: TierMoveView) -> float:
    return 100.0 * view.processed / view.total if view.total else 0.0
