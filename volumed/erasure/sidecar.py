"""`.ecsum`: checksums of every shard, block by block (docs/spec/erasure-coding.md 3.5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct

from google.protobuf.message import DecodeError

from volumed.erasure.code import Ratio
from volumed.erasure.errors import BadSidecar
from volumed.erasure.layout import MIB
from volumed.formats.checksum import crc32c
from volumed.wire.volume_server_pb2 import CHECKSUM_CRC32C, EcBitrotProtection

__all__ = ["CHECKSUM_BLOCK", "ShardSums", "Sidecar", "decode_sidecar", "differing_blocks", "encode_sidecar"]

CHECKSUM_BLOCK = 16 * MIB
"""Bytes under one checksum in new sidecars."""

_MAGIC = b"ECSU"
_VERSION = 1
_HEADER = Struct(">4sHII")
_BLOCK_MIN, _BLOCK_MAX = MIB, 64 * MIB
_SUM = Struct("<I")


@dataclass(frozen=True, slots=True)
class ShardSums:
    """CRC-32C of every block of a shard; the last block may be short."""

    length: int
    """Bytes of the shard."""
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Sidecar:
    """The content of an `.ecsum`."""

    shards: tuple[ShardSums, ...]
    """By shard id."""
    ratio: Ratio | None
    """None: not recorded, and then the sidecar says nothing about a volume."""
    layout_block: int
    """Block size of the striping; 0: legacy."""
    uuid: bytes
    """16 random bytes of the encode."""
    generation: int = 0
    checksum_block: int = CHECKSUM_BLOCK


def encode_sidecar(sidecar: Sidecar) -> bytes:
    """The file's bytes."""
    message = EcBitrotProtection(
        algorithm=CHECKSUM_CRC32C,
        block_size=sidecar.checksum_block,
        generation=sidecar.generation,
        encode_uuid=sidecar.uuid,
    )
    if sidecar.ratio is not None:
        message.ec_shard_config.data_shards = sidecar.ratio.data
        message.ec_shard_config.parity_shards = sidecar.ratio.parity
        message.ec_shard_config.block_size = sidecar.layout_block
    for shard_id, sums in enumerate(sidecar.shards):
        blocks = b"".join(map(_SUM.pack, sums.blocks))
        message.shards.add(shard_id=shard_id, covered_size=sums.length, block_crc32c=blocks)
    payload = message.SerializeToString(deterministic=True)
    return _HEADER.pack(_MAGIC, _VERSION, len(payload), crc32c(payload)) + payload


def decode_sidecar(content: bytes) -> Sidecar:
    """Raises `BadSidecar` unless everything in it fits."""
    if len(content) < _HEADER.size:
        raise BadSidecar(f"too short ({len(content)} bytes)")
    magic, version, length, checksum = _HEADER.unpack_from(content)
    payload = content[_HEADER.size :]
    if magic != _MAGIC:
        raise BadSidecar(f"bad magic 0x{magic.hex()}")
    if version != _VERSION:
        raise BadSidecar(f"unsupported format version {version}")
    if length != len(payload):
        raise BadSidecar(f"length mismatch: header {length}, actual {len(payload)}")
    if checksum != (computed := crc32c(payload)):
        raise BadSidecar(f"self-integrity CRC mismatch: header {checksum:#x}, computed {computed:#x}")
    try:
        return _from_message(EcBitrotProtection.FromString(payload))
    except DecodeError:
        raise BadSidecar("payload is not a message") from None


def _from_message(message: EcBitrotProtection) -> Sidecar:
    block = message.block_size
    if message.algorithm != CHECKSUM_CRC32C:
        raise BadSidecar(f"unsupported algorithm {message.algorithm}")
    if not _BLOCK_MIN <= block <= _BLOCK_MAX or block & block - 1:
        raise BadSidecar(f"invalid block size {block}")
    sums = {
        shard.shard_id: _read_sums(shard.shard_id, shard.covered_size, shard.block_crc32c, block)
        for shard in message.shards
    }
    config = message.ec_shard_config
    ratio = Ratio(config.data_shards, config.parity_shards) if message.HasField("ec_shard_config") else None
    count = ratio.total if ratio else len(message.shards)
    if sorted(sums) != list(range(count)) or len(message.shards) != count:
        raise BadSidecar(f"{len(message.shards)} shard entries, expected one each of {count}")
    return Sidecar(
        tuple(sums[shard_id] for shard_id in range(count)),
        ratio,
        config.block_size,
        message.encode_uuid,
        message.generation,
        block,
    )


def _read_sums(shard_id: int, length: int, packed: bytes, block: int) -> ShardSums:
    if length <= 0 or len(packed) != -(-length // block) * _SUM.size:
        raise BadSidecar(f"shard {shard_id}: {len(packed)} checksum bytes for {length} bytes")
    return ShardSums(length, tuple(value for (value,) in _SUM.iter_unpack(packed)))


def differing_blocks(expected: ShardSums, found: ShardSums) -> Sequence[int]:
    """Numbers of the blocks that are not the same; all of them when the lengths differ."""
    if expected.length != found.length:
        return range(max(len(expected.blocks), len(found.blocks)))
    return [number for number, pair in enumerate(zip(expected.blocks, found.blocks, strict=True)) if pair[0] != pair[1]]
