"""A mounted volume into shards: what to encode, how, and whether there is room (docs/spec/erasure-coding.md 5.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from volumed.erasure.code import DEFAULT_RATIO, Ratio
from volumed.erasure.coding import Coder
from volumed.erasure.columns import Progress
from volumed.erasure.encode import Encoded, encode_volume
from volumed.erasure.errors import BadEcConfig, NoSpaceForShards
from volumed.erasure.layout import Layout
from volumed.formats.vif import VolumeInfo, decode_vif
from volumed.storage.fileio import File, FileIO
from volumed.storage.site import VolumePaths

__all__ = ["EncodeSource", "encode_source", "require_space"]


class EncodeSource(NamedTuple):
    """A volume at one moment. What is appended later is not encoded, or not indexed."""

    paths: VolumePaths
    dat: File
    idx: File
    idx_bytes: int
    offset_width: int


def encode_source(
    files: FileIO,
    source: EncodeSource,
    now_ns: int,
    progress: Progress,
    save_info: Callable[[VolumeInfo], None],
    coder: Coder,
) -> Encoded:
    """Encode it; ``now_ns`` becomes the identity of the run, ``save_info`` brings its part into the `.vif`. Waits.
    Raises `OSError`, `VolumedError`; then nothing is left."""
    ratio = _ratio(files, source.paths)
    layout = Layout.for_encoding(ratio, files.size(source.dat))
    require_space(files, source.paths, ratio.total * layout.shard_length + source.idx_bytes)
    return encode_volume(
        files,
        source.paths,
        source.dat,
        source.idx,
        ratio=ratio,
        offset_width=source.offset_width,
        now_ns=now_ns,
        progress=progress,
        idx_bytes=source.idx_bytes,
        coder=coder,
        save_info=save_info,
    )


def require_space(files: FileIO, paths: VolumePaths, wanted: int) -> None:
    """Raises `NoSpaceForShards` when the disk has fewer bytes left, and `OSError`."""
    free = files.space(paths.data_directory).free_bytes
    if free < wanted:
        raise NoSpaceForShards.of(paths.data(""), wanted, free)


def _ratio(files: FileIO, paths: VolumePaths) -> Ratio:
    """That of the volume's `.vif` if it names a valid one."""
    config = decode_vif(files.read_file(paths.data(".vif")) or b"").ec_shard_config
    if config is None:
        return DEFAULT_RATIO
    try:
        return Ratio(config.data_shards, config.parity_shards).check()
    except BadEcConfig:
        return DEFAULT_RATIO
