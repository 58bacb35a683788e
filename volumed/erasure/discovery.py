"""What the files of erasure coded volumes mean when a node starts: pure decisions (docs/spec/erasure-coding.md 4.3 to
4.7, rule R5).

First every disk for itself: `group_files` and `judge`. Then all disks of the node together: `plan_node`. Shards may be
the last copy of the data: only `judge`, when a complete `.dat` lies beside them, and `_is_partial_copy`, when one lies
on another disk, let any be removed (R9).
"""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from volumed.erasure.code import SHARDS_MAX, Ratio
from volumed.erasure.layout import Layout, uniform_block_size
from volumed.erasure.names import ENCODING, INDEX, INFO, JOURNAL, EcName, parse_ec_name, shard_extension
from volumed.formats.superblock import SUPERBLOCK_LENGTH

__all__ = [
    "EcFiles",
    "EmptyShard",
    "Encode",
    "FileStat",
    "Mirror",
    "Mount",
    "NodePlan",
    "Removal",
    "Verdict",
    "VolumeKey",
    "group_files",
    "judge",
    "plan_node",
    "removal_order",
]

_EMPTY_SHARD_AGE_S = 3600

VolumeKey = tuple[str, int]
"""Collection, volume id."""


class FileStat(NamedTuple):
    """Of a file in a listing."""

    size: int | None
    """In bytes; None: it could not be learnt."""
    age_s: float = 0.0
    """Since the last change."""


class EmptyShard(NamedTuple):
    """A shard file without content: the trace of a copy that failed, or of one that has just begun."""

    in_index_directory: bool
    name: str
    age_s: float

    @property
    def is_stale(self) -> bool:
        """Whether it may be removed."""
        return self.age_s > _EMPTY_SHARD_AGE_S


@dataclass(slots=True)
class EcFiles:
    """What one disk has of one volume. Sizes as in `FileStat`; a file that is not there is not in a mapping."""

    collection: str
    volume_id: int
    shards: dict[int, int | None] = field(default_factory=dict)
    """By id, without empty ones."""
    empty_shards: list[EmptyShard] = field(default_factory=list)
    data: dict[str, int | None] = field(default_factory=dict)
    """By extension: the other files in the data directory."""
    index: dict[str, int | None] = field(default_factory=dict)
    """The same of the index directory; the same mapping when that is the same directory."""
    deletions: tuple[int, int] | None = None
    """How many needles the journals delete, and a checksum of which; None: not known, or none."""
    leftovers: list[tuple[bool, str]] = field(default_factory=list)
    """(in the index directory, name) of files that an operation has not finished and that nobody will miss."""

    @property
    def has_index(self) -> bool:
        """Whether there is any `.ecx`."""
        return INDEX in self.data or INDEX in self.index

    @property
    def has_filled_index(self) -> bool:
        """Whether there is one with rows."""
        return bool(self.data.get(INDEX) or self.index.get(INDEX))

    @property
    def has_dat(self) -> bool:
        """Whether `.dat` holds data, or may: a size that could not be learnt counts as data."""
        return ".dat" in self.data and (self.dat_size is None or self.dat_size > SUPERBLOCK_LENGTH)

    @property
    def dat_size(self) -> int | None:
        """Bytes of `.dat`; None: unknown, or there is none."""
        return self.data.get(".dat")

    @property
    def empty_ids(self) -> set[int]:
        """Of the empty shards."""
        names = (parse_ec_name(shard.name) for shard in self.empty_shards if not shard.in_index_directory)
        return {name.shard_id for name in names if name is not None and name.shard_id is not None}

    def has(self, extension: str) -> bool:
        """Whether a file is in either directory."""
        return extension in self.data or extension in self.index


class Verdict(enum.Enum):
    """What to do with the EC files of a volume on one disk."""

    NOTHING = "nothing"
    """There are no shards, or not to be loaded without an index: everything stays."""
    RECLAIM = "reclaim"
    """The `.dat` is complete and the shards are not: remove the EC files, load the volume."""
    MOUNT = "mount"
    """Mount the shards; a `.dat` beside them stays and is not loaded."""


