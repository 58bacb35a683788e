"""Looking for damage in erasure coded volumes (docs/spec/erasure-coding.md 5.12), on the call's own thread: disks are
read, never written."""

from __future__ import annotations

from volumed.bus import calls
from volumed.config.address import join_host_port
from volumed.erasure.columns import Progress
from volumed.erasure.errors import EcInterrupted
from volumed.erasure.scrub_findings import EcFindings
from volumed.errors import VolumedError
from volumed.grpc import texts
from volumed.grpc.ec_scrub import EC_SCRUB_MODES, EcScrub
from volumed.grpc.node import GrpcNode
from volumed.grpc.scrub_log import ScrubLog
from volumed.grpc.streams import Call
from volumed.storage.fileio import FileIO
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EcScrubServicer"]

_READING_MODES = (pb.VolumeScrubMode.FULL, pb.VolumeScrubMode.READS)


class EcScrubServicer:
    """ScrubEcVolume."""

    def __init__(self, node: GrpcNode) -> None:
        self._node = node
        self._files = FileIO()

    def scrub_ec_volume(self, request: pb.ScrubEcVolumeRequest, call: Call) -> pb.ScrubEcVolumeResponse:
        """All findings in all volumes; one that is broken hides no other."""
        if request.force_deleted_needles_check and request.mode not in _READING_MODES:
            raise VolumedError(texts.deleted_check_not_supported())
        self._node.is_endless(call)
        scrub, log = self._scrub(request, call), ScrubLog("ec volume", request.mode)
        response = pb.ScrubEcVolumeResponse()
        for volume_id in request.volume_ids or self._all_volumes():
            mounted = self._node.shards(volume_id)
            if not mounted:
                if request.volume_ids:
                    self._node.certain_disks()
                    raise VolumedError(texts.scrubbed_ec_volume_not_found(volume_id))
                continue
            if request.mode not in EC_SCRUB_MODES:
                raise VolumedError(texts.unsupported_ec_scrub_mode(request.mode))
            try:
                findings = scrub.look(volume_id, mounted)
            except EcInterrupted:
                call.require()
                raise
            _add(response, volume_id, findings)
            log.found(volume_id, findings.texts)
        broken = len(response.broken_volume_ids), len(response.broken_shard_infos)
        self._node.metrics.shards_scrubbed(request.mode, *broken)
        log.ended(response.total_volumes, response.total_files, broken[0])
        return response

    def _scrub(self, request: pb.ScrubEcVolumeRequest, call: Call) -> EcScrub:
        config, progress = self._node.config, Progress()
        call.when_ended(progress.stop)
        return EcScrub(
            self._files,
            config.offset_width,
            self._node.ec.unreadable,
            self._node.ec.elsewhere,
            join_host_port(config.ip, config.port),
            request.mode,
            request.force_deleted_needles_check,
            call.require,
            progress,
        )

    def _all_volumes(self) -> list[int]:
        return sorted({report.id for report in self._node.supervisor(calls.NodeStatus()).ec_volumes})


def _add(response: pb.ScrubEcVolumeResponse, volume_id: int, findings: EcFindings) -> None:
    response.total_volumes += 1
    response.total_files += findings.files
    response.details.extend(findings.texts)
    if findings.is_broken:
        response.broken_volume_ids.append(volume_id)
    for shard_id, size in sorted(findings.broken.items()):
        response.broken_shard_infos.add(shard_id=shard_id, size=size, volume_id=volume_id)
