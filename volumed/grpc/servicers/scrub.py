"""Looking for damage in volumes (docs/spec/grpc.md 3.29), on the call's own thread: disks are read, never written."""

from __future__ import annotations

from volumed.bus import calls
from volumed.errors import VolumedError
from volumed.grpc import texts
from volumed.grpc.local_volumes import LocalVolumes
from volumed.grpc.node import GrpcNode
from volumed.grpc.scrub_log import ScrubLog
from volumed.grpc.servicers.marks import MarksServicer
from volumed.grpc.streams import Call
from volumed.storage.scrub import Findings, scrub_volume
from volumed.wire import volume_server_pb2 as pb

__all__ = ["ScrubServicer"]

_FULL = {
    pb.VolumeScrubMode.INDEX: False,
    pb.VolumeScrubMode.FULL: True,
    pb.VolumeScrubMode.LOCAL: True,
    pb.VolumeScrubMode.READS: True,
}
"""Modes for normal volumes: whether records are read."""
_SETTLE_STEPS, _SETTLE_STEP_S = 10, 0.02
"""How long a write may be under way; then the index has another length because of somebody else."""


class ScrubServicer:
    """ScrubVolume."""

    def __init__(self, node: GrpcNode, marks: MarksServicer) -> None:
        self._node = node
        self._marks = marks
        self._volumes = LocalVolumes(node)

    def scrub_volume(self, request: pb.ScrubVolumeRequest, call: Call) -> pb.ScrubVolumeResponse:
        """All findings in all volumes; one that is broken hides no other."""
        self._node.is_endless(call)
        log = ScrubLog("volume", request.mode)
        response = pb.ScrubVolumeResponse()
        for volume_id in request.volume_ids or self._all_volumes():
            missing = texts.scrubbed_volume_not_found(volume_id)
            if self._node.locate(volume_id) is None:
                if request.volume_ids:
                    raise VolumedError(missing)
                continue
            full = _FULL.get(request.mode)
            if full is None:
                raise VolumedError(texts.unsupported_scrub_mode(request.mode))
            found = self._scrub(volume_id, missing, full=full, call=call)
            response.total_volumes += 1
            response.total_files += found.rows
            response.details.extend(found.texts)
            log.found(volume_id, found.texts)
            if found.texts:
                response.broken_volume_ids.append(volume_id)
        self._node.metrics.volumes_scrubbed(request.mode, len(response.broken_volume_ids))
        log.ended(response.total_volumes, response.total_files, len(response.broken_volume_ids))
        if request.mark_broken_volumes_readonly:
            self._mark_broken(response)
        return response

    def _all_volumes(self) -> list[int]:
        return sorted({view.id for view in self._node.supervisor(calls.NodeStatus()).volumes})

    def _scrub(self, volume_id: int, missing: str, *, full: bool, call: Call) -> Findings:
        for _ in range(_SETTLE_STEPS):
            volume, length = self._volumes.use(volume_id, missing, lambda _, opened: (opened, opened.index_length()))
            if length == volume.state.progress.idx_bytes:
                break
            call.wait(_SETTLE_STEP_S)
        return scrub_volume(volume, length, full=full, check=call.require)

    def _mark_broken(self, response: pb.ScrubVolumeResponse) -> None:
        failures = []
        for volume_id in dict.fromkeys(response.broken_volume_ids):
            try:
                self._marks.volume_mark_readonly(pb.VolumeMarkReadonlyRequest(volume_id=volume_id, persist=True))
                response.details.append(texts.marked_readonly(volume_id))
            except VolumedError as error:
                failures.append(error.text)
        if failures:
            raise VolumedError("\n".join(failures))