def group_files(data: Mapping[str, FileStat], index: Mapping[str, FileStat] | None) -> dict[VolumeKey, EcFiles]:
    """Listings of the data directory and of the index directory, None when they are the same, by volume."""
    groups: dict[VolumeKey, EcFiles] = {}
    for in_index, listing in ((False, data), (True, index or {})):
        for name, stat in sorted(listing.items()):
            parsed = parse_ec_name(name)
            if parsed is not None and not parsed.generation:
                _add(groups.setdefault(parsed[:2], EcFiles(*parsed[:2])), parsed, name, stat, in_index=in_index)
    for files in groups.values():
        if index is None:
            files.index = files.data
        if not files.has_dat:
            files.leftovers = [item for item in files.leftovers if not item[1].endswith(ENCODING)]
    return groups


def _add(files: EcFiles, name: EcName, text: str, stat: FileStat, *, in_index: bool) -> None:
    if name.staging:
        files.leftovers.append((in_index, text))
    elif name.extension[:3] == ".ec" and name.extension[3:].isdigit():
        if stat.size == 0:
            files.empty_shards.append(EmptyShard(in_index, text, stat.age_s))
        elif name.shard_id is not None and not in_index:
            files.shards[name.shard_id] = stat.size
    else:
        (files.index if in_index else files.data)[name.extension] = stat.size


def judge(files: EcFiles, ratio: Ratio) -> Verdict:
    """Decide for one disk alone (4.3). ``ratio`` is that of the `.vif`, or the default one."""
    if not files.has_index:
        if files.shards and files.has_dat and not _holds_more(files, ratio):
            return Verdict.RECLAIM
        return Verdict.NOTHING
    if files.has_dat and _is_interrupted(files, ratio):
        return Verdict.RECLAIM
    return Verdict.MOUNT if files.shards else Verdict.NOTHING


def _is_interrupted(files: EcFiles, ratio: Ratio) -> bool:
    """Whether the EC files are what an encode of the `.dat` left when it was killed. In doubt they are not (4.3.4)."""
    sizes = set(files.shards.values())
    if files.dat_size is None or None in sizes or len(sizes) > 1:
        return False
    return not sizes or max(size or 0 for size in sizes) < _expected_length(files.dat_size, ratio)


def _holds_more(files: EcFiles, ratio: Ratio) -> bool:
    """Whether shards may hold what the `.dat` does not: they are longer than an encode of it makes them.

    DEVIATE: the reference removes shards without an index beside any `.dat` with data, and so the last copy of a volume
    beside the `.dat` of a younger one with the same id.
    """
    if files.dat_size is None or None in files.shards.values():
        return True
    return max(size or 0 for size in files.shards.values()) > _expected_length(files.dat_size, ratio)


def _expected_length(dat_size: int, ratio: Ratio) -> int:
    return Layout(ratio, uniform_block_size(dat_size, ratio.data), dat_size).shard_length


def removal_order(files: EcFiles) -> Iterator[tuple[bool, str]]:
    """(in the index directory, extension) of what goes when EC files are removed from a disk: the index first, so that
    an interruption leaves nothing that could be loaded. `.vif` and `.ecsum` stay (4.3.5)."""
    directories = ((True, files.index), (False, files.data))
    for in_index, there in directories if files.index is not files.data else directories[1:]:
        for extension in (INDEX, JOURNAL):
            if extension in there:
                yield in_index, extension
    for shard in range(SHARDS_MAX):
        if shard in files.shards:
            yield False, shard_extension(shard)


class Encode(NamedTuple):
    """What the files beside shards say of how they were made."""

    data_shards: int
    dat_size: int
    """Bytes of the `.dat`; 0: unknown."""
    encode_ts_ns: int = 0
    """Identity of the encode run; 0: unknown."""


class Removal(NamedTuple):
    """Remove the EC files of a volume from a disk, and say why in the log."""

    disk: int
    key: VolumeKey
    reason: str


class Mirror(NamedTuple):
    """Copy a sidecar to a disk that has shards of the volume and lacks it."""

    disk: int
    source: int
    key: VolumeKey
    extension: str


class Mount(NamedTuple):
    """Mount all shards of a volume on a disk, which has an index of its own by then."""

    disk: int
    key: VolumeKey


class NodePlan(NamedTuple):
    """What to do once all disks are listed, in this order."""

    removals: list[Removal]
    mirrors: list[Mirror]
    mounts: list[Mount]


