"""A volume's `.dat` and `.idx` into shards, index and sidecars (docs/spec/erasure-coding.md 5.1, steps 3 to 7).

Everything is written under names in progress and flushed; then renamed, the index last: an `.ecx` says that the set is
complete. Whatever happens before, the volume is what it was, and after an error nothing else is left.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from volumed.erasure.code import Ratio, erasure_code
from volumed.erasure.coding import Coder, CoderHere
from volumed.erasure.columns import (
    Column,
    ColumnSums,
    Progress,
    column_buffers,
    for_all_columns,
    new_files,
    sync_all,
)
from volumed.erasure.geometry import Geometry
from volumed.erasure.index import seal_index
from volumed.erasure.layout import Layout
from volumed.erasure.names import ENCODING, INDEX, SIDECAR, shard_extension
from volumed.erasure.sidecar import ShardSums, Sidecar, encode_sidecar
from volumed.formats.checksum import crc32c
from volumed.formats.superblock import SUPERBLOCK_LENGTH_MAX, SuperBlock
from volumed.formats.vif import EcShardConfig, VolumeInfo, encode_vif
from volumed.storage.fileio import File, FileIO, error_text
from volumed.storage.site import VolumePaths

__all__ = ["EncodeColumns", "Encoded", "SealIndex", "encode_shards", "encode_volume"]

_log = logging.getLogger(__name__)

_UUID_LENGTH = 16
_NS_PER_S = 10**9


class Encoded(NamedTuple):
    """What an encode has made."""

    geometry: Geometry
    sidecar: Sidecar
    info: VolumeInfo
    """What the `.vif` says of it."""


def encode_volume(
    files: FileIO,
    paths: VolumePaths,
    dat: File,
    idx: File,
    *,
    ratio: Ratio,
    offset_width: int,
    now_ns: int,
    progress: Progress,
    idx_bytes: int | None = None,
    coder: Coder | None = None,
    save_info: Callable[[VolumeInfo], None] | None = None,
) -> Encoded:
    """Encode a volume that takes no writes; what is appended meanwhile is not in the result.

    ``now_ns`` becomes the identity of the run, ``idx_bytes`` is how much of the index counts, None for all. ``coder``
    computes, None: here. ``save_info`` brings what the encode has to say into the `.vif`, durably; None: there is
    nothing else in it. Files of an earlier encode must be gone. Raises `OSError`, `FormatError`, `EcInterrupted`,
    `NodeError`; then all files of the new set are gone too.
    """
    shards = [paths.data(shard_extension(shard)) for shard in range(ratio.check().total)]
    index = paths.index(INDEX)
    try:
        coder = coder or CoderHere(files)
        # The index first: every needle in it is then in the part of `.dat` that is encoded.
        rows_bytes = files.size(idx) if idx_bytes is None else idx_bytes
        _seal(files, idx, index + ENCODING, SealIndex(rows_bytes, offset_width), progress, coder)
        layout = Layout.for_encoding(ratio, files.size(dat))
        sums = encode_shards(files, dat, layout, [path + ENCODING for path in shards], progress, coder)
        sidecar = Sidecar(tuple(sums), ratio, layout.block_size, os.urandom(_UUID_LENGTH))
        info = _volume_info(files, dat, layout, now_ns)
    except BaseException:
        _remove(files, [path + ENCODING for path in (index, *shards)])
        raise
    try:
        for path in shards:
            files.rename(path + ENCODING, path)
        _write_sidecar(files, paths.data(SIDECAR), sidecar)
        if save_info is None:
            info_path = paths.data(".vif")
            files.replace_file(info_path, encode_vif(info), temporary=info_path + ENCODING)
        else:
            save_info(info)
        # The index may be on another filesystem, where its name could be durable before those of the shards are.
        files.sync_directory(paths.data_directory)
        files.rename(index + ENCODING, index)
        files.sync_directory(paths.index_directory)
    except BaseException:
        # The index first, so that an interruption leaves nothing that could be loaded.
        _remove(files, [index, *shards, paths.data(SIDECAR), *(path + ENCODING for path in (index, *shards))])
        raise
    return Encoded(Geometry(ratio, layout.block_size, now_ns, layout.dat_size, info.expire_at_sec), sidecar, info)


def encode_shards(
    files: FileIO, dat: File, layout: Layout, paths: Sequence[str], progress: Progress, coder: Coder | None = None
) -> list[ShardSums]:
    """Write one file per shard, flush them, and return their checksums. Raises `OSError`, `EcInterrupted`,
    `NodeError`; files are then left as they are."""
    shards = new_files(files, paths)
    sums = (coder or CoderHere(files)).run(EncodeColumns(layout), [dat, *shards], progress)
    progress.require_running()
    return sums


class SealIndex(NamedTuple):
    """The first file's rows, a volume's `.idx`, into the second one, its `.ecx`."""

    idx_bytes: int
    """How much of the `.idx` counts."""
    offset_width: int

    def run(self, files: FileIO, opened: Sequence[File], _progress: Progress, _threads: int) -> None:
        """See `CodingTask`."""
        idx, index = opened
        rows = files.read_at(idx, 0, self.idx_bytes)
        files.write_at(index, 0, [seal_index(rows, self.offset_width)])
        files.sync(index)


class EncodeColumns(NamedTuple):
    """All shards of a `.dat`; it is the first file, the shards follow. Returns their checksums."""

    layout: Layout

    def run(self, files: FileIO, opened: Sequence[File], progress: Progress, threads: int) -> list[ShardSums]:
        """See `CodingTask`."""
        dat, *shards = opened
        length = self.layout.shard_length
        sums = [ColumnSums(length) for _ in shards]

        def work(columns: Iterator[Column]) -> None:
            _encode_columns(files, dat, self.layout, shards, sums, columns)

        progress.expect(length * self.layout.ratio.data)
        for_all_columns(length, work, progress, threads=threads, reads=self.layout.ratio.data)
        sync_all(files, shards)
        return [item.result() for item in sums]


def _encode_columns(
    files: FileIO, dat: File, layout: Layout, shards: list[File], sums: list[ColumnSums], columns: Iterator[Column]
) -> None:
    code = erasure_code(layout.ratio)
    buffers = column_buffers(layout.ratio.total)
    for column in columns:
        pieces = [buffer[: column.length] for buffer in buffers]
        data, parity = pieces[: layout.ratio.data], pieces[layout.ratio.data :]
        for shard_id, piece in enumerate(data):
            _read_padded(files, dat, layout, layout.dat_offset(shard_id, column.offset), piece)
        code.encode(data, parity)
        for shard, total, piece in zip(shards, sums, pieces, strict=True):
            total.put(column, crc32c(piece))
            files.write_at(shard, column.offset, [piece])
        if column.ends_a_stretch:
            for shard in shards:
                files.sync(shard)


def _read_padded(files: FileIO, dat: File, layout: Layout, offset: int, piece: memoryview) -> None:
    """Bytes of the `.dat`, zeros behind its end. Raises `OSError`: it has become shorter."""
    there = max(0, min(len(piece), layout.dat_size - offset))
    if there and files.read_into(dat, offset, piece[:there]) < there:
        raise OSError(f"{dat.path} ends before {offset + there}")
    if there < len(piece):
        piece[there:] = bytes(len(piece) - there)


def _volume_info(files: FileIO, dat: File, layout: Layout, now_ns: int) -> VolumeInfo:
    superblock = SuperBlock.decode(files.read_at(dat, 0, SUPERBLOCK_LENGTH_MAX))
    ttl_s = superblock.ttl.seconds
    return VolumeInfo(
        version=superblock.version,
        dat_file_size=layout.dat_size,
        expire_at_sec=now_ns // _NS_PER_S + ttl_s if ttl_s else 0,
        ec_shard_config=EcShardConfig(*layout.ratio, now_ns, layout.block_size),
    )


def _seal(files: FileIO, idx: File, path: str, task: SealIndex, progress: Progress, coder: Coder) -> None:
    coder.run(task, [idx, *new_files(files, [path])], progress)


def _remove(files: FileIO, paths: list[str]) -> None:
    for path in paths:
        files.remove(path)


def _write_sidecar(files: FileIO, path: str, sidecar: Sidecar) -> None:
    """Best effort: the shards are as good without it."""
    try:
        files.replace_file(path, encode_sidecar(sidecar), temporary=path + ENCODING)
    except OSError as error:
        _log.warning("no checksums beside the shards, %s: %s", path, error_text(error))
