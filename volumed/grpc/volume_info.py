"""The content of a `.vif` as a message (docs/spec/storage.md 4.4)."""

from __future__ import annotations

from volumed.formats.vif import EcShardConfig, decode_vif
from volumed.wire import volume_server_pb2 as pb

__all__ = ["volume_info_message"]


def volume_info_message(vif: bytes) -> pb.VolumeInfo:
    """The message with all that the file says and the message knows."""
    info = decode_vif(vif)
    coded = info.ec_shard_config
    return pb.VolumeInfo(
        files=[
            pb.RemoteFile(
                backend_type=file.backend_type,
                backend_id=file.backend_id,
                key=file.key,
                offset=file.offset,
                file_size=file.file_size,
                modified_time=file.modified_time,
                extension=file.extension,
            )
            for file in info.files
        ],
        version=info.version,
        replication=info.replication,
        bytes_offset=info.bytes_offset,
        dat_file_size=info.dat_file_size,
        expire_at_sec=info.expire_at_sec,
        read_only=info.read_only,
        read_only_can_delete=info.read_only_can_delete,
        ec_shard_config=None if coded is None else _coding_message(coded),
    )


def _coding_message(coded: EcShardConfig) -> pb.EcShardConfig:
    return pb.EcShardConfig(
        data_shards=coded.data_shards,
        parity_shards=coded.parity_shards,
        encode_ts_ns=coded.encode_ts_ns,
        block_size=coded.block_size,
    )
