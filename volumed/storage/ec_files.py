"""Files of erasure coded volumes on one disk: what is there, and what goes (docs/spec/erasure-coding.md 4.3).

Shards may be the last copy of the data. Every one that is removed is logged with its path and the reason (R9).
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Collection, Iterator

from volumed.bus.ec_calls import EcDirectories
from volumed.erasure.code import DEFAULT_RATIO, Ratio
from volumed.erasure.discovery import EcFiles, FileStat, Verdict, VolumeKey, group_files, judge, removal_order
from volumed.erasure.geometry import FoundFile
from volumed.erasure.names import INDEX, INFO, JOURNAL, MIRRORING, SIDECAR, parse_ec_name
from volumed.formats.vif import decode_vif
from volumed.formats.volumename import format_base_name
from volumed.storage.fileio import FileIO, error_text, file_error
from volumed.storage.site import DiskSite, VolumePaths

__all__ = [
    "clear_at_start",
    "find_file",
    "has_shards_in",
    "index_path",
    "list_ec_files",
    "mirror_files",
    "mountable_shards",
    "paths_elsewhere",
    "remove_ec_files",
    "remove_logged",
]

_log = logging.getLogger(__name__)

_COPY_BYTES = 4 << 20


def list_ec_files(site: DiskSite, volume_id: int = 0) -> dict[VolumeKey, EcFiles]:
    """Everything of erasure coded volumes, or of those with the id. A volume without shards and index is one too when
    it has other files. Raises `OSError`."""
    config = site.config
    data = _list(site.files, config.directory, volume_id)
    index = None
    if config.idx_directory != config.directory:
        index = _list(site.files, config.idx_directory, volume_id)
    return group_files(data, index)


def _list(files: FileIO, directory: str, volume_id: int) -> dict[str, FileStat]:
    now_s = time.time()
    found: dict[str, FileStat] = {}
    for name in files.list_directory(directory):
        parsed = parse_ec_name(name)
        if parsed is None or volume_id not in (0, parsed.volume_id):
            continue
        try:
            size, modified_at_s = files.look(os.path.join(directory, name))
            found[name] = FileStat(size, now_s - modified_at_s)
        except FileNotFoundError:
            continue
        except OSError as error:
            _log.error("%s/%s: %s", directory, name, error_text(error))
            found[name] = FileStat(None)
    return found


def clear_at_start(site: DiskSite) -> None:
    """Remove what operations and copies that did not end have left, and shards of encodes that were interrupted beside
    a complete `.dat` (4.3): before anything is loaded. What the disk refuses of one volume is logged. Raises
    `OSError`."""
    for files in list_ec_files(site).values():
        try:
            _clear(site, files)
        except OSError as error:
            _log.error("ec volume %d is not cleared: %s", files.volume_id, file_error("start", error).text)


def _clear(site: DiskSite, files: EcFiles) -> None:
    for in_index, name in files.leftovers:
        remove_logged(site.files, _in_directory(site, name, in_index=in_index), "it is not complete")
    for shard in files.empty_shards:
        if shard.is_stale:
            path = _in_directory(site, shard.name, in_index=shard.in_index_directory)
            remove_logged(site.files, path, "an empty shard, older than an hour")
    if not (files.shards or files.has_index):
        return
    ratio = _ratio(site.files, site.paths(files.collection, files.volume_id))
    if ratio is not None and judge(files, ratio) is Verdict.RECLAIM:
        remove_ec_files(site, files, "left by an encode that was interrupted; the volume itself is complete")


def mountable_shards(site: DiskSite, *, alone: bool) -> dict[VolumeKey, list[int]]:
    """The shards that a disk mounts by itself when it starts (4.3). Unless the node has no other disk, those
    with an empty index wait, and those that nothing tells the layout of: another disk may have the real one (R5), or
    the `.vif`. Raises `OSError`."""
    found: dict[VolumeKey, list[int]] = {}
    for key, files in list_ec_files(site).items():
        is_whole = files.has_filled_index and (files.has(INFO) or files.has(SIDECAR))
        if not (is_whole or (alone and files.has_index)):
            continue
        try:
            ratio = _ratio(site.files, site.paths(*key)) or DEFAULT_RATIO
        except OSError as error:
            _log.error("ec volume %d is not mounted: %s", files.volume_id, file_error("start", error).text)
            continue
        if judge(files, ratio) is Verdict.MOUNT:
            found[key] = sorted(files.shards)
    return found


def _ratio(files: FileIO, paths: VolumePaths) -> Ratio | None:
    """Of the `.vif`, or the default one (4.3.4); None when one cannot be understood. Raises `OSError`."""
    for found in _found_files(files, paths, INFO):
        info = decode_vif(found.content)
        if not info.intact:
            return None
        config = info.ec_shard_config
        if config is not None and config.data_shards > 0:
            return Ratio(config.data_shards, config.parity_shards)
    return DEFAULT_RATIO


def remove_ec_files(site: DiskSite, files: EcFiles, reason: str) -> None:
    """Remove shards and index (4.3.5). An index in a directory that disks share stays while another one has shards.
    Raises `OSError`."""
    paths = site.paths(files.collection, files.volume_id)
    keeps_index = any(has_shards_in(site.files, directory, paths.base_name) for directory in site.index_mates)
    for in_index, extension in removal_order(files):
        if not (in_index and keeps_index):
            path = paths.index(extension) if in_index else paths.data(extension)
            remove_logged(site.files, path, reason)


def remove_logged(files: FileIO, path: str, reason: str) -> None:
    """Remove a file, if it is there, and say so in the log. Raises `OSError`."""
    if files.remove(path):
        _log.warning("removed %s: %s", path, reason)


def has_shards_in(files: FileIO, directory: str, base_name: str) -> bool:
    """Whether a directory has shards of a volume, whatever their size. Raises `OSError`."""
    names = (name for name in files.list_directory(directory) if name.startswith(base_name + "."))
    found = (parse_ec_name(name) for name in names)
    return any(name and name.shard_id is not None and not (name.generation or name.staging) for name in found)


def find_file(files: FileIO, paths: VolumePaths, extension: str) -> FoundFile | None:
    """A small file of a volume: the one in the data directory, or else in the index directory. An empty `.vif` is none;
    checksums that cannot be read are empty, since shards are as good without them. Raises `OSError`."""
    return next(_found_files(files, paths, extension), None)


def _found_files(files: FileIO, paths: VolumePaths, extension: str) -> Iterator[FoundFile]:
    for path in paths.places(extension):
        try:
            content = files.read_file(path)
        except OSError as error:
            if extension != SIDECAR:
                raise
            _log.error("%s is as good as damaged: %s", path, error_text(error))
            content = b""
        if content or (content is not None and extension != INFO):
            yield FoundFile(path, content)


def index_path(files: FileIO, paths: VolumePaths) -> str | None:
    """The `.ecx` in use: one with rows before an empty one, then the one in the data directory first (4.4). None when
    there is none. Raises `OSError`."""
    empty = None
    for path in paths.places(INDEX):
        try:
            size = files.look(path).size
        except FileNotFoundError:
            continue
        if size:
            return path
        empty = empty or path
    return empty


def paths_elsewhere(directories: EcDirectories, collection: str, volume_id: int) -> VolumePaths:
    """Where another disk has the files of a volume."""
    return VolumePaths(directories.data, directories.index, format_base_name(collection, volume_id))


def mirror_files(site: DiskSite, paths: VolumePaths, source: VolumePaths, extensions: Collection[str]) -> None:
    """Copy files of a volume from the directories of another disk: `.ecx` and `.ecj` to the index directory, others to
    the data directory. What is there is not overwritten, but for an empty `.ecx` (R5). Raises `OSError`."""
    files = site.files
    # The index last: what is folded into it meanwhile is in the one that is copied, or in the journal.
    for extension in sorted(extensions, key=INDEX.__eq__):
        in_index = extension in (INDEX, JOURNAL)
        target = paths.index(extension) if in_index else paths.data(extension)
        if not _is_there(files, paths, extension):
            found = next(filter(files.exists, (source.index(extension), source.data(extension))), None)
            if found is not None:
                _copy(files, found, target)


def _is_there(files: FileIO, paths: VolumePaths, extension: str) -> bool:
    there = [path for path in paths.places(extension) if files.exists(path)]
    return bool(there) if extension != INDEX else any(files.look(path).size for path in there)


def _copy(files: FileIO, source: str, target: str) -> None:
    temporary = target + MIRRORING
    files.remove(temporary)
    try:
        given, taken = files.open(source, writable=False), files.open(temporary, create=True)
        files.copy(given, taken, 0, files.size(given))
        files.sync(taken)
        files.rename(temporary, target)
    except OSError:
        files.remove(temporary)
        raise
    files.sync_directory(os.path.dirname(target))
    _log.info("copied %s to %s", source, target)


def _in_directory(site: DiskSite, name: str, *, in_index: bool) -> str:
    return os.path.join(site.config.idx_directory if in_index else site.config.directory, name)
