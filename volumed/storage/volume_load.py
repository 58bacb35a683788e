"""Creating and loading a volume (docs/spec/storage.md 5.1, 5.3).

Loading trusts the files, not the map: a valid map only saves reading the whole `.idx`. What a killed process may
leave is finished or cut off here, under proof: the map of the same boot shows that everything up to its mark was
committed, so what lies behind the indexed part was never acknowledged. Without that proof (another boot, a map that
was lost, files that were changed by somebody) nothing is cut, and what cannot be explained makes the volume
read-only, as in the reference.
"""

from __future__ import annotations

import logging
import stat
from dataclasses import dataclass, replace

from volumed.errors import FormatError, VolumedError, VolumeLoadError
from volumed.formats.idx import ROW_LENGTH, pack_rows
from volumed.formats.replication import ReplicaPlacement
from volumed.formats.superblock import SUPERBLOCK_LENGTH, SUPERBLOCK_LENGTH_MAX, VERSIONS, SuperBlock
from volumed.formats.vif import RemoteFile, VolumeInfo, decode_vif
from volumed.storage.directory import remove_volume_files
from volumed.storage.fileio import DistantFile, File
from volumed.storage.index_repair import index_is_blank, rebuild_index, repair_head, scan_unindexed
from volumed.storage.map_load import MapScan, catch_up_map, newest_put_time, scan_map
from volumed.storage.map_records import NO_FLAGS, VolumeFlag, VolumeProgress
from volumed.storage.needle_map import MapError
from volumed.storage.site import DiskSite, VolumePaths
from volumed.storage.tail_check import TailTooLong, check_tail
from volumed.storage.volume import Volume, VolumeParts

__all__ = ["RemoteDataNeeded", "create_volume", "load_volume", "scan_volume"]

_log = logging.getLogger(__name__)

_ALIGNMENT = 8
_OWNER_READ, _OWNER_WRITE = stat.S_IRUSR, stat.S_IWUSR


class RemoteDataNeeded(VolumeLoadError):
    """The volume keeps its data in a remote tier: open them (``volumed.storage.tier``) and load it with them."""

    entry: RemoteFile
    collection: str
    dat_path: str
    """Where the data would be on the disk."""

    @classmethod
    def of(cls, paths: VolumePaths, collection: str, entry: RemoteFile) -> RemoteDataNeeded:
        error = cls(f"{paths.base_name} keeps its data in {entry.backend_name}")
        error.entry, error.collection, error.dat_path = entry, collection, paths.data(".dat")
        return error


def create_volume(
    site: DiskSite,
    collection: str,
    volume_id: int,
    superblock: SuperBlock,
    preallocate_bytes: int = 0,
) -> Volume:
    """Make the files of a new volume and load it; an existing `.dat` of that name is adopted with its own
    superblock. Raises `VolumedError`, `OSError`, `MapError`; then no file of a new volume is left."""
    paths, files = site.paths(collection, volume_id), site.files
    is_new = not files.exists(paths.data(".dat"))
    if is_new:
        info, _ = _read_info(site, paths)
        if info.files:
            raise RemoteDataNeeded.of(paths, collection, info.files[0])
        # A deletion that was interrupted leaves rows and marks of the old volume.
        remove_volume_files(files, paths)
    try:
        dat = files.open(paths.data(".dat"), create=True)
        if preallocate_bytes:
            files.reserve(dat, preallocate_bytes)
        if not files.size(dat):
            files.write_at(dat, 0, [superblock.encode()])
        files.open(paths.index(".idx"), create=True)
        return load_volume(site, collection, volume_id)
    except (OSError, VolumedError, MapError):
        if is_new:
            remove_volume_files(files, paths)
        raise


def load_volume(
    site: DiskSite, collection: str, volume_id: int, *, after_kill: bool = False, remote: DistantFile | None = None
) -> Volume:
    """Open a volume, repair what can be, bring the map up to date and publish it to readers.

    ``after_kill``: the map is what a process of this boot had committed when it was killed, so an unfinished append
    may be cut off if the map knows these files. ``remote``: the data of a volume that keeps them in a remote tier; the
    superblock must be at hand in it. Raises `RemoteDataNeeded` when they are missing, `VolumeLoadError` or another
    `VolumedError`, `OSError`, `MapError`: the volume is not mounted.
    """
    loader = _Loader(site, site.paths(collection, volume_id), collection, volume_id, after_kill, remote)
    return loader.load()


