"""Which ratio and block size a volume has, from the files beside its shards (docs/spec/erasure-coding.md 3.6, 3.7)."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from volumed.erasure.code import DEFAULT_RATIO, Ratio
from volumed.erasure.errors import BadEcConfig, BadSidecar
from volumed.erasure.layout import Layout, check_block_size
from volumed.formats.vif import EcShardConfig, VolumeInfo, decode_vif

if TYPE_CHECKING:
    from volumed.erasure.sidecar import Sidecar

__all__ = [
    "FoundFile",
    "Geometry",
    "SidecarState",
    "accepts",
    "is_older",
    "judge_sidecar",
    "resolve_geometry",
]


class FoundFile(NamedTuple):
    """A small file that was read whole."""

    path: str
    content: bytes


class Geometry(NamedTuple):
    """How a volume was encoded."""

    ratio: Ratio
    block_size: int
    """0: legacy."""
    encode_ts_ns: int = 0
    """Identity of the encode run; 0: unknown."""
    dat_size: int = 0
    """Bytes of the `.dat`; 0: unknown."""
    expire_at_s: int = 0
    """0: never."""

    def layout(self, shard_length: int) -> Layout:
        """The layout of shards of so many bytes."""
        if self.dat_size > 0:
            return Layout(self.ratio, self.block_size, self.dat_size)
        return Layout.of_shards(self.ratio, self.block_size, shard_length)

    def matches(self, sidecar: Sidecar) -> bool:
        """Whether a sidecar is about shards of this kind."""
        return sidecar.ratio == self.ratio and sidecar.layout_block == self.block_size

    def __str__(self) -> str:
        return f"{self.ratio} block {self.block_size}"


def resolve_geometry(vif: FoundFile | None, sidecar: FoundFile | None) -> Geometry:
    """``vif`` and ``sidecar`` are the ones in use, None when there is none; an empty `.vif` is none.

    Raises `BadEcConfig`: what is there cannot be understood. Then nothing may be guessed, since the default layout
    would serve wrong bytes.
    """
    info, path = VolumeInfo(), ""
    if vif is not None and vif.content:
        info, path = decode_vif(vif.content), vif.path
        if not info.intact:
            raise BadEcConfig.unreadable_vif(path)
    if info.ec_shard_config is not None:
        return _from_config(info, info.ec_shard_config, path)
    if sidecar is None:
        return Geometry(DEFAULT_RATIO, 0, 0, info.dat_file_size, info.expire_at_sec)
    return _from_sidecar(info, sidecar, path)


def _from_sidecar(info: VolumeInfo, file: FoundFile, vif: str) -> Geometry:
    """``vif`` is the path of the `.vif`, empty when there is none."""
    path = file.path
    try:
        sidecar = _decode(file)
    except BadSidecar as error:
        raise BadEcConfig.unclear(vif, f"read {path}: bitrot sidecar {path} {error.text}") from error
    if sidecar.generation:
        raise BadEcConfig.unclear(vif, f"{path} records generation {sidecar.generation}, not generation 0")
    if sidecar.ratio is None:
        raise BadEcConfig.unclear(vif, f"{path} records no EC config")
    try:
        ratio, block_size = sidecar.ratio.check(), check_block_size(sidecar.layout_block)
    except BadEcConfig as error:
        raise BadEcConfig.unclear(vif, BadEcConfig.in_file(path, error).text) from error
    return Geometry(ratio, block_size, 0, info.dat_file_size, info.expire_at_sec)


class SidecarState(enum.Enum):
    """What the sidecar of a mounted volume is worth (3.5)."""

    OFF = "off"
    """There is none, or it is about something else."""
    ON = "on"
    INVALID = "invalid"


def judge_sidecar(geometry: Geometry, file: FoundFile | None) -> tuple[SidecarState, Sidecar | None]:
    """The state, and the sidecar when it is on. Raises `BadEcConfig` when it records another layout than the volume is
    mounted with."""
    if file is None:
        return SidecarState.OFF, None
    try:
        sidecar = _decode(file)
    except BadSidecar:
        return SidecarState.INVALID, None
    if sidecar.generation or sidecar.ratio is None:
        return SidecarState.OFF, None
    if not geometry.matches(sidecar):
        recorded = Geometry(sidecar.ratio, sidecar.layout_block)
        raise BadEcConfig.two_layouts(file.path, str(recorded), str(geometry))
    return SidecarState.ON, sidecar


def _decode(file: FoundFile) -> Sidecar:
    # The library of the format is for those who read sidecars: fronts, which know geometries too, stay without it.
    from volumed.erasure.sidecar import decode_sidecar

    return decode_sidecar(file.content)


def _from_config(info: VolumeInfo, config: EcShardConfig, path: str) -> Geometry:
    try:
        ratio = Ratio(config.data_shards, config.parity_shards).check()
        block_size = check_block_size(config.block_size)
    except BadEcConfig as error:
        raise BadEcConfig.in_file(path, error) from error
    return Geometry(ratio, block_size, config.encode_ts_ns, info.dat_file_size, info.expire_at_sec)


def accepts(wanted_ts_ns: int, found_ts_ns: int) -> bool:
    """Whether a reader of one encode run may use shards of another: only when it does not know its own (3.7)."""
    return not wanted_ts_ns or wanted_ts_ns == found_ts_ns


def is_older(found_ts_ns: int, limit_ts_ns: int) -> bool:
    """Whether shards are of a known run before the limit: what fenced unmounts and teardowns may touch (3.7)."""
    return 0 < found_ts_ns < limit_ts_ns
