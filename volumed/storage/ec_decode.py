"""Shards of a volume back into `.dat` and `.idx` (docs/spec/erasure-coding.md 5.9, steps 3 to 9).

The shards are put together under names in progress, then compacted as a vacuum does it, into `.cpd` and `.cpx`. The
change-over is that of a vacuum too, with its marker: killed at any moment, the disk has the old files or the new ones,
and never a `.dat` whose index does not know what is deleted. Everything here may wait for the disk.
"""

from __future__ import annotations

import logging
from typing import NamedTuple

from volumed.erasure.columns import Progress
from volumed.erasure.decode import decode_layout, write_dat, write_idx
from volumed.erasure.errors import EcInterrupted, EcVolumeUnusable
from volumed.erasure.geometry import judge_sidecar
from volumed.erasure.index import live_bytes
from volumed.erasure.names import DECODING, SIDECAR
from volumed.erasure.scrub import check_shards
from volumed.errors import VolumedError
from volumed.formats.idx import DELETED, decode_rows, pack_rows
from volumed.formats.superblock import SUPERBLOCK_LENGTH_MAX, SuperBlock
from volumed.formats.vif import VolumeInfo
from volumed.storage.compaction import Compacted, Compaction
from volumed.storage.compaction_commit import finish_swap, swap_files
from volumed.storage.ec_encode import require_space
from volumed.storage.ec_files import index_path, remove_logged
from volumed.storage.ec_identity import are_of_one_run
from volumed.storage.ec_journal import read_journals
from volumed.storage.ec_keep import Kept, Present, append_kept, find_present, newer_in
from volumed.storage.ec_newer import Restored
from volumed.storage.ec_rebuild import EcSet, find_set
from volumed.storage.fileio import File
from volumed.storage.index_scan import scan_rows
from volumed.storage.map_records import VolumeProgress
from volumed.storage.site import DiskSite, VolumePaths
from volumed.storage.volume import Volume, VolumeParts

__all__ = ["DecodeTask", "Decoded", "decode_set", "discard_decoded", "put_in_place", "remove_outdated"]

_log = logging.getLogger(__name__)


class DecodeTask(NamedTuple):
    """What to put together, and where."""

    site: DiskSite
    volume_id: int
    collection: str
    disks: list[VolumePaths]
    """Where the shards are; those of this disk first, which has the index."""
    target: VolumePaths
    """Of the files that are made."""
    mounted: Present | None = None
    """The normal volume of the id that is in use, and is going to take the new files over."""


class Decoded(NamedTuple):
    """The new files, as `.cpd` and `.cpx`, and what they were made of."""

    compaction: Compaction
    new: Compacted
    deleted: frozenset[int]
    """Deletions of the journals that the new index knows of."""


def decode_set(task: DecodeTask, progress: Progress) -> Decoded:
    """Make the new files. Raises `VolumedError`, `OSError`; then nothing is left of them."""
    volume, deleted = _put_together(task, progress)
    try:
        compaction = Compaction(volume, 0, 0)
        progress.when_stopped(compaction.stop)
        try:
            new = compaction.run()
        except VolumedError as error:
            progress.require_running()
            if task.mounted is not None:
                raise
            # The reference only logs it, too: what is deleted stays in the file for the next vacuum.
            _log.warning("volume %d is not compacted: %s", task.volume_id, error.text)
            return Decoded(compaction, _as_it_is(volume, compaction), deleted)
        progress.require_running()
        if compaction.drops:
            compaction.discard()
            if task.mounted is not None or not _are_vouched_for(task, progress):
                # DEVIATE: the reference puts the damage in the place of what other shards can recover.
                raise EcVolumeUnusable.damaged(task.volume_id, compaction.drops)
            new = _as_it_is(volume, compaction)
        return Decoded(compaction, new, deleted)
    except EcInterrupted:
        Compaction.remove_files(volume)
        raise
    finally:
        _remove_staged(task)


def put_in_place(task: DecodeTask, decoded: Decoded) -> None:
    """Give the new files their names; nobody has a volume there mounted. Raises `VolumedError`, `OSError`."""
    files, new = task.site.files, decoded.new
    late = _journaled(task) - decoded.deleted
    if late:
        rows = pack_rows(((key, 0, DELETED) for key in sorted(late)), task.site.offset_width)
        files.write_at(new.idx, new.progress.idx_bytes, [rows])
    swap_files(decoded.compaction.volume, new)
    finish_swap(files, task.target)


def discard_decoded(decoded: Decoded) -> None:
    """Nobody wants them."""
    decoded.compaction.discard()


def remove_outdated(task: DecodeTask) -> None:
    """Remove what the new files make useless: checksums of shards that are going to go, and an index elsewhere. Raises
    `OSError`."""
    files, own = task.site.files, task.disks[0]
    for path in own.places(SIDECAR):
        remove_logged(files, path, "the volume is decoded")
    if own.index_directory != task.target.index_directory:
        # The next mount takes the one beside the `.dat`.
        files.remove(own.index(".idx"))


