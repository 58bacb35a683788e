"""`.vif` files: JSON of the protobuf message `VolumeInfo` (docs/spec/storage.md 4.4).

Written exactly as the reference does: two spaces after a colon, 64-bit integers as strings, all defaults.
Read leniently: both spellings of names, numbers or strings, anything missing. Unknown fields are kept and
written back.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

__all__ = ["EcShardConfig", "RemoteFile", "VolumeInfo", "decode_vif", "encode_vif"]


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A copy of the data in a remote tier."""

    backend_type: str = ""
    backend_id: str = ""
    key: str = ""
    offset: int = 0
    file_size: int = 0
    modified_time: int = 0
    """Seconds since 1970."""
    extension: str = ""
    unknown: dict[str, Any] = field(default_factory=dict)

    @property
    def backend_name(self) -> str:
        """As the master is told: ``s3.default``."""
        return f"{self.backend_type}.{self.backend_id}"


@dataclass(frozen=True, slots=True)
class EcShardConfig:
    """How the volume was erasure coded. `block_size` 0 is the legacy layout."""

    data_shards: int = 0
    parity_shards: int = 0
    encode_ts_ns: int = 0
    block_size: int = 0
    unknown: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class VolumeInfo:
    """The content of a `.vif`; change it with `dataclasses.replace`."""

    files: tuple[RemoteFile, ...] = ()
    """Not empty when the data live in a remote tier."""
    version: int = 0
    replication: str = ""
    bytes_offset: int = 0
    """Offset width of the index; 0 when it is not said."""
    dat_file_size: int = 0
    expire_at_sec: int = 0
    read_only: bool = False
    ec_shard_config: EcShardConfig | None = None
    read_only_can_delete: bool = False
    unknown: dict[str, Any] = field(default_factory=dict)
    intact: bool = True
    """False when some of the file could not be read: the file must then be left alone."""


_INTEGER = re.compile("-?[0-9]{1,20}")
_BRACKETS_MAX = 200
"""Opening brackets in a file; nesting can then exhaust nothing."""


class _Malformed(Exception):
    """A JSON value of the wrong type."""


class _Field(NamedTuple):
    attribute: str
    name: str
    decode: Callable[[Any], Any]
    encode: Callable[[Any], Any]
    old_names: tuple[str, ...] = ()


def _integer(bits: int, *, signed: bool) -> Callable[[Any], int]:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)

    def decode(value: Any) -> int:
        if isinstance(value, str) and _INTEGER.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int | float) or value != int(value):
            raise _Malformed
        if not low <= value <= high:
            raise _Malformed
        return int(value)

    return decode


def _exactly(kind: type) -> Callable[[Any], Any]:
    def decode(value: Any) -> Any:
        if not isinstance(value, kind):
            raise _Malformed
        return value

    return decode


def _as_is(value: Any) -> Any:
    return value


_text, _flag, _object, _list = map(_exactly, (str, bool, dict, list))
_u32, _i64, _u64 = _integer(32, signed=False), _integer(64, signed=True), _integer(64, signed=False)

_REMOTE_FILE = (
    _Field("backend_type", "backendType", _text, _as_is),
    _Field("backend_id", "backendId", _text, _as_is),
    _Field("key", "key", _text, _as_is),
    _Field("offset", "offset", _u64, str),
    _Field("file_size", "fileSize", _u64, str),
    _Field("modified_time", "modifiedTime", _u64, str),
    _Field("extension", "extension", _text, _as_is),
)
_EC_SHARD_CONFIG = (
    _Field("data_shards", "dataShards", _u32, _as_is),
    _Field("parity_shards", "parityShards", _u32, _as_is),
    _Field("encode_ts_ns", "encodeTsNs", _i64, str),
    _Field("block_size", "blockSize", _i64, str),
)


def _decode_files(value: Any) -> tuple[RemoteFile, ...]:
    return tuple(RemoteFile(**_strict(_object(item), _REMOTE_FILE)) for item in _list(value))


def _encode_files(files: tuple[RemoteFile, ...]) -> list[dict[str, Any]]:
    return [_to_json(item, _REMOTE_FILE) for item in files]


def _decode_ec_shard_config(value: Any) -> EcShardConfig:
    return EcShardConfig(**_strict(_object(value), _EC_SHARD_CONFIG))


def _encode_ec_shard_config(config: EcShardConfig | None) -> dict[str, Any] | None:
    return None if config is None else _to_json(config, _EC_SHARD_CONFIG)


_VOLUME_INFO = (
    _Field("files", "files", _decode_files, _encode_files),
    _Field("version", "version", _u32, _as_is),
    _Field("replication", "replication", _text, _as_is),
    _Field("bytes_offset", "bytesOffset", _u32, _as_is, ("BytesOffset",)),
    _Field("dat_file_size", "datFileSize", _i64, str),
    _Field("expire_at_sec", "expireAtSec", _u64, str, ("DestroyTime",)),
    _Field("read_only", "readOnly", _flag, _as_is),
    _Field("ec_shard_config", "ecShardConfig", _decode_ec_shard_config, _encode_ec_shard_config),
    _Field("read_only_can_delete", "readOnlyCanDelete", _flag, _as_is),
)


def decode_vif(content: bytes) -> VolumeInfo:
    """Read a `.vif`. Never raises: what cannot be read has its default and `intact` is False.

    An empty file gives the defaults and counts as intact, because it is to be written anew.
    """
    if not content:
        return VolumeInfo()
    if content.count(b"{") + content.count(b"[") > _BRACKETS_MAX:
        return VolumeInfo(intact=False)
    try:
        document = json.loads(content.decode(), parse_float=_finite, parse_constant=_finite)
        values, intact = _from_json(_object(document), _VOLUME_INFO)
    except (ValueError, _Malformed):
        return VolumeInfo(intact=False)
    return VolumeInfo(**values, intact=intact)


def encode_vif(info: VolumeInfo) -> bytes:
    """The file's bytes."""
    text = json.dumps(_to_json(info, _VOLUME_INFO), indent=2, ensure_ascii=False, separators=(",", ":  "))
    # Half a surrogate pair, which a string may hold, goes back to the JSON escape that it came from.
    return text.encode("utf-8", "backslashreplace")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(text)
    return number


def _from_json(document: dict[str, Any], fields: tuple[_Field, ...]) -> tuple[dict[str, Any], bool]:
    """(values by attribute, whether all of them could be read)."""
    rest = dict(document)
    values: dict[str, Any] = {}
    intact = True
    for item in fields:
        for name in (*item.old_names, item.attribute, item.name):
            value = rest.pop(name, None)
            if value is None:
                continue
            try:
                values[item.attribute] = item.decode(value)
            except _Malformed:
                intact = False
    values["unknown"] = rest
    return values, intact


def _strict(document: dict[str, Any], fields: tuple[_Field, ...]) -> dict[str, Any]:
    """Values by attribute of an inner message, which is read whole or not at all."""
    values, intact = _from_json(document, fields)
    if not intact:
        raise _Malformed
    return values


def _to_json(message: Any, fields: tuple[_Field, ...]) -> dict[str, Any]:
    document = {item.name: item.encode(getattr(message, item.attribute)) for item in fields}
    document.update(message.unknown)
    return document
