"""What a reader must know of an erasure coded volume that is mounted on a disk (ARCHITECTURE.md, "The needle map")."""

from __future__ import annotations

import msgspec

__all__ = ["EcRecord"]


class EcRecord(msgspec.Struct, frozen=True, array_like=True):
    """A volume as one disk has it: other disks of the node may have more of its shards, under records of their own.

    It changes with every mount and unmount of a shard, and when files are replaced: readers keep the parsed form, and
    open files, as long as the raw bytes are equal.
    """

    generation: int
    """Changes whenever a file that a reader may have open is another one; never 0."""
    map_id: int
    """First part of the keys of the entries of needles that the journal deletes. Their value means nothing."""
    collection: str
    version: int
    """Of the needles' format."""
    data_shards: int
    parity_shards: int
    block_size: int
    """0: legacy."""
    encode_ts_ns: int
    """Identity of the encode run; 0: unknown."""
    dat_size: int
    """Bytes of the `.dat`; 0: unknown."""
    data_base: str
    """Path of a file in the data directory, without the extension."""
    index_base: str
    """The same in the directory of the `.ecx` in use."""
    shards: dict[int, int]
    """Lengths in bytes of the mounted shards by id."""

    def encode(self) -> bytes:
        """Binary form."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decode(cls, raw: bytes) -> EcRecord:
        """The inverse of `encode`."""
        return _DECODER.decode(raw)


_DECODER = msgspec.msgpack.Decoder(EcRecord)
