"""An erasure coded volume as one disk has it mounted (docs/spec/erasure-coding.md 4.4)."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import NamedTuple

from volumed.erasure.errors import BadEcConfig, NotMountable
from volumed.erasure.geometry import Geometry, is_older, judge_sidecar, resolve_geometry
from volumed.erasure.index import EcIndexTotals, find_row, index_totals
from volumed.erasure.names import INFO, JOURNAL, SIDECAR, shard_extension
from volumed.formats.report import EcVolumeReport
from volumed.formats.superblock import VERSIONS
from volumed.formats.vif import decode_vif
from volumed.storage.ec_files import find_file, index_path, list_ec_files
from volumed.storage.ec_journal import EcJournal
from volumed.storage.ec_records import EcRecord
from volumed.storage.fileio import File, FileIO, error_text
from volumed.storage.site import DiskSite, VolumePaths

__all__ = ["EcVolume", "Journaled", "OpenedShards", "measure_shards", "open_shards", "read_geometry"]

_VERSION = 3


class Journaled(NamedTuple):
    """What came of deletions."""

    missing: set[int]
    """The index has no such needles."""
    learned: list[int]
    """For the needle map."""


@dataclass(slots=True, eq=False)
class EcVolume:
    """What only the loop thread changes, but for the journal, which belongs to whose turn it is."""

    collection: str
    volume_id: int
    paths: VolumePaths
    geometry: Geometry
    version: int
    ecx: File
    rows: int
    """Of the index."""
    journal: EcJournal
    disk_type: str
    deleted: list[int]
    """By the journal, ascending: only until the map has them."""
    map_id: int = 0
    delete_count: int = 0
    """Deletions in the map."""
    shards: dict[int, int] = field(default_factory=dict)
    """Lengths in bytes of the mounted shards by id."""
    generation: int = 0
    """Of the record that readers have."""
    unreadable: set[int] = field(default_factory=set)
    """Shards of this generation that readers could not read everywhere."""

    def record(self, generation: int) -> EcRecord:
        """What readers see."""
        geometry = self.geometry
        return EcRecord(
            generation=generation,
            map_id=self.map_id,
            collection=self.collection,
            version=self.version,
            data_shards=geometry.ratio.data,
            parity_shards=geometry.ratio.parity,
            block_size=geometry.block_size,
            encode_ts_ns=geometry.encode_ts_ns,
            dat_size=geometry.dat_size,
            data_base=self.paths.data(""),
            index_base=self.ecx.path.removesuffix(".ecx"),
            shards=dict(sorted(self.shards.items())),
        )

    def report(self, disk_id: int) -> EcVolumeReport:
        """What the supervisor is told in every report."""
        return EcVolumeReport(
            id=self.volume_id,
            collection=self.collection,
            shards=dict(self.shards),
            disk_id=disk_id,
            disk_type=self.disk_type,
            expire_at_sec=self.geometry.expire_at_s,
            file_count=self.rows,
            delete_count=self.delete_count,
            encode_ts_ns=self.geometry.encode_ts_ns,
            data_shards=self.geometry.ratio.data,
            parity_shards=self.geometry.ratio.parity,
        )

    def change(self, disk_id: int, shards: dict[int, int]) -> EcVolumeReport:
        """What the supervisor is told when shards come or go: no more than this."""
        return EcVolumeReport(
            id=self.volume_id,
            collection=self.collection,
            shards=shards,
            disk_id=disk_id,
            disk_type=self.disk_type,
            expire_at_sec=self.geometry.expire_at_s,
            encode_ts_ns=self.geometry.encode_ts_ns,
            data_shards=self.geometry.ratio.data,
            parity_shards=self.geometry.ratio.parity,
        )

    def delete(self, site: DiskSite, keys: Collection[int]) -> Journaled:
        """Journal deletions durably (any thread, in turn); those of deleted needles change nothing. Raises `OSError`,
        and then nothing of it stays."""
        rows = {key: find_row(site.files, self.ecx, key, site.offset_width) for key in keys}
        missing = {key for key, row in rows.items() if row is None}
        live = [key for key, row in rows.items() if row is not None and row[2] >= 0]
        return Journaled(missing, self.add_deletions(site, live))

    def add_deletions(self, site: DiskSite, keys: Collection[int]) -> list[int]:
        """Append to the journal what it lacks, durably (any thread, in turn). Returns what the map lacks of it, and of
        what other disks have added. Raises `OSError`."""
        learned = self.journal.add(self._unknown(site, keys))
        return self._unknown(site, learned)

    def _unknown(self, site: DiskSite, keys: Collection[int]) -> list[int]:
        return sorted(key for key in set(keys) if site.map.lookup(self.map_id, key) is None)

    def is_older(self, limit_ts_ns: int) -> bool:
        """Whether it is of a known encode run before the limit (3.7)."""
        return is_older(self.geometry.encode_ts_ns, limit_ts_ns)

    def totals(self, site: DiskSite) -> EcIndexTotals:
        """Counters of the index (any thread). Raises `OSError`."""
        return index_totals(site.files, self.ecx, site.offset_width)


def _load(site: DiskSite, collection: str, volume_id: int) -> EcVolume | None:
    """Open index and journal and understand the geometry; None when there is no index. Raises `NotMountable`."""
    files, paths = site.files, site.paths(collection, volume_id)
    try:
        index = index_path(files, paths)
        if index is None:
            return None
        geometry = read_geometry(files, paths)
        judge_sidecar(geometry, find_file(files, paths, SIDECAR))
        ecx = files.open(index)
        journal = EcJournal.open(files, index.removesuffix(".ecx") + JOURNAL)
        rows = files.size(ecx) // site.row_length
        deleted = sorted(set(journal.read()))
        version, disk_type = _version(files, paths), site.config.disk_type
        return EcVolume(collection, volume_id, paths, geometry, version, ecx, rows, journal, disk_type, deleted)
    except BadEcConfig as error:
        raise NotMountable.volume(volume_id, error.text) from error
    except OSError as error:
        raise NotMountable.volume(volume_id, f"{error.filename}: {error_text(error)}") from error


def read_geometry(files: FileIO, paths: VolumePaths) -> Geometry:
    """How the volume was encoded (3.6). Raises `BadEcConfig`, `OSError`."""
    return resolve_geometry(find_file(files, paths, INFO), find_file(files, paths, SIDECAR))


class OpenedShards(NamedTuple):
    """What can be mounted of a volume."""

    volume: EcVolume | None
    """None when no shard can."""
    lengths: dict[int, int]
    """Of shards that can be mounted."""
    errors: dict[int, str]
    """Why others that are here cannot."""


def open_shards(
    site: DiskSite, known: EcVolume | None, collection: str, volume_id: int, shard_ids: Collection[int]
) -> OpenedShards:
    """Look for shards on the disk, by default for all, and open the volume unless it is ``known`` (any thread). Raises
    `OSError`."""
    paths = site.paths(collection, volume_id)
    if not shard_ids:
        there = list_ec_files(site, volume_id).get((collection, volume_id))
        shard_ids = sorted(there.shards) if there else ()
    lengths, errors = measure_shards(site.files, paths, shard_ids)
    if not (lengths or errors):
        return OpenedShards(None, {}, {})
    try:
        volume = known or _load(site, collection, volume_id)
    except NotMountable as error:
        return OpenedShards(None, {}, dict.fromkeys([*lengths, *errors], error.text))
    if volume is None:
        return OpenedShards(None, {}, {})
    for shard_id in [shard_id for shard_id, length in lengths.items() if not length and volume.rows]:
        errors[shard_id] = NotMountable.empty_shard(volume_id, shard_id, volume.rows).text
        del lengths[shard_id]
    return OpenedShards(volume, lengths, errors)


def measure_shards(
    files: FileIO, paths: VolumePaths, shard_ids: Collection[int]
) -> tuple[dict[int, int], dict[int, str]]:
    """Lengths of the shards that are here, and why others cannot be opened (any thread)."""
    lengths: dict[int, int] = {}
    errors: dict[int, str] = {}
    for shard_id in shard_ids:
        try:
            lengths[shard_id] = files.size(files.open(paths.data(shard_extension(shard_id)), writable=False))
        except FileNotFoundError:
            continue
        except OSError as error:
            errors[shard_id] = f"open {error.filename}: {error_text(error)}"
    return lengths, errors


def _version(files: FileIO, paths: VolumePaths) -> int:
    """Of the needles: `.vif` says it, or the superblock when its shard is here."""
    found = find_file(files, paths, INFO)
    if found is not None and (version := decode_vif(found.content).version):
        return version
    try:
        head = files.read_at(files.open(paths.data(shard_extension(0)), writable=False), 0, 1)
    except FileNotFoundError:
        return _VERSION
    return head[0] if head and head[0] in VERSIONS else _VERSION
