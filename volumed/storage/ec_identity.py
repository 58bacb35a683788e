"""Whether what two disks have of an erasure coded volume is of one encode run (docs/spec/erasure-coding.md 3.7)."""

from __future__ import annotations

from volumed.erasure.index_merge import missing_deletions
from volumed.erasure.names import INFO
from volumed.formats.vif import decode_vif
from volumed.storage.ec_files import find_file, index_path
from volumed.storage.fileio import FileIO
from volumed.storage.site import VolumePaths

__all__ = ["are_of_one_run"]


def are_of_one_run(files: FileIO, width: int, ours: VolumePaths, theirs: VolumePaths) -> bool | None:
    """By what both `.vif` say, or else by the two indexes, whose offsets have ``width`` bytes: copies of one, apart
    from deletions. None when the disks do not have enough to tell. May wait for the disks. Raises `OSError`."""
    runs = {_encode_run(files, paths) for paths in (ours, theirs)}
    if 0 not in runs:
        return len(runs) == 1
    indexes = [index_path(files, paths) for paths in (ours, theirs)]
    known = [path for path in indexes if path is not None and files.look(path).size]
    if len(known) < len(indexes):
        return None
    if len(set(known)) == 1:
        return True  # in a directory that all disks share
    own, other = (files.open(path, writable=False) for path in known)
    return missing_deletions(files, own, other, width) is not None


def _encode_run(files: FileIO, paths: VolumePaths) -> int:
    """0: unknown."""
    found = find_file(files, paths, INFO)
    config = decode_vif(found.content).ec_shard_config if found else None
    return config.encode_ts_ns if config else 0