def scan_volume(
    site: DiskSite, collection: str, volume_id: int, remote: DistantFile | None = None
) -> MapScan | None:
    """Do what takes long of `load_volume` (any thread): repair the index of a volume that is not mounted, and scan it
    if the map does not fit. Raises what `load_volume` raises."""
    return _Loader(site, site.paths(collection, volume_id), collection, volume_id, False, remote).scan()


@dataclass
class _Loader:
    """State while one volume is loaded; the methods are the steps of 5.3, in order."""

    site: DiskSite
    paths: VolumePaths
    collection: str
    volume_id: int
    after_kill: bool
    remote: DistantFile | None
    flags: VolumeFlag = NO_FLAGS
    is_proven: bool = False
    """The map of before the kill stands for a state of exactly these files."""

    def scan(self) -> MapScan | None:
        self._take_info()
        dat, _ = self._open_data()
        superblock = self._read_superblock(dat)
        self._prepare_index(dat, superblock)
        idx = self._open_index()
        if self.site.files.size(idx) % self.site.row_length:
            return None
        return scan_map(self.site, self.volume_id, dat, idx, superblock)

    def load(self) -> Volume:
        info, write_info = self._take_info()
        reason = self._unavailable_reason()
        dat, modified_at_ns = self._open_data()
        superblock = self._read_superblock(dat)
        placement = self._effective_placement(info, superblock)
        self._prepare_index(dat, superblock)
        idx = self._open_index()
        progress = self._apply_index(dat, idx, superblock)
        dat_end = self._check_end(dat, idx, superblock, progress)
        if progress.max_record_end > dat_end:
            self._make_read_only(f"a row ends at {progress.max_record_end}, the file at {dat_end}")
        self._set_ttl_clock(dat, idx, superblock, progress, modified_at_ns)
        parts = VolumeParts(
            volume_id=self.volume_id,
            collection=self.collection,
            paths=self.paths,
            superblock=superblock,
            info=info,
            replica_placement=placement.byte,
            dat=dat,
            idx=idx,
            dat_end=dat_end,
            modified_at_s=modified_at_ns // 10**9,
            progress=progress,
            flags=self.flags,
            unavailable_reason=reason,
        )
        volume = Volume(self.site, parts, 0)
        if write_info:
            volume.save_info(VolumeInfo(version=superblock.version, bytes_offset=self.site.offset_width))
        self._publish(volume)
        return volume

    def _take_info(self) -> tuple[VolumeInfo, bool]:
        """The `.vif`, and whether it must be written because there is none."""
        info, write_info = _read_info(self.site, self.paths)
        if info.files and self.remote is None:
            raise RemoteDataNeeded.of(self.paths, self.collection, info.files[0])
        if info.bytes_offset:
            # DEVIATE: the reference refuses a volume of the other width; here the volume's own width holds.
            self.site = replace(self.site, offset_width=info.bytes_offset)
        self._take_marks(info)
        return info, write_info

    def _take_marks(self, info: VolumeInfo) -> None:
        if info.read_only:
            can_delete = info.read_only_can_delete
            self.flags |= VolumeFlag.NO_WRITE_CAN_DELETE if can_delete else VolumeFlag.NO_WRITE_OR_DELETE

    def _unavailable_reason(self) -> str:
        marker = self.site.files.read_file(self.paths.data(".unavailable"))
        if marker is None:
            return ""
        self.flags |= VolumeFlag.NO_WRITE_OR_DELETE | VolumeFlag.UNAVAILABLE
        return marker.decode("utf-8", "replace")

    def _open_data(self) -> tuple[File, int]:
        """`.dat` and its time of change in ns. Judged by the owner's mode bits: root may open anything."""
        path, files = self.paths.data(".dat"), self.site.files
        if self.remote is not None:
            self.flags |= VolumeFlag.NO_WRITE_CAN_DELETE
            return self.remote, files.mtime_ns(self.remote)
        mode = files.mode(path)
        if not mode & _OWNER_READ:
            raise VolumeLoadError.unreadable(path)
        writable = bool(mode & _OWNER_WRITE)
        if not writable:
            self._make_read_only(f"{path} is not writable")
        dat = files.open(path, writable=writable)
        return dat, files.mtime_ns(dat)

    def _read_superblock(self, dat: File) -> SuperBlock:
        head = self.remote.head if self.remote else self.site.files.read_at(dat, 0, SUPERBLOCK_LENGTH_MAX)
        if len(head) < SUPERBLOCK_LENGTH:
            raise VolumeLoadError.not_initialized(dat.path)
        if head[0] not in VERSIONS:
            # DEVIATE: the reference process ends here.
            raise VolumeLoadError.unsupported_version(self.volume_id, head[0])
        try:
            return SuperBlock.decode(head)
        except FormatError as error:
            text = f"cannot read volume {dat.path} super block extra: {error.text}"
            raise VolumeLoadError(text) from error

    def _effective_placement(self, info: VolumeInfo, superblock: SuperBlock) -> ReplicaPlacement:
        if not info.replication:
            return superblock.replica_placement
        try:
            return ReplicaPlacement.parse(info.replication)
        except FormatError as error:
            raise VolumeLoadError.bad_replication(self.volume_id, info.replication, error.text) from error

    def _prepare_index(self, dat: File, superblock: SuperBlock) -> None:
        """Choose the `.idx`, rebuild a missing one, repair its head."""
        files = self.site.files
        beside = VolumePaths(self.paths.data_directory, self.paths.data_directory, self.paths.base_name)
        if files.exists(beside.index(".idx")):
            self.paths = beside
        path, start, version = self.paths.index(".idx"), superblock.length, superblock.version
        width = self.site.offset_width
        if self.remote is not None:
            if not files.exists(path):
                raise VolumeLoadError(f"volume {self.volume_id} is in a remote tier and has no {path}")
            return
        if files.size(dat) > start and index_is_blank(files, path) and not self._is_empty_by_proof(path):
            rebuild_index(files, self.paths, dat, start, version, width)
        elif files.exists(path):
            try:
                repair_head(files, self.paths, dat, start, version, width)
            except OSError as error:
                _log.error("volume %d: cannot repair the head of its index: %s", self.volume_id, error)

    def _is_empty_by_proof(self, path: str) -> bool:
        """The map of before the kill knows this very index, and that nothing was ever acknowledged in the volume."""
        progress = self._proof()
        if progress is None or progress.idx_bytes or not self.site.files.exists(path):
            return False
        return progress.idx_inode == self.site.files.open(path, writable=False).inode

    def _proof(self) -> VolumeProgress | None:
        """What the killed process committed last; None = no proof."""
        return self.site.map.progress(self.volume_id, self.site.row_length) if self.after_kill else None

    def _open_index(self) -> File:
        files, path = self.site.files, self.paths.index(".idx")
        if VolumeFlag.NO_WRITE_OR_DELETE in self.flags and files.exists(path):
            return files.open(path, writable=False)
        return files.open(path, create=True)

    def _apply_index(self, dat: File, idx: File, superblock: SuperBlock) -> VolumeProgress:
        """The map holds all rows of `.idx` afterwards."""
        files = self.site.files
        length = files.size(idx)
        rest = length % self.site.row_length
        self.is_proven = self._is_ours(dat, idx, superblock)
        if rest:
            if not self.is_proven or (self.flags and self.remote is None):
                raise VolumeLoadError.index_length(idx.path, length)
            _log.warning("volume %d: cutting %d bytes of an unfinished row off %s", self.volume_id, rest, idx.path)
            files.truncate(idx, length - rest)
        return catch_up_map(self.site, self.volume_id, dat, idx, superblock)

    def _is_ours(self, dat: File, idx: File, superblock: SuperBlock) -> bool:
        proof = self._proof()
        if proof is None or proof.idx_bytes > self.site.files.size(idx):
            return False
        files_of_proof = (proof.dat_inode, proof.idx_inode, proof.compaction_revision)
        if files_of_proof != (dat.inode, idx.inode, superblock.compaction_revision):
            return False
        at = proof.idx_bytes - len(proof.last_row)
        return self.site.files.read_at(idx, at, len(proof.last_row)) == proof.last_row

    def _check_end(self, dat: File, idx: File, superblock: SuperBlock, progress: VolumeProgress) -> int:
        """The end of `.dat`, rounded up to 8; the tail check and what follows from it."""
        dat_end = -(-self.site.files.size(dat) // _ALIGNMENT) * _ALIGNMENT
        if self.remote is not None:
            return dat_end
        try:
            return self._end_of_tail(dat, dat_end, superblock, progress)
        except TailTooLong as error:
            if not self.flags:
                end = self._take_tail(dat, idx, error.indexed_end, dat_end, superblock, progress)
                if end is not None:
                    return end
            self._make_read_only(error.text)
        except VolumedError as error:
            self._make_read_only(error.text)
        except OSError as error:
            self._make_read_only(str(error))
        return dat_end

    def _end_of_tail(self, dat: File, dat_end: int, superblock: SuperBlock, progress: VolumeProgress) -> int:
        width, version = self.site.offset_width, superblock.version
        if not progress.idx_bytes and dat_end > superblock.length:
            raise TailTooLong(dat.path, dat_end, superblock.length)
        tail = check_tail(self.site.files, dat, dat_end, version, progress, width)
        progress.last_append_at_ns = max(progress.last_append_at_ns, tail.append_at_ns)
        return dat_end

    def _take_tail(
        self, dat: File, idx: File, indexed_end: int, dat_end: int, superblock: SuperBlock, progress: VolumeProgress
    ) -> int | None:
        """Records behind the indexed ones: index them if all are intact. What remains is cut off if it is proven to
        be the rest of an interrupted append. Returns the new end, None when the volume must be read-only.

        DEVIATE (docs/spec/storage.md 10): the reference leaves such a volume read-only.
        """
        files = self.site.files
        tail = scan_unindexed(files, dat, indexed_end, superblock.version)
        if tail.end < dat_end and not self.is_proven:
            return None
        if tail.rows:
            _log.warning("volume %d: indexing %d unindexed records", self.volume_id, len(tail.rows))
            files.write_at(idx, progress.idx_bytes, [pack_rows(tail.rows, self.site.offset_width)])
        if tail.end < dat_end:
            _log.warning("volume %d: cutting an unfinished append at %d off %s", self.volume_id, tail.end, dat.path)
            files.truncate(dat, tail.end)
        caught_up = catch_up_map(self.site, self.volume_id, dat, idx, superblock)
        for name in VolumeProgress.__slots__:
            setattr(progress, name, getattr(caught_up, name))
        return self._end_of_tail(dat, tail.end, superblock, progress)

    def _set_ttl_clock(
        self, dat: File, idx: File, superblock: SuperBlock, progress: VolumeProgress, modified_at_ns: int
    ) -> None:
        if superblock.ttl and not progress.ttl_clock_s:
            found = 0 if self.remote else newest_put_time(self.site, dat, idx, superblock.version)
            progress.ttl_clock_s = (found or modified_at_ns) // 10**9

    def _publish(self, volume: Volume) -> None:
        """The last step, which nothing that may fail follows: readers see the volume from here on."""
        with self.site.map.begin() as txn:
            volume.new_generation(txn)
            txn.put_progress(self.volume_id, volume.progress)
        volume.committed()

    def _make_read_only(self, reason: str) -> None:
        _log.warning("volume %d is read-only: %s", self.volume_id, reason)
        self.flags |= VolumeFlag.NO_WRITE_OR_DELETE


def _read_info(site: DiskSite, paths: VolumePaths) -> tuple[VolumeInfo, bool]:
    """The `.vif`, and whether it must be written because there is none. Raises `VolumeLoadError`."""
    path = paths.data(".vif")
    content = site.files.read_file(path)
    info = decode_vif(content or b"")
    if info.bytes_offset and info.bytes_offset not in ROW_LENGTH:
        raise VolumeLoadError.offset_width(path, site.offset_width)
    return info, not content
