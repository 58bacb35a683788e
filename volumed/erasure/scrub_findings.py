"""What a scrub of erasure coded volumes finds, and what it looks at: pure decisions and texts
(docs/spec/erasure-coding.md 5.12)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from volumed.erasure.code import Ratio
from volumed.storage.index_check import FINDINGS_MAX, overlaps

if TYPE_CHECKING:
    from collections.abc import Collection

    from volumed.erasure.scrub import ShardDamage
    from volumed.storage.ec_records import EcRecord
    from volumed.storage.index_check import IndexRows

__all__ = ["DiskShards", "EcFindings", "ScrubPlan", "checksum_findings", "index_findings", "plan_scrub"]


@dataclass(slots=True)
class EcFindings:
    """Of one volume."""

    files: int = 0
    """Rows of the index that were looked at."""
    texts: list[str] = field(default_factory=list)
    broken: dict[int, int] = field(default_factory=dict)
    """Shards that are damaged or cannot be read, and their size in bytes as the reference tells it."""

    @property
    def is_broken(self) -> bool:
        """Whether anything is wrong."""
        return bool(self.texts or self.broken)

    def say(self, text: str) -> None:
        """Note a finding, if there are not too many already."""
        if len(self.texts) < FINDINGS_MAX:
            self.texts.append(text)


class DiskShards(NamedTuple):
    """A volume as one disk has it mounted."""

    disk_id: int
    directory: str
    """Of the shards."""
    record: EcRecord


class ScrubPlan(NamedTuple):
    """Which disks are checked together."""

    disks: list[int]
    """Positions in what was given, those of the youngest encode run; its index is that of the first."""
    foreign: list[str]
    """About the shards of other runs: they cannot be checked."""


def plan_scrub(volume_id: int, disks: Sequence[DiskShards]) -> ScrubPlan:
    """Take the disks that have the youngest encode run of a volume, in its layout; the shards of others are only
    reported. ``disks``: all that have it mounted, at least one."""
    anchor = max(disks, key=lambda disk: disk.record.encode_ts_ns).record
    plan = ScrubPlan([], [])
    for position, (disk_id, directory, record) in enumerate(disks):
        shards = f"EC volume {volume_id} shards at {directory} (position {disk_id})"
        if record.encode_ts_ns != anchor.encode_ts_ns:
            run = f"belong to encode run {record.encode_ts_ns} but the scrub anchors on {anchor.encode_ts_ns}"
            plan.foreign.append(f"{shards} {run}; they were not verified")
        elif _layout(record) != _layout(anchor):
            layout = f"have layout {_layout(record)} but the scrub anchors on {_layout(anchor)}"
            plan.foreign.append(f"{shards} {layout}; they were not verified")
        else:
            plan.disks.append(position)
    return plan


def _layout(record: EcRecord) -> str:
    return f"{Ratio(record.data_shards, record.parity_shards)} block {record.block_size}"


def index_findings(volume_id: int, length: int, whole: int, rows: IndexRows) -> EcFindings:
    """``length`` of the `.ecx` in bytes, that of its whole ``rows``."""
    findings = EcFindings(len(rows.keys))
    if not length:
        findings.say(f"zero-size ECX file for EC volume {volume_id}")
    findings.texts += overlaps(rows)
    if whole != length:
        findings.say(f"expected an index file of size {length}, got {whole}")
    return findings


def checksum_findings(
    volume_id: int,
    damage: Mapping[int, ShardDamage],
    corrupt: Collection[int],
    *,
    block: int,
    checked: int,
    parity: int,
) -> EcFindings:
    """What to say of shards that differ from their checksums, and which of them count as broken.

    ``damage``: those shards by id. ``corrupt``: the ids among them whose bytes are really wrong; the checksums of the
    others are out of date (`confirm_damage`). ``block``: what a checksum covers, in bytes. ``checked``: how many
    shards were looked at. With more damaged shards than ``parity`` the checksums are suspected, and no shard is broken.
    """
    findings = EcFindings()
    if len(damage) > parity:
        findings.say(
            f"ec volume {volume_id}: {len(damage)}/{checked} local shards mismatch (> parity {parity}): "
            "suspect stale sidecar, not flagging shard corruption"
        )
        return findings
    for shard_id, found in sorted(damage.items()):
        name = f"ec volume {volume_id} shard {shard_id}"
        for text in _damage_texts(found, block):
            findings.say(f"{name}: {text}")
        if shard_id in corrupt:
            findings.broken[shard_id] = found.length
        else:
            stale = (
                "sidecar mismatch but Reed-Solomon confirms the bytes are correct: stale sidecar, not flagging shard"
            )
            findings.say(f"{name}: {stale}")
    return findings


def _damage_texts(found: ShardDamage, block: int) -> list[str]:
    if found.length != found.expected_length:
        return [f"size {found.length} != covered_size {found.expected_length} (truncated or extended)"]
    if found.error is not None:
        return [f"read failed: {found.error.strerror or found.error}"]
    return [f"checksum mismatch at block {number} (offset {number * block})" for number in found.blocks]
