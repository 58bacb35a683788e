"""Calls about erasure coded volumes (docs/spec/erasure-coding.md 4 and 5).

Every call is about one disk: its worker changes the files of that disk only, and reads those of others where it is told
their directories. What concerns several disks is put together by the caller, the gRPC front or, at a start, the
supervisor. An operation that takes long is a job:

    StartEncode | StartRebuild | StartDecode → FollowEcJob … (→ StopEcJob)

Who does not ask any more has given up: the job ends, and leaves nothing.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

from volumed.bus.calls import Request

__all__ = [
    "DeleteEcGenerations",
    "DeleteEcIndex",
    "DeleteEcNeedle",
    "DeleteShards",
    "DescribeShards",
    "EcDirectories",
    "EcFilesView",
    "EcJobProgress",
    "EcJobStarted",
    "EcListing",
    "EcRequest",
    "EcVolumeView",
    "FoldJournal",
    "FollowEcJob",
    "ListEcFiles",
    "MergeDeletions",
    "MergeJournal",
    "MirrorSidecars",
    "MountShards",
    "MountStaged",
    "RemoveEcFiles",
    "ShardMount",
    "ShardUnreadable",
    "ShardsMounted",
    "ShardsRemaining",
    "StartDecode",
    "StartEncode",
    "StartRebuild",
    "StopEcJob",
    "TakeOverDeletions",
    "UnmountShards",
    "WipeEcFiles",
]


class EcDirectories(msgspec.Struct, frozen=True):
    """Where a disk keeps files of erasure coded volumes; the same path twice without an index directory of its own."""

    data: str
    index: str


# --- what is there, and mounting -------------------------------------------------------------------------------


class EcFilesView(msgspec.Struct, frozen=True):
    """What a disk has of one volume, from its directories. Sizes are None when they cannot be learnt."""

    collection: str
    volume_id: int
    shards: dict[int, int | None]
    """By id, without empty ones."""
    empty_shards: list[int]
    data: dict[str, int | None]
    """By extension, the other files in the data directory."""
    index: dict[str, int | None]
    """The same of the index directory."""
    mounted: list[int]
    """Ids of the shards that are mounted."""
    dat_size: int = 0
    """Of the volume when it was encoded, from the geometry; 0: unknown."""
    data_shards: int = 0
    """From the geometry; 0: the files do not say it, or cannot be understood."""
    encode_ts_ns: int = 0
    """Identity of the encode run; likewise."""
    deletions: tuple[int, int] | None = None
    """How many needles the journals delete, and a checksum of which; None: not known, or none."""


class EcListing(msgspec.Struct, frozen=True):
    """All erasure coded volumes of a disk, and its directories."""

    directories: EcDirectories
    volumes: list[EcFilesView]


class ListEcFiles(Request, frozen=True):
    """What is on the disk, whether mounted or not; of one volume, or of all with the id 0."""

    volume_id: int = 0
    Result: ClassVar[type[msgspec.Struct]] = EcListing


class MirrorSidecars(Request, frozen=True):
    """Copy files of a volume, those that are not there yet, from the directories of another disk (4.6)."""

    volume_id: int
    collection: str
    extensions: list[str]
    source: EcDirectories


class RemoveEcFiles(Request, frozen=True):
    """Unmount a volume's shards and remove them with their index (4.3.5). The reason is logged with every path (R9)."""

    volume_id: int
    collection: str
    reason: str


class ShardMount(msgspec.Struct, frozen=True):
    """What became of a shard: mounted, not on this disk (``error`` empty), or why it cannot be."""

    shard_id: int
    mounted: bool
    error: str = ""


class ShardsMounted(msgspec.Struct, frozen=True):
    """In the order of the request."""

    shards: list[ShardMount]


class MountShards(Request, frozen=True):
    """Mount shards that are on the disk, against the disk's own index (4.4). Mounted already is fine."""

    volume_id: int
    collection: str
    shard_ids: list[int]
    """Empty: all that are there."""
    disk_type: str = ""
    """Reported instead of the disk's own, for as long as they are mounted."""
    Result: ClassVar[type[msgspec.Struct]] = ShardsMounted


class UnmountShards(Request, frozen=True):
    """Unmount shards; absent is not an error. With an identity ≠ 0 only those of an older, known encode run (3.7)."""

    volume_id: int
    shard_ids: list[int]
    encode_ts_ns: int = 0


class ShardUnreadable(Request, frozen=True):
    """A front has met sectors that the disk cannot read. Of a shard that is mounted anew nothing is known."""

    volume_id: int
    shard_id: int
    generation: int
    """Of the record by which the front has read it."""


class EcVolumeView(msgspec.Struct, frozen=True):
    """A mounted volume, as this disk has it: for `VolumeEcShardsInfo` (5.10)."""

    collection: str
    shards: dict[int, int]
    """Lengths in bytes by id."""
    data_shards: int
    parity_shards: int
    block_size: int
    encode_ts_ns: int
    live: int
    """Rows of the index; deletions of the journal are not subtracted."""
    deleted: int
    content_bytes: int


class DescribeShards(Request, frozen=True):
    """A mounted volume; ``VolumeEcShardsInfo: EC volume <vid> not found``."""

    volume_id: int
    count: bool = True
    """Whether to count the rows of the index, which takes time; the counters are 0 otherwise."""
    Result: ClassVar[type[msgspec.Struct]] = EcVolumeView


