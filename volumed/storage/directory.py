"""A data directory before any volume is opened: may it be used, who is it, which volumes does it hold?"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import uuid
from collections.abc import Collection, Iterator

from volumed.erasure.code import SHARDS_MAX
from volumed.erasure.names import INDEX, shard_extension
from volumed.errors import DiskError
from volumed.formats.superblock import SUPERBLOCK_LENGTH
from volumed.formats.vif import decode_vif
from volumed.formats.volumename import parse_base_name
from volumed.storage.compaction_recovery import LEFTOVER_EXTENSIONS, recover_compaction
from volumed.storage.fileio import NAMELESS_PREFIX, File, FileIO, error_text
from volumed.storage.site import COPYING, DATA_EXTENSIONS, INDEX_EXTENSIONS, DiskSite, VolumePaths

__all__ = [
    "claim_directory",
    "holds_disk",
    "loadable_volumes",
    "read_disk_uuid",
    "recover_compactions",
    "remove_incomplete",
    "remove_nameless",
    "remove_volume_files",
]

_log = logging.getLogger(__name__)

_UUID_FILE = "vol_dir.uuid"
_OWNER_ACCESS = stat.S_IRUSR | stat.S_IWUSR | stat.S_IXUSR


def claim_directory(files: FileIO, directory: str) -> File:
    """Check that a directory can hold volumes and take its lock, which lasts as long as the result is kept.

    Raises `DiskError` with the reference's text (docs/spec/storage.md 9.1).
    """
    try:
        mode = os.stat(directory).st_mode
        if not stat.S_ISDIR(mode):
            raise _not_writable(directory, "not a directory")
        if mode & _OWNER_ACCESS != _OWNER_ACCESS:
            raise _not_writable(directory, "Not writable!")
        # DEVIATE: the reference takes no lock; two servers on one directory destroy its volumes.
        return files.lock_directory(directory)
    except BlockingIOError as error:
        raise _not_writable(directory, "locked by another process") from error
    except OSError as error:
        raise _not_writable(directory, f"stat {directory}: {error_text(error)}") from error


def read_disk_uuid(files: FileIO, directory: str) -> str:
    """The directory's id, created when missing or empty. Raises `DiskError`."""
    path = os.path.join(directory, _UUID_FILE)
    try:
        text = (files.read_file(path) or b"").decode("ascii", "replace").strip()
        if not text:
            text = str(uuid.uuid4())
            files.replace_file(path, text.encode())
        return str(uuid.UUID(text))
    except OSError as error:
        raise _not_writable(directory, f"{path}: {error_text(error)}") from error
    except ValueError as error:
        raise DiskError(f"{path} does not hold a UUID") from error


def holds_disk(files: FileIO, directory: str, disk_uuid: str) -> bool:
    """Whether a directory is that of the disk with this id now; where a disk was unmounted is an empty one. Raises
    `OSError`."""
    text = files.read_file(os.path.join(directory, _UUID_FILE)) or b""
    try:
        return str(uuid.UUID(text.decode("ascii", "replace").strip())) == disk_uuid
    except ValueError:
        return False


def recover_compactions(site: DiskSite, in_use: Collection[int]) -> None:
    """Finish or undo interrupted vacuums, but of volumes that are mounted or on their way (docs/spec/storage.md 5.2
    step 1)."""
    for base_name in _base_names(site, LEFTOVER_EXTENSIONS, index_too=True):
        parsed = parse_base_name(base_name)
        if parsed is None or parsed[1] in in_use:
            continue
        try:
            done = recover_compaction(site.files, site.paths(*parsed))
            _log.warning("volume %d: interrupted compaction: %s", parsed[1], done.value)
        except OSError as error:
            _log.error("volume %d: cannot recover its compaction: %s", parsed[1], error)