def plan_node(disks: Sequence[Mapping[VolumeKey, EcFiles]], encodes: Sequence[Mapping[VolumeKey, Encode]]) -> NodePlan:
    """Decide for the whole node, when what `judge` wants removed is gone.

    ``disks`` in their order; ``encodes`` are what the files of each disk say of volumes that it could mount, without
    those whose files cannot be understood.
    """
    plan = NodePlan([], [], [])
    for key in sorted({key for disk in disks for key in disk}):
        holders = [disk for disk, volumes in enumerate(disks) if key in volumes and volumes[key].shards]
        pruned = [disk for disk in holders if _is_partial_copy(disk, key, holders, disks, encodes)]
        reason = "a part of an encode whose source is complete on another disk"
        plan.removals.extend(Removal(disk, key, reason) for disk in pruned)
        for disk in holders:
            fitting = _of_same_run(disk, key, disks, encodes)
            owner = _index_owner(key, fitting, disks)
            if disk not in pruned and owner is not None:
                _plan_holder(plan, disk, owner, key, fitting, disks)
    return plan


def _of_same_run(
    disk: int,
    key: VolumeKey,
    disks: Sequence[Mapping[VolumeKey, EcFiles]],
    encodes: Sequence[Mapping[VolumeKey, Encode]],
) -> list[int]:
    """Disks with files of the volume that may belong to the shards of one of them, the latest encode run first: not
    those that are known to be of another run."""
    runs = {
        other: encodes[other][key].encode_ts_ns if key in encodes[other] else 0
        for other, volumes in enumerate(disks)
        if key in volumes
    }
    fitting = [other for other, run in runs.items() if not runs[disk] or run in (runs[disk], 0)]
    return sorted(fitting, key=lambda other: -runs[other])


def _plan_holder(
    plan: NodePlan,
    disk: int,
    owner: int,
    key: VolumeKey,
    fitting: Sequence[int],
    disks: Sequence[Mapping[VolumeKey, EcFiles]],
) -> None:
    files = disks[disk][key]
    has_own = files.has_filled_index or disk == owner
    if not has_own:
        source = disks[owner][key]
        # In this order: what is folded into the index meanwhile is in one of them.
        missing = [item for item in (JOURNAL, INDEX) if source.has(item) and not (files.has(item) and item != INDEX)]
        plan.mirrors.extend(Mirror(disk, owner, key, extension) for extension in missing)
    informed = _info_owner(key, owner, fitting, disks)
    if informed is not None and not files.has(INFO):
        plan.mirrors.append(Mirror(disk, informed, key, INFO))
    plan.mounts.append(Mount(disk, key))


def _info_owner(
    key: VolumeKey, owner: int, fitting: Sequence[int], disks: Sequence[Mapping[VolumeKey, EcFiles]]
) -> int | None:
    """The disk whose `.vif` is about the shards: that of the index, or else one that has shards. Disks that share an
    index directory all have the index, and only some the `.vif`: without it they would take the layout for another."""
    holders = (disk for disk in fitting if disks[disk][key].shards)
    return next((disk for disk in (owner, *holders) if disks[disk][key].has(INFO)), None)


def _index_owner(key: VolumeKey, fitting: Sequence[int], disks: Sequence[Mapping[VolumeKey, EcFiles]]) -> int | None:
    """The first disk with an index that has rows; without one, the first with an empty index (rule R5)."""
    having = [disk for disk in fitting if disks[disk][key].has_index]
    filled = [disk for disk in having if disks[disk][key].has_filled_index]
    return next(iter(filled or having), None)


def _is_partial_copy(
    disk: int,
    key: VolumeKey,
    holders: Sequence[int],
    disks: Sequence[Mapping[VolumeKey, EcFiles]],
    encodes: Sequence[Mapping[VolumeKey, Encode]],
) -> bool:
    """Whether the shards of a disk are too few to be of use, all over the node, and another disk has exactly the `.dat`
    that they were made of (4.5)."""
    files, encode = disks[disk][key], encodes[disk].get(key)
    if encode is None or not encode.dat_size or not files.has_index:
        return False
    # DEVIATE: the reference forgets what this journal deletes; nobody else may know it.
    if files.data.get(JOURNAL, 0) != 0 or files.index.get(JOURNAL, 0) != 0:
        return False
    if len({shard for holder in holders for shard in disks[holder][key].shards}) >= encode.data_shards:
        return False
    others = (volumes[key] for other, volumes in enumerate(disks) if other != disk and key in volumes)
    return any(other.dat_size == encode.dat_size for other in others)
