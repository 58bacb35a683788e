"""What can go wrong with erasure coded volumes, in the reference's words where it has some."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

from volumed.errors import (
    ClientError,
    Code,
    CookieMismatch,
    DiskError,
    FormatError,
    NeedleNotFound,
    NoFreeSpace,
    RetryError,
    VolumedError,
    VolumeNotFound,
)

__all__ = [
    "BadDiskId",
    "BadEcConfig",
    "BadEcIndex",
    "BadSidecar",
    "EcCookieMismatch",
    "EcInterrupted",
    "EcReadFailed",
    "EcShardNotFound",
    "EcVolumeMounted",
    "EcVolumeNotFound",
    "EcVolumeUnusable",
    "MountFailed",
    "NoRoomForShards",
    "NoShardLocation",
    "NoSpaceForShards",
    "NoSuchEcNeedle",
    "NotMountable",
    "OtherEncodeRun",
    "RebuildFailed",
    "RebuildRefused",
    "StagedVolumeError",
    "TooFewShards",
    "UnclearLayout",
    "numbers",
]

_OVERRIDE = "(pass unsafeIgnoreSidecar to override)"


def numbers(values: Collection[int]) -> str:
    """A list of numbers as the reference prints it: ``[1 2 3]``."""
    return f"[{' '.join(map(str, values))}]"


class BadEcConfig(FormatError):
    """A ratio or a block size that no volume can have, or files that do not say which they have (3.6)."""

    @classmethod
    def ratio(cls, data_shards: int, parity_shards: int) -> BadEcConfig:
        return cls(f"records invalid shard counts {data_shards}+{parity_shards}")

    @classmethod
    def block_size(cls, block_size: int) -> BadEcConfig:
        return cls(f"invalid shard block size {block_size}: expected 0 (legacy) or a multiple of 1048576")

    @classmethod
    def in_file(cls, path: str, cause: BadEcConfig) -> BadEcConfig:
        # COMPAT: one of the two causes follows a colon, the other one a blank.
        between = ": " if cause.text.startswith("invalid") else " "
        return cls(f"{path}{between}{cause.text}")

    @classmethod
    def unreadable_vif(cls, path: str) -> BadEcConfig:
        return cls(f"load {path}: invalid volume info")

    @classmethod
    def unclear(cls, vif: str, cause: str) -> BadEcConfig:
        """Neither `.vif` nor `.ecsum` helps; ``vif`` is empty when there is none."""
        known = f"{vif} records no EC config" if vif else "no .vif"
        return cls(f"{known} and the bitrot sidecar cannot establish the layout: {cause}")

    @classmethod
    def two_layouts(cls, path: str, recorded: str, mounted: str) -> BadEcConfig:
        """Both as `Geometry` prints itself."""
        return cls(
            f"generation 0: {path} records layout {recorded} but the volume is mounted as {mounted}; "
            "refusing to serve one of the two layouts"
        )


class BadSidecar(FormatError):
    """An `.ecsum` that cannot be trusted."""


class BadEcIndex(DiskError):
    """An `.ecx` or `.ecj` that is not what it must be."""

    @classmethod
    def torn_journal(cls) -> BadEcIndex:
        return cls("rebuild: read ecj: unexpected EOF")

    @classmethod
    def odd_length(cls, length: int) -> BadEcIndex:
        return cls(f"index file's size is {length} bytes, maybe corrupted")


class NoSuchEcNeedle(NeedleNotFound):
    """The index of the volume does not have it (4.12)."""

    default_code = Code.UNKNOWN

    def __init__(
        self, text: str = "locate in local ec volume: FindNeedleFromEcx: needle not found", code: Code | None = None
    ) -> None:
        super().__init__(text, code)


class EcVolumeNotFound(VolumeNotFound):
    """No shard of the volume is mounted."""

    @classmethod
    def of(cls, volume_id: int) -> EcVolumeNotFound:
        return cls(f"ec volume {volume_id} not found")

    @classmethod
    def for_info(cls, volume_id: int) -> EcVolumeNotFound:
        return cls(f"VolumeEcShardsInfo: EC volume {volume_id} not found")


class EcCookieMismatch(CookieMismatch):
    """The cookie of a deletion is not the stored one (4.12)."""

    @classmethod
    def of(cls, cookie: int) -> EcCookieMismatch:
        """``cookie`` is that of the request."""
        return cls(f"unexpected cookie {cookie:x}")


class NoShardLocation(RetryError):
    """No server is known to have any shard of a volume."""

    default_code = Code.UNKNOWN

    @classmethod
    def of(cls, volume_id: int) -> NoShardLocation:
        return cls(f"ec volume {volume_id}: no server is known to have a shard")


class EcShardNotFound(DiskError):
    """A shard that is asked for is not mounted here (5.7)."""

    @classmethod
    def of(cls, volume_id: int, shard_id: int) -> EcShardNotFound:
        return cls(f"not found ec shard {volume_id}.{shard_id}")


class OtherEncodeRun(DiskError):
    """The shard that is here is of another encode run than the one that is wanted (5.7)."""

    @classmethod
    def of(cls, volume_id: int, shard_id: int) -> OtherEncodeRun:
        return cls(f"ec shard {volume_id}.{shard_id} belongs to a different encode run")

    @classmethod
    def on_disk(cls, path: str) -> OtherEncodeRun:
        """Another disk has files that do not belong to the shards of this one."""
        return cls(f"{path} belongs to a different encode run")

    @classmethod
    def to_copy(cls, volume_id: int, theirs: int, here: Iterable[int]) -> OtherEncodeRun:
        """Shards of other runs are on this server."""
        runs = ", ".join(map(str, sorted(here)))
        return cls(
            f"the source has encode run {theirs} of ec volume {volume_id}, but shards of run {runs} are here: "
            "remove them first"
        )


class EcReadFailed(DiskError):
    """A needle that cannot be read from the shards that are left (4.11)."""

    @classmethod
    def of(cls, reason: str) -> EcReadFailed:
        return cls(f"ReadEcShardIntervals: {reason}")


class UnclearLayout(DiskError):
    """Shards that cannot be put together to a `.dat` without a doubt (2.4)."""

    @classmethod
    def of_length(cls, shard_length: int, base: str) -> UnclearLayout:
        return cls(
            f"shard size {shard_length} of {base} does not identify the block layout; "
            "re-encode to record the dat size in .vif"
        )

    @classmethod
    def too_long(cls, live: int, encoded: int) -> UnclearLayout:
        return cls(f"dat file size {live} exceeds encoded dat file size {encoded}")

    @classmethod
    def short_shard(cls, shard_id: int, length: int, expected: int) -> UnclearLayout:
        return cls(f"ec shard {shard_id} has {length} bytes, expected {expected}")


class TooFewShards(DiskError):
    """Less than ``k`` shards: what is lost cannot be computed."""

    @classmethod
    def for_read(
        cls, volume_id: int, shard_id: int, available: Sequence[int], needed: int, missing: Sequence[int]
    ) -> TooFewShards:
        return cls(
            f"cannot recover shard {volume_id}.{shard_id}: only {len(available)} shards available "
            f"{numbers(available)}, need at least {needed} (missing: {numbers(missing)})"
        )

    @classmethod
    def for_rebuild(cls, base: str, found: int, needed: int, missing: Sequence[int]) -> TooFewShards:
        return cls(
            f"not enough shards to rebuild {base}: found {found} shards, need at least {needed} (data shards), "
            f"missing shards: {numbers(missing)}"
        )


class RebuildRefused(DiskError):
    """The shards do not agree with each other or with their checksums (5.6)."""

    @classmethod
    def lengths_differ(cls, shard_id: int, length: int, expected: int) -> RebuildRefused:
        return cls(f"rebuildEcFiles: ec rebuild: input shard {shard_id} size {length} != {expected} (truncated input?)")

    @classmethod
    def sidecar_unverifiable(cls, base: str) -> RebuildRefused:
        return cls(f"bitrot sidecar for {base} is malformed/unverifiable; refusing to rebuild {_OVERRIDE}")

    @classmethod
    def sidecar_suspect(cls, base: str, corrupt: int, present: int, parity: int) -> RebuildRefused:
        return cls(
            f"bitrot sidecar suspect for {base}: {corrupt}/{present} present shards mismatch (> parity {parity}); "
            f"refusing to rebuild {_OVERRIDE}"
        )

    @classmethod
    def too_few_good(cls, good: int, base: str, needed: int) -> RebuildRefused:
        return cls(
            f"bitrot: only {good} verified-good shards for {base}, need {needed} data shards; "
            f"sidecar may be stale {_OVERRIDE}"
        )

    @classmethod
    def result_differs(cls, shard_id: int, base: str, blocks: int) -> RebuildRefused:
        return cls(
            f"bitrot: regenerated shard {shard_id} for {base} does not match sidecar ({blocks} blocks differ); "
            f"sidecar likely stale — aborting {_OVERRIDE}"
        )


class RebuildFailed(DiskError):
    """Why a rebuild came to nothing; ``base`` is the path of the volume's files without extension."""

    @classmethod
    def layout(cls, base: str, cause: VolumedError) -> RebuildFailed:
        return cls(f"resolve rebuild layout for {base}: RebuildEcFiles {base}: {cause.text}")

    @classmethod
    def shards(cls, base: str, cause: VolumedError) -> RebuildFailed:
        return cls(f"RebuildEcFiles {base}: {cause.text}", cause.code)

    @classmethod
    def index(cls, base: str, cause: VolumedError) -> RebuildFailed:
        return cls(f"RebuildEcxFile {base}: {cause.text}", cause.code)