def _put_together(task: DecodeTask, progress: Progress) -> tuple[Volume, frozenset[int]]:
    """The decoded volume under names in progress, and the deletions that it knows of."""
    files, width, target = task.site.files, task.site.offset_width, task.target
    found = find_set(files, task.disks)
    shards = _data_shards(task.volume_id, found)
    superblock = SuperBlock.decode(files.read_at(shards[0], 0, SUPERBLOCK_LENGTH_MAX))
    index = index_path(files, task.disks[0])
    if index is None:
        raise EcVolumeUnusable.missing(task.volume_id)
    ecx = files.open(index, writable=False)
    version = superblock.version
    live = live_bytes(files, ecx, width, version)
    if live is None:
        raise EcVolumeUnusable.empty(task.volume_id)
    layout = decode_layout(found.geometry, files.size(shards[0]), live, task.disks[0].data(""))
    deleted = _journaled(task)
    present = task.mounted or find_present(files, (target, task.disks[0]), width)
    require_space(files, target, 2 * (live + files.size(ecx)))
    dat, idx = target.data(".dat") + DECODING, target.index(".idx") + DECODING
    kept = Kept([], frozenset())
    try:
        write_dat(files, layout, shards, dat, live, progress)
        made = files.open(dat)
        restored = Restored(superblock, made, ecx, deleted, found.geometry.encode_ts_ns, found.geometry.dat_size)
        if present is not None:
            kept = newer_in(files, present, restored, width, progress)
            require_space(files, target, live + 2 * (kept.length(version) + files.size(ecx)))
        write_idx(files, ecx, sorted(deleted | kept.deleted), idx, width)
        index_made = files.open(idx)
        if present is not None:
            append_kept(files, present, kept, made, index_made, width, version, progress)
        return _as_volume(task, made, index_made, superblock), deleted
    except BaseException:
        _remove_staged(task)
        raise


def _are_vouched_for(task: DecodeTask, progress: Progress) -> bool:
    """Whether the data shards are what their checksums say: what is damaged was so before the encode."""
    found = find_set(task.site.files, task.disks)
    _, sidecar = judge_sidecar(found.geometry, found.sidecar)
    data = {shard_id: file for shard_id, file in found.shards.items() if shard_id < found.geometry.ratio.data}
    return sidecar is not None and not check_shards(task.site.files, sidecar, data, progress)


def _data_shards(volume_id: int, found: EcSet) -> list[File]:
    for shard_id in range(found.geometry.ratio.data):
        if shard_id not in found.shards:
            raise EcVolumeUnusable.lacks(volume_id, shard_id)
    return [found.shards[shard_id] for shard_id in range(found.geometry.ratio.data)]


def _journaled(task: DecodeTask) -> frozenset[int]:
    """Deletions that no index knows of yet."""
    files, width, (own, *others) = task.site.files, task.site.offset_width, task.disks
    found = read_journals(files, own)
    for other in others:
        news = read_journals(files, other) - found
        # In another encode run it may be another needle that had the id.
        if news and are_of_one_run(files, width, own, other) is not False:
            found |= news
    return frozenset(found)


def _as_volume(task: DecodeTask, dat: File, idx: File, superblock: SuperBlock) -> Volume:
    """A volume that nobody has mounted, for what works on volumes."""
    site = task.site
    rows = site.files.read_at(idx, 0, site.files.size(idx))
    progress = VolumeProgress(compaction_revision=superblock.compaction_revision)
    scan_rows(*decode_rows(rows, site.offset_width), superblock.version, progress)
    progress.idx_bytes, progress.last_row = len(rows), rows[-site.row_length :]
    parts = VolumeParts(
        volume_id=task.volume_id,
        collection=task.collection,
        paths=task.target,
        superblock=superblock,
        info=VolumeInfo(),
        replica_placement=superblock.replica_placement.byte,
        dat=dat,
        idx=idx,
        dat_end=site.files.size(dat),
        modified_at_s=0,
        progress=progress,
    )
    return Volume(site, parts, 0)


def _as_it_is(volume: Volume, compaction: Compaction) -> Compacted:
    """What was put together, in the place of what a compaction makes of it."""
    files, paths = volume.site.files, volume.paths
    files.rename(volume.dat.path, paths.data(".cpd"))
    files.rename(volume.idx.path, paths.index(".cpx"))
    compaction.superblock = volume.superblock
    dat, idx = files.open(paths.data(".cpd")), files.open(paths.index(".cpx"))
    return Compacted(dat, idx, volume.dat_end, volume.progress, 0)


def _remove_staged(task: DecodeTask) -> None:
    for path in (task.target.data(".dat"), task.target.index(".idx")):
        task.site.files.remove(path + DECODING)
