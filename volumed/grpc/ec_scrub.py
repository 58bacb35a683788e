"""Looking for damage in one erasure coded volume (docs/spec/erasure-coding.md 5.12). Files are read, never written."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NamedTuple

from volumed.erasure.code import Ratio
from volumed.erasure.columns import Progress
from volumed.erasure.errors import BadEcConfig
from volumed.erasure.geometry import FoundFile, Geometry, SidecarState, judge_sidecar
from volumed.erasure.layout import Interval
from volumed.erasure.names import INDEX, SIDECAR, shard_extension
from volumed.erasure.needle_scrub import ScrubbedVolume, scrub_all, scrub_local
from volumed.erasure.scrub import check_shards, confirm_damage
from volumed.erasure.scrub_findings import DiskShards, EcFindings, checksum_findings, index_findings, plan_scrub
from volumed.erasure.sidecar import Sidecar
from volumed.errors import DiskError
from volumed.formats.idx import ROW_LENGTH
from volumed.grpc.shard_reads import VolumeShardReads
from volumed.shards.gathering import Elsewhere
from volumed.shards.unreadable import UnreadableShards
from volumed.shards.view import NodeEcVolume
from volumed.storage.ec_records import EcRecord
from volumed.storage.fileio import FileIO, disk_error, error_text
from volumed.storage.index_check import IndexRows
from volumed.storage.mounted_shards import MountedShards
from volumed.wire import volume_server_pb2 as pb

__all__ = ["EC_SCRUB_MODES", "EcScrub"]

_Mode = pb.VolumeScrubMode
EC_SCRUB_MODES = (_Mode.INDEX, _Mode.LOCAL, _Mode.FULL, _Mode.READS, _Mode.CHECKSUM)


class EcScrub(NamedTuple):
    """How a scrub is done."""

    files: FileIO
    offset_width: int
    unreadable: UnreadableShards
    elsewhere: Elsewhere
    address: str
    """Of this server."""
    mode: pb.VolumeScrubMode
    forced: bool
    """A record that is deleted, while its row is not, is a finding."""
    check: Callable[[], None]
    """Called often; raises to stop."""
    progress: Progress

    def look(self, volume_id: int, mounted: list[MountedShards]) -> EcFindings:
        """What is wrong with a volume that these disks have, at least one. Raises `DiskError`, `EcInterrupted`, and
        what ``check`` raises."""
        places = [DiskShards(disk.disk_id, os.path.dirname(disk.record.data_base), disk.record) for disk in mounted]
        plan = plan_scrub(volume_id, places)
        volume = NodeEcVolume.of(volume_id, tuple(mounted[position] for position in plan.disks))
        findings = self._checksums(volume) if self.mode == _Mode.CHECKSUM else self._needles(volume)
        for text in plan.foreign:
            findings.say(text)
        return findings

    def _needles(self, volume: NodeEcVolume) -> EcFindings:
        record = volume.disks[0].record
        path = record.index_base + INDEX
        try:
            content = self.files.read_file(path)
        except OSError as error:
            raise disk_error(f"read {path}", error) from error
        if content is None:
            raise DiskError(f"read {path}: no such file or directory")
        whole = len(content) - len(content) % ROW_LENGTH[self.offset_width]
        rows = IndexRows.decode(content[:whole], self.offset_width, record.version)
        findings = index_findings(volume.volume_id, len(content), whole, rows)
        if self.mode == _Mode.INDEX:
            return findings
        reads = VolumeShardReads(volume, self.unreadable, self.elsewhere, self.address)
        scrubbed = ScrubbedVolume(volume.volume_id, record.version, volume.source.layout, rows, reads, self.check)
        if self.mode == _Mode.LOCAL:
            scrub_local(scrubbed, findings)
        else:
            scrub_all(scrubbed, findings, recover=self.mode == _Mode.READS, forced=self.forced)
        return findings

    def _checksums(self, volume: NodeEcVolume) -> EcFindings:
        """Of all shards of this node, by the first sidecar that is good."""
        findings = EcFindings()
        sidecar: Sidecar | None = None
        for position, disk in enumerate(volume.disks):
            state, found = self._sidecar(disk.record)
            if state is SidecarState.INVALID:
                where = f" at {os.path.dirname(disk.record.data_base)}" if position else ""
                colon = "" if position else ":"
                findings.say(
                    f"ec volume {volume.volume_id}{colon} bitrot sidecar{where} is malformed/unverifiable "
                    "(sidecar integrity)"
                )
            sidecar = sidecar or found
        if sidecar is not None:
            found_damage = self._damage(volume, sidecar)
            findings.texts += found_damage.texts
            findings.broken = found_damage.broken
        return findings

    def _sidecar(self, record: EcRecord) -> tuple[SidecarState, Sidecar | None]:
        geometry = Geometry(Ratio(record.data_shards, record.parity_shards), record.block_size)
        for base in dict.fromkeys((record.data_base, record.index_base)):
            try:
                content = self.files.read_file(base + SIDECAR)
                if content is not None:
                    return judge_sidecar(geometry, FoundFile(base + SIDECAR, content))
            except (OSError, BadEcConfig):
                return SidecarState.INVALID, None
        return SidecarState.OFF, None

    def _damage(self, volume: NodeEcVolume, sidecar: Sidecar) -> EcFindings:
        ratio = volume.source.layout.ratio
        shards, lost = {}, {}
        for shard_id, disk in sorted(volume.here.items()):
            path = disk.record.data_base + shard_extension(shard_id)
            try:
                shards[shard_id] = self.files.open(path, writable=False)
            except OSError as error:
                lost[shard_id] = error_text(error)
        damage = check_shards(self.files, sidecar, shards, self.progress)
        block, failure = sidecar.checksum_block, ""
        for shard_id, found in damage.items():
            if found.error is not None:
                begin = Interval(shard_id, found.blocks[0] * block, 1)
                self.unreadable.failed(volume.here[shard_id], begin, found.error)
        try:
            corrupt = confirm_damage(self.files, ratio, shards, damage, block, self.progress)
        except OSError as error:
            corrupt, failure = damage.keys(), error_text(error)
        findings = checksum_findings(
            volume.volume_id, damage, corrupt, block=block, checked=len(shards), parity=ratio.parity
        )
        if failure:
            findings.say(f"ec volume {volume.volume_id}: RS arbitration failed: {failure}")
        for shard_id, reason in lost.items():
            findings.say(f"ec volume {volume.volume_id} shard {shard_id}: {reason}")
            findings.broken[shard_id] = 0
        return findings