class EcVolumeUnusable(DiskError):
    """Why shards cannot become a volume (5.9)."""

    @classmethod
    def missing(cls, volume_id: int) -> EcVolumeUnusable:
        return cls(f"ec volume {volume_id} not found")

    @classmethod
    def lacks(cls, volume_id: int, shard_id: int) -> EcVolumeUnusable:
        return cls(f"ec volume {volume_id} missing shard {shard_id}")

    @classmethod
    def elsewhere(cls, volume_id: int, disk_id: int) -> EcVolumeUnusable:
        return cls(f"volume {volume_id} is mounted on disk {disk_id}, its shards are on others: remove it first")

    @classmethod
    def empty(cls, volume_id: int) -> EcVolumeUnusable:
        return cls(f"ec volume {volume_id} has no live entries", Code.FAILED_PRECONDITION)

    @classmethod
    def damaged(cls, volume_id: int, needles: int) -> EcVolumeUnusable:
        return cls(f"{needles} needles of volume {volume_id} cannot be read")


class StagedVolumeError(DiskError):
    """Why files that were sent one by one cannot become a volume (5.9, from_staged)."""

    @classmethod
    def exists(cls, volume_id: int) -> StagedVolumeError:
        return cls(f"staged volume {volume_id} already exists on this server")

    @classmethod
    def nowhere(cls, volume_id: int, disk_type: str) -> StagedVolumeError:
        return cls(f"staged volume {volume_id}: no .dat.copying found on a {disk_type} disk")

    @classmethod
    def lacks(cls, volume_id: int, extension: str) -> StagedVolumeError:
        return cls(f"staged volume {volume_id} missing {extension}.copying")


