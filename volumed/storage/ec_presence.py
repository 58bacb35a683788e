"""Whether shard files are still where they were mounted (docs/spec/erasure-coding.md 4.4).

A file counts as removed only in a directory that proves to be the disk's: that of a disk which is unmounted, fails or
hangs says nothing about its files.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from volumed.erasure.discovery import VolumeKey
from volumed.erasure.names import shard_extension
from volumed.errors import DiskError
from volumed.formats.volumename import format_base_name
from volumed.storage.directory import holds_disk
from volumed.storage.site import DiskSite, VolumePaths

__all__ = ["removed_shards", "unlisted_shards"]


def unlisted_shards(site: DiskSite, uuid: str, mounted: Mapping[VolumeKey, Collection[int]]) -> set[tuple[int, int]]:
    """(volume, shard) of those that the directory does not list, with one look at it. Raises `OSError`, and `DiskError`
    when the directory is not that of the disk with this ``uuid``."""
    names = set(site.files.list_directory(site.config.directory))
    missing = {
        (volume_id, shard)
        for (collection, volume_id), shards in mounted.items()
        for shard in shards
        if format_base_name(collection, volume_id) + shard_extension(shard) not in names
    }
    if missing:
        _require_disk(site, uuid)
    return missing


def removed_shards(site: DiskSite, uuid: str, paths: VolumePaths, shards: Collection[int]) -> list[int]:
    """Those of a volume's shards that have no file. Raises like `unlisted_shards`."""
    removed = [shard for shard in sorted(shards) if _is_removed(site, paths.data(shard_extension(shard)))]
    if removed:
        _require_disk(site, uuid)
    return removed


def _is_removed(site: DiskSite, path: str) -> bool:
    try:
        site.files.look(path)
    except FileNotFoundError:
        return True
    return False


def _require_disk(site: DiskSite, uuid: str) -> None:
    directory = site.config.directory
    if not holds_disk(site.files, directory, uuid):
        raise DiskError(f"{directory} does not hold this disk any more: is it unmounted?")
