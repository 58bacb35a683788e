"""Files of an erasure coded volume that go because somebody asked for it (docs/spec/erasure-coding.md 3.7, 5.1, 5.5).

All functions may wait for the disk and raise `OSError`. Shards may be the last copy of the data, so every removal is
logged with its reason (R9), those of one call in one line. The index goes first: an interruption then leaves nothing
that could be loaded.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from typing import NamedTuple

from volumed.erasure.geometry import is_older
from volumed.erasure.names import INDEX, INFO, JOURNAL, SIDECAR, EcName, parse_ec_name
from volumed.formats.vif import decode_vif
from volumed.storage.ec_files import find_file
from volumed.storage.fileio import FileIO
from volumed.storage.site import VolumePaths

__all__ = ["is_of_older_run", "remove_generations", "remove_index", "remove_shards", "wipe"]

_log = logging.getLogger(__name__)


class _Found(NamedTuple):
    """A file of the volume."""

    path: str
    name: EcName
    in_data: bool
    """In the data directory, which may be the index directory too."""

    @property
    def is_sidecar(self) -> bool:
        """`.ecsum`, of whatever generation."""
        return self.name.extension == SIDECAR and not self.name.staging

    @property
    def is_of_generation(self) -> bool:
        """A staged file `….vN`."""
        name = self.name
        is_coded = name.shard_id is not None or name.extension in (INDEX, INFO, JOURNAL, SIDECAR)
        return is_coded and name.generation > 0 and not name.staging

    @property
    def is_index(self) -> bool:
        """`.ecx` or `.ecj`, in use."""
        return self.name.extension in (INDEX, JOURNAL) and not self.name.generation and not self.name.staging

    @property
    def is_shard(self) -> bool:
        """A shard in use, of whatever size."""
        return self.in_data and self.name.shard_id is not None and not self.name.generation and not self.name.staging


def is_of_older_run(files: FileIO, paths: VolumePaths, limit_ts_ns: int) -> bool:
    """Whether the `.vif` names an encode run before the limit: what a fenced teardown may remove (3.7)."""
    found = find_file(files, paths, INFO)
    config = decode_vif(found.content).ec_shard_config if found else None
    return config is not None and is_older(config.encode_ts_ns, limit_ts_ns)


def wipe(files: FileIO, paths: VolumePaths, reason: str, *, fenced: bool = False) -> None:
    """Remove all that was encoded of the volume, and what operations have left unfinished; `.vif` only without an
    `.idx`. ``fenced``: only what is this disk's own, since others may share the index directory and keep theirs."""

    def goes(found: _Found) -> bool:
        if not found.in_data and fenced:
            return False
        is_coded = found.is_sidecar or found.is_index or found.is_shard or found.is_of_generation
        return is_coded or bool(found.name.staging)

    _remove(files, paths, goes, reason)
    _remove_info(files, paths, reason)


def remove_shards(files: FileIO, paths: VolumePaths, shard_ids: Collection[int], reason: str) -> list[int]:
    """Remove shards, and `.ecsum` with the last one; the ids of those that remain."""
    _remove(files, paths, lambda found: found.is_shard and found.name.shard_id in shard_ids, reason)
    remaining = [found.name.shard_id for found in _list(files, paths) if found.is_shard]
    if not remaining:
        _remove(files, paths, lambda found: found.is_sidecar and found.in_data, reason)
    return sorted(shard_id for shard_id in remaining if shard_id is not None)


def remove_index(files: FileIO, paths: VolumePaths, reason: str) -> None:
    """Remove what is of no use without shards: index, journal, checksums, and `.vif` without an `.idx`."""
    _remove(files, paths, lambda found: found.is_index or found.is_sidecar, reason)
    _remove_info(files, paths, reason)


def remove_generations(files: FileIO, paths: VolumePaths, below: int, reason: str) -> None:
    """Remove the staged files of generations 1 to ``below`` - 1."""
    _remove(files, paths, lambda found: found.is_of_generation and found.name.generation < below, reason)


def _list(files: FileIO, paths: VolumePaths) -> list[_Found]:
    found = []
    for directory in paths.directories():
        for name in files.list_directory(directory):
            parsed = parse_ec_name(name) if name.startswith(paths.base_name + ".") else None
            if parsed is not None:
                found.append(_Found(os.path.join(directory, name), parsed, directory == paths.data_directory))
    return found


def _remove(files: FileIO, paths: VolumePaths, goes: Callable[[_Found], bool], reason: str) -> None:
    doomed = [found for found in _list(files, paths) if goes(found)]
    doomed.sort(key=lambda found: (found.name.extension != INDEX, found.path))
    _remove_all(files, [found.path for found in doomed], reason)


def _remove_all(files: FileIO, paths: list[str], reason: str) -> None:
    removed: list[str] = []
    try:
        for path in paths:
            if files.remove(path):
                removed.append(path)
    finally:
        if removed:
            _log.info("removed %s: %s", ", ".join(removed), reason)


def _remove_info(files: FileIO, paths: VolumePaths, reason: str) -> None:
    if not files.exists(paths.index(".idx")) and not files.exists(paths.data(".idx")):
        _remove_all(files, [paths.data(INFO)], reason)