class NoSpaceForShards(NoFreeSpace):
    """The disk has no room for what an operation would write."""

    @classmethod
    def of(cls, base: str, wanted: int, free: int) -> NoSpaceForShards:
        """Both in bytes."""
        text = f"{base}: insufficient free space: need {wanted} bytes, but only {free} bytes available"
        return cls(text, Code.RESOURCE_EXHAUSTED)


class EcInterrupted(RetryError):
    """The operation was told to stop; nothing of it is left."""

    def __init__(self, text: str = "erasure coding was interrupted", code: None = None) -> None:
        super().__init__(text, code)


class NotMountable(DiskError):
    """Shards that cannot be mounted as they are (4.4)."""

    @classmethod
    def empty_shard(cls, volume_id: int, shard_id: int, rows: int) -> NotMountable:
        return cls(
            f"ec volume {volume_id} shard {shard_id}: shard file is empty (0 bytes) but the index has {rows} entries: "
            "residue of a failed copy, not a mountable shard"
        )

    @classmethod
    def volume(cls, volume_id: int, cause: str) -> NotMountable:
        # COMPAT: what two sidecars disagree about follows a blank, everything else a colon.
        between = " " if cause.startswith("generation") else ": "
        return cls(f"failed to create ec volume {volume_id}: ec volume {volume_id}{between}{cause}")


class MountFailed(VolumedError):
    """A shard is not mounted (5.2)."""

    @classmethod
    def of(cls, volume_id: int, shard_id: int, failures: Sequence[tuple[str, str]], *, has_index: bool) -> MountFailed:
        """``failures``: directory and cause of every disk that has the shard and cannot mount it."""
        if failures:
            cause = " load failures: " + "; ".join(f"{directory}: {cause}" for directory, cause in failures)
        else:
            cause = " not found on disk" if has_index else ": no .ecx index found on any local disk"
        shard = f"{volume_id}.{shard_id}"
        return cls(f"mount {shard}: MountEcShards {shard}{cause}")


class BadDiskId(ClientError):
    """A disk that the node does not have (5.4, 5.11)."""

    @classmethod
    def of(cls, disk_id: int, disks: int) -> BadDiskId:
        return cls(f"invalid disk_id {disk_id}: only have {disks} disks")


class NoRoomForShards(NoFreeSpace):
    """No disk takes new files (4.8)."""

    @classmethod
    def for_shards(cls) -> NoRoomForShards:
        return cls("no space left")

    @classmethod
    def for_file(cls) -> NoRoomForShards:
        return cls("no storage location available")


class EcVolumeMounted(ClientError):
    """Files of a mounted volume are not replaced from outside (5.11)."""

    @classmethod
    def of(cls, volume_id: int, disk_ids: Collection[int]) -> EcVolumeMounted:
        return cls(f"ec volume {volume_id} is mounted on disk_ids:{numbers(disk_ids)}; unmount before ReceiveFile")
