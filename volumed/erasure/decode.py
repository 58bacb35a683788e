"""Shards back into a volume (docs/spec/erasure-coding.md 2.4, 3.3, 5.9)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from volumed.erasure.columns import Progress
from volumed.erasure.errors import UnclearLayout
from volumed.erasure.geometry import Geometry
from volumed.erasure.layout import Layout
from volumed.formats.idx import DELETED, pack_rows
from volumed.storage.fileio import File, FileIO

__all__ = ["decode_layout", "write_dat", "write_idx"]

_COPY_BYTES = 16 << 20


def decode_layout(geometry: Geometry, shard_length: int, live: int, base: str) -> Layout:
    """The layout to walk when the first ``live`` bytes of the `.dat` are wanted. Raises `UnclearLayout`: the shards do
    not say where large blocks end, or hold less. ``base`` is for error texts."""
    ratio, data_shards = geometry.ratio, geometry.ratio.data
    encoded = geometry.dat_size
    if not encoded:
        encoded = data_shards * shard_length
        large = Layout(ratio, geometry.block_size, 0).large
        is_unclear = not geometry.block_size and shard_length % large == 0
        if is_unclear and live > (shard_length // large - 1) * large * data_shards:
            raise UnclearLayout.of_length(shard_length, base)
    if live > encoded:
        raise UnclearLayout.too_long(live, encoded)
    return Layout(ratio, geometry.block_size, encoded)


def write_dat(files: FileIO, layout: Layout, shards: Sequence[File], path: str, live: int, progress: Progress) -> None:
    """Put the first ``live`` bytes of the volume together from the data shards, in a new file.

    Raises `OSError`, `UnclearLayout` (a shard is too short), `EcInterrupted`; then the file is gone.
    """
    for shard_id, shard in enumerate(shards):
        if files.size(shard) < layout.shard_length:
            raise UnclearLayout.short_shard(shard_id, files.size(shard), layout.shard_length)
    progress.expect(live)
    try:
        dat = files.open(path, create=True)
        files.truncate(dat, 0)
        for at in range(0, live, _COPY_BYTES):
            progress.require_running()
            done = at
            for shard_id, offset, length in layout.intervals(at, min(_COPY_BYTES, live - at)):
                files.copy(shards[shard_id], dat, done, length, source_offset=offset)
                done += length
            progress.advance(done - at)
        files.sync(dat)
        progress.require_running()
    except BaseException:
        files.remove(path)
        raise


def write_idx(files: FileIO, ecx: File, deleted: Iterable[int], path: str, offset_width: int) -> None:
    """Write the `.idx` of a decoded volume: the rows of `.ecx`, and a deletion for every id of a journal that is not
    folded in. Raises `OSError`; then the file is gone."""
    try:
        idx = files.open(path, create=True)
        files.truncate(idx, 0)
        length = files.size(ecx)
        files.copy(ecx, idx, 0, length)
        files.write_at(idx, length, [pack_rows(((key, 0, DELETED) for key in deleted), offset_width)])
        files.sync(idx)
    except BaseException:
        files.remove(path)
        raise
