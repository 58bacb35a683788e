"""Shards of a volume that are lost or damaged, for one disk that makes them anew (docs/spec/erasure-coding.md 5.6).

The files of other disks are read where they are. Each disk writes its own: the disk of the rebuild what no disk has,
every disk what is damaged there.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass

from volumed.erasure.coding import Coder
from volumed.erasure.columns import Progress
from volumed.erasure.errors import BadEcConfig, RebuildFailed, RebuildRefused
from volumed.erasure.geometry import FoundFile, Geometry, SidecarState, accepts, judge_sidecar, resolve_geometry
from volumed.erasure.names import INFO, REBUILDING, SIDECAR, shard_extension
from volumed.erasure.rebuild import Rebuilt, rebuild_shards, sum_shards
from volumed.erasure.sidecar import Sidecar, encode_sidecar
from volumed.errors import VolumedError
from volumed.storage.ec_encode import require_space
from volumed.storage.ec_files import find_file
from volumed.storage.fileio import File, FileIO, error_text, file_error
from volumed.storage.site import VolumePaths

__all__ = ["EcSet", "find_set", "rebuild_set"]

_log = logging.getLogger(__name__)

_UUID_LENGTH = 16


@dataclass(frozen=True, slots=True)
class EcSet:
    """What some disks have of one encode of a volume. Shard files are open."""

    geometry: Geometry
    sidecar: FoundFile | None
    shards: dict[int, File]
    """By id, those with content."""
    empty: dict[int, bool]
    """Ids of shards that are empty wherever they are; whether on the first disk."""
    own: frozenset[int]
    """Ids of ``shards`` that are on the first disk."""


def find_set(files: FileIO, disks: Sequence[VolumePaths]) -> EcSet:
    """Open what there is, the first disk's first. Shards of another encode run are left out. Raises `BadEcConfig`,
    `OSError`."""
    vif = _first(files, disks, INFO)
    sidecar = _first(files, disks, SIDECAR)
    geometry = resolve_geometry(vif, sidecar)
    shards: dict[int, File] = {}
    empty: dict[int, bool] = {}
    own: set[int] = set()
    for number, paths in enumerate(disks):
        if number and not accepts(geometry.encode_ts_ns, _identity(files, paths) or geometry.encode_ts_ns):
            continue
        for shard_id in range(geometry.ratio.total):
            if shard_id in shards:
                continue
            try:
                file = files.open(paths.data(shard_extension(shard_id)), writable=False)
            except FileNotFoundError:
                continue
            if not files.size(file):
                empty.setdefault(shard_id, not number)
                continue
            shards[shard_id] = file
            if not number:
                own.add(shard_id)
    found_empty = {shard_id: is_own for shard_id, is_own in empty.items() if shard_id not in shards}
    return EcSet(geometry, sidecar, shards, found_empty, frozenset(own))


def rebuild_set(
    files: FileIO,
    disks: Sequence[VolumePaths],
    progress: Progress,
    coder: Coder,
    *,
    absent: bool,
    ignore_sidecar: bool,
) -> Rebuilt:
    """Rebuild what is damaged on the first disk, and with ``absent`` what no disk has; then, with all shards at hand,
    write checksums if there were none. Waits. Raises `VolumedError`, `OSError`; then no shard is worse than it was."""
    base = disks[0].data("")
    try:
        found = find_set(files, disks)
    except BadEcConfig as error:
        raise RebuildFailed.layout(base, error) from error
    try:
        rebuilt = _rebuild(files, disks[0], found, progress, coder, absent=absent, ignore_sidecar=ignore_sidecar)
    except VolumedError as error:
        raise RebuildFailed.shards(base, error) from error
    except OSError as error:
        raise RebuildFailed.shards(base, file_error("rebuild", error)) from error
    if absent and found.sidecar is None and not rebuilt.left:
        _write_checksums(files, disks, progress, coder)
    return rebuilt


def _rebuild(
    files: FileIO,
    paths: VolumePaths,
    found: EcSet,
    progress: Progress,
    coder: Coder,
    *,
    absent: bool,
    ignore_sidecar: bool,
) -> Rebuilt:
    ratio = found.geometry.ratio
    sidecar = None if ignore_sidecar else _usable_sidecar(paths, found)
    targets = {
        shard_id: paths.data(shard_extension(shard_id))
        for shard_id in range(ratio.total)
        if _is_ours(shard_id, found, absent=absent)
    }
    lost = [shard_id for shard_id in targets if shard_id not in found.shards]
    length = max(map(files.size, found.shards.values()), default=0)
    if lost and len(found.shards) >= ratio.data:
        require_space(files, paths, length * len(lost))
    return rebuild_shards(files, paths.data(""), ratio, found.shards, targets, sidecar, progress, coder)


def _is_ours(shard_id: int, found: EcSet, *, absent: bool) -> bool:
    if shard_id in found.shards:
        return shard_id in found.own
    return found.empty.get(shard_id, absent)


def _usable_sidecar(paths: VolumePaths, found: EcSet) -> Sidecar | None:
    state, sidecar = judge_sidecar(found.geometry, found.sidecar)
    if state is SidecarState.INVALID:
        raise RebuildRefused.sidecar_unverifiable(paths.data(""))
    return sidecar


def _write_checksums(files: FileIO, disks: Sequence[VolumePaths], progress: Progress, coder: Coder) -> None:
    """Of shards that nobody has vouched for: trust on first use (step 9). Not when one cannot be read."""
    found = find_set(files, disks)
    ratio = found.geometry.ratio
    if len(found.shards) < ratio.total or len({files.size(file) for file in found.shards.values()}) > 1:
        return
    try:
        sums = sum_shards(files, found.shards, progress, coder)
    except OSError as error:
        _log.warning("no checksums beside the shards: cannot read %s: %s", error.filename, error_text(error))
        return
    sidecar = Sidecar(tuple(sums), ratio, found.geometry.block_size, os.urandom(_UUID_LENGTH))
    path = disks[0].data(SIDECAR)
    files.replace_file(path, encode_sidecar(sidecar), temporary=path + REBUILDING)


def _first(files: FileIO, disks: Sequence[VolumePaths], extension: str) -> FoundFile | None:
    """The first one of the disks, in their order."""
    return next((found for paths in disks if (found := find_file(files, paths, extension))), None)


def _identity(files: FileIO, paths: VolumePaths) -> int:
    """Of the encode run that a disk's own files name; 0: unknown. Raises `BadEcConfig`."""
    return resolve_geometry(find_file(files, paths, INFO), None).encode_ts_ns