def loadable_volumes(
    site: DiskSite, only: int | None = None, but_not: Collection[int] = ()
) -> Iterator[tuple[str, int]]:
    """(collection, volume id) of every volume to load: not of those beside shards. Or of those with the id ``only``,
    shards or not (erasure-coding.md 4.2). Clears away what incomplete copies and erasure coding left
    (docs/spec/storage.md 5.2 step 2). Volumes ``but_not`` are left alone, whatever state they are in. Raises
    `OSError`."""
    for base_name in _base_names(site, (".idx", ".vif", ".note"), index_too=False):
        parsed = parse_base_name(base_name)
        if parsed is None:
            _log.warning("%s is not the name of a volume", base_name)
            continue
        if only not in (None, parsed[1]) or parsed[1] in but_not:
            continue
        try:
            if _is_loadable(site, site.paths(*parsed), despite_shards=only is not None):
                yield parsed
        except OSError as error:
            _log.error("new volume %s error %s", base_name, error)


def remove_nameless(files: FileIO, directory: str) -> None:
    """Remove what a process that was killed while it made a nameless file has left."""
    try:
        for name in files.list_directory(directory):
            if name.startswith(NAMELESS_PREFIX):
                files.remove(os.path.join(directory, name))
    except OSError as error:
        _log.error("%s: cannot clear away old spools: %s", directory, error_text(error))


def remove_volume_files(files: FileIO, paths: VolumePaths) -> None:
    """Remove all files of a volume, `.dat` first: without it the rest is no volume any more. The `.vif` stays when
    erasure-coded data of the same id lives there. Raises `OSError`."""
    keep_info = _is_encoded(files, paths)
    for directory in paths.directories():
        for extension in DATA_EXTENSIONS + INDEX_EXTENSIONS:
            path = os.path.join(directory, paths.base_name + extension)
            if not (keep_info and extension == ".vif") and files.remove(path):
                _log.info("removed %s", path)
        for extension in (".ldb", ".rdb"):
            shutil.rmtree(os.path.join(directory, paths.base_name + extension), ignore_errors=True)


def remove_incomplete(files: FileIO, paths: VolumePaths) -> None:
    """The same of a volume that was being copied here. Raises `OSError`."""
    for path in (paths.data(".dat"), paths.data(".vif"), paths.index(".idx")):
        files.remove(path + COPYING)
    remove_volume_files(files, paths)


def _is_loadable(site: DiskSite, paths: VolumePaths, *, despite_shards: bool) -> bool:
    files, dat = site.files, paths.data(".dat")
    info = decode_vif(files.read_file(paths.data(".vif")) or b"")
    has_data = files.exists(dat)
    if info.ec_shard_config is not None and has_data and os.path.getsize(dat) <= SUPERBLOCK_LENGTH:
        _log.warning("removing %s, left over from erasure coding", dat)
        files.remove(dat)
        mates = (os.path.join(mate, os.path.basename(dat)) for mate in site.index_mates)
        if not any(map(files.exists, mates)):
            files.remove(paths.index(".idx"))
        return False
    has_index = files.exists(paths.index(INDEX)) or files.exists(paths.data(INDEX))
    if has_index and not (despite_shards and has_data):
        return False
    note = files.read_file(paths.data(".note"))
    if note is not None:
        _log.warning("removing an incomplete volume: %s: %s", paths.base_name, note.decode("utf-8", "replace"))
        remove_incomplete(files, paths)
        return False
    return has_data or bool(info.files)


def _is_encoded(files: FileIO, paths: VolumePaths) -> bool:
    """Whether there are shards, or an index, which may be that of shards on another disk."""
    coded = (INDEX, *map(shard_extension, range(SHARDS_MAX)))
    return files.exists(paths.index(INDEX)) or any(files.exists(paths.data(extension)) for extension in coded)


def _base_names(site: DiskSite, extensions: tuple[str, ...], *, index_too: bool) -> list[str]:
    names = set(site.files.list_directory(site.config.directory))
    if index_too:
        names.update(site.files.list_directory(site.config.idx_directory))
    split = (os.path.splitext(name) for name in names)
    return sorted({base for base, extension in split if extension in extensions})


def _not_writable(directory: str, reason: str) -> DiskError:
    return DiskError(f"Check Data Folder(-dir) Writable {directory} : {reason}")