# --- deletions -------------------------------------------------------------------------------------------------


class DeleteEcNeedle(Request, frozen=True):
    """Write a deletion to the journal, durably, and to the map (4.12). Deleted already is fine; fails when the index
    has no such needle, and with `VolumeNotFound` when the volume is not mounted on the disk."""

    volume_id: int
    key: int


class MergeJournal(Request, frozen=True):
    """Append what the journal lacks, durably (R1); the volume may be mounted or not."""

    volume_id: int
    collection: str
    keys: list[int]


class MergeDeletions(Request, frozen=True):
    """`MergeJournal` with what the files of other disks of the node delete; what cannot be read there is left out."""

    volume_id: int
    collection: str
    sources: list[EcDirectories]
    indexes: bool = False
    """Whether to look also for deletions that were folded into their indexes, which are read as a whole."""


class TakeOverDeletions(Request, frozen=True):
    """Delete in the mounted normal volume of the id what the journals of shards delete that were made of it, durably,
    also when it is read-only. With an identity ≠ 0 only what is of an older, known encode run (3.7)."""

    volume_id: int
    collection: str
    sources: list[EcDirectories]
    """Of the disks that have shards, or an index."""
    older_than: int = 0


class FoldJournal(Request, frozen=True):
    """Write the journal's deletions into the index and empty it (3.3, R2); the volume may be mounted or not."""

    volume_id: int
    collection: str


# --- files that go ---------------------------------------------------------------------------------------------


class WipeEcFiles(Request, frozen=True):
    """Unmount a volume and remove all that was encoded of it (5.1 step 2, 5.5), `.vif` only without an `.idx` beside
    it. With an identity ≠ 0 only what is of an older, known encode run (3.7)."""

    volume_id: int
    collection: str
    encode_ts_ns: int = 0


class ShardsRemaining(msgspec.Struct, frozen=True):
    """Ids of the shards that are still on the disk."""

    shard_ids: list[int]


class DeleteShards(Request, frozen=True):
    """Remove shard files, and `.ecsum` with the last one (5.5). They are unmounted first if the caller has not."""

    volume_id: int
    collection: str
    shard_ids: list[int]
    Result: ClassVar[type[msgspec.Struct]] = ShardsRemaining


class DeleteEcIndex(Request, frozen=True):
    """No disk of the node has a shard any more: remove `.ecx`, `.ecj`, and `.vif` without an `.idx` beside it (5.5)."""

    volume_id: int
    collection: str


class DeleteEcGenerations(Request, frozen=True):
    """Remove the staged files of generations 1 to ``below`` - 1 (5.5)."""

    volume_id: int
    collection: str
    below: int


# --- jobs ------------------------------------------------------------------------------------------------------


class EcJobStarted(msgspec.Struct, frozen=True):
    """The number to ask by."""

    job: int


class EcJobProgress(msgspec.Struct, frozen=True):
    """How far a job is."""

    processed_bytes: int
    total_bytes: int
    done: bool
    shard_ids: list[int] = []
    """Those that a rebuild has made, once it is done."""
    damaged_elsewhere: list[int] = []
    """Those that other disks have to rebuild, each its own."""


class StartEncode(Request, frozen=True):
    """Encode the mounted normal volume of the id (5.1 steps 3 to 7). Files of an earlier encode are gone."""

    volume_id: int
    collection: str
    Result: ClassVar[type[msgspec.Struct]] = EcJobStarted


class StartRebuild(Request, frozen=True):
    """Rebuild shards of a volume onto this disk (5.6 steps 2 to 7): with ``absent`` those that no disk has, and in any
    case the damaged ones that are here."""

    volume_id: int
    collection: str
    others: list[EcDirectories]
    """Of the other disks that have files of the volume, in their order: read, never written."""
    absent: bool
    ignore_sidecar: bool = False
    Result: ClassVar[type[msgspec.Struct]] = EcJobStarted


class StartDecode(Request, frozen=True):
    """Put the volume together on this disk, which has its index (5.9 steps 3 to 9). Journals are folded in before."""

    volume_id: int
    collection: str
    others: list[EcDirectories]
    Result: ClassVar[type[msgspec.Struct]] = EcJobStarted


class MountStaged(Request, frozen=True):
    """Give the files of a volume that were sent one by one (`OpenFile`) their names, and mount it (5.9)."""

    volume_id: int
    collection: str


class FollowEcJob(Request, frozen=True):
    """How far a job is. Fails, once, with the error that ended it."""

    job: int
    Result: ClassVar[type[msgspec.Struct]] = EcJobProgress


class StopEcJob(Request, frozen=True):
    """Nobody wants the result: stop, and leave nothing. Answered when nothing is left, and the volume is free. Absent
    is not an error."""

    job: int


EcRequest = (
    ListEcFiles
    | MirrorSidecars
    | RemoveEcFiles
    | MountShards
    | UnmountShards
    | ShardUnreadable
    | DescribeShards
    | DeleteEcNeedle
    | MergeDeletions
    | MergeJournal
    | FoldJournal
    | WipeEcFiles
    | DeleteShards
    | DeleteEcIndex
    | DeleteEcGenerations
    | StartEncode
    | StartRebuild
    | StartDecode
    | MountStaged
    | TakeOverDeletions
    | FollowEcJob
    | StopEcJob
)
