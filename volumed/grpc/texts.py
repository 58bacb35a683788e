"""Error texts that only the gRPC interface speaks (docs/spec/grpc.md, rule P18: texts are contract)."""

from __future__ import annotations

__all__ = [
    "bad_header",
    "copy_counts_differ",
    "deleted_check_not_supported",
    "existing_not_deleted",
    "invalid_common_name",
    "invalid_needle_size",
    "invalid_shard_range",
    "invalid_shard_size",
    "invalid_source_server",
    "maintenance",
    "marked_readonly",
    "needle_not_found",
    "negative_offset",
    "no_peer_info",
    "no_receiving_volume",
    "no_staging_disk",
    "no_such_ec_volume",
    "no_such_volume_id",
    "no_volume_for_meta",
    "not_authorized",
    "not_located",
    "read_blob_failed",
    "replication_not_configured",
    "scrubbed_ec_volume_not_found",
    "scrubbed_volume_not_found",
    "source_has_no_status",
    "source_not_asked",
    "tail_failed",
    "unknown_method",
    "unknown_service",
    "unsupported_ec_scrub_mode",
    "unsupported_scrub_mode",
    "untrusted_source",
    "volume_not_configured",
    "volume_not_found",
    "volume_not_reloaded",
    "was_compacted",
    "write_blob_failed",
]


def maintenance(node_id: str) -> str:
    """Section 3, general order."""
    return f"volume server {node_id} is in maintenance mode"


def not_authorized(address: str) -> str:
    """Section 7.4."""
    return f"not authorized: {address}"


def no_peer_info() -> str:
    """Section 7.4."""
    return "no peer info"


def invalid_common_name(name: str) -> str:
    """Section 7.3; the reference says it in its log alone."""
    return f"Authenticate: invalid subject client common name: {name}"


def unknown_method(method: str, service: str) -> str:
    """Section 1.1."""
    return f"unknown method {method} for service {service}"


def unknown_service(service: str) -> str:
    """Section 1.1."""
    return f"unknown service {service}"


def no_such_volume_id(volume_id: int) -> str:
    """Status RPCs, section 3.8."""
    return f"not found volume id {volume_id}"


def no_such_ec_volume(volume_id: int) -> str:
    """CopyFile, section 3.17."""
    return f"CopyFile not found ec volume id {volume_id}"


def no_staging_disk(disk_type: str, volume_id: int) -> str:
    """ReceiveFile, section 3.18."""
    return f"no {disk_type} disk location with a free slot for volume {volume_id}"


def was_compacted(volume_id: int) -> str:
    """CopyFile, section 3.17."""
    return f"volume {volume_id} is compacted"


def not_located(since_ns: int, reason: str) -> str:
    """VolumeIncrementalCopy, section 3.9."""
    return f"fail to locate by appendAtNs {since_ns}: {reason}"


def untrusted_source(address: str, reason: str) -> str:
    """VolumeCopy, section 3.16."""
    return f"invalid source data node {address}: {reason}"


def existing_not_deleted(volume_id: int, reason: str) -> str:
    """VolumeCopy, section 3.16."""
    return f"failed to delete existing volume {volume_id}: {reason}"


def replication_not_configured(request: str, reason: str) -> str:
    """VolumeConfigure, section 3.14."""
    return f"volume configure replication {request}: {reason}"


def volume_not_configured(request: str, volume_id: int) -> str:
    """VolumeConfigure, section 3.14."""
    missing = f"volume {volume_id} not found on disk"
    return f"volume configure {request}: {missing}. Also failed to restore mount: {missing}"


def volume_not_reloaded(step: str, request: str, reason: str) -> str:
    """VolumeConfigure, section 3.14; ``step`` is "unmount" or "mount"."""
    return f"volume configure {step} {request}: {reason}"


def source_has_no_status() -> str:
    """VolumeCopy, section 3.16; the peer's error follows."""
    return "read volume file status failed, "


def source_not_asked(volume_id: int) -> str:
    """VolumeCopy, section 3.16; the peer's error follows."""
    return f"read source volume {volume_id} status after copy failed: "


def copy_counts_differ(kind: str, found: int, expected: int) -> str:
    """VolumeCopy, section 3.16; ``kind`` is "file" or "deleted"."""
    return f"target {kind} count [{found}] is not same as origin {kind} count [{expected}]"


def bad_header(offset: int) -> str:
    """Section 3.22."""
    return f"cannot read needle header at offset {offset}: no record begins there"


def invalid_needle_size(size: int) -> str:
    """Section 3.19."""
    return f"invalid needle size {size}"


def invalid_shard_range(path: str) -> str:
    """docs/spec/erasure-coding.md 5.7."""
    return f"read {path}: invalid argument"


def invalid_shard_size(size: int) -> str:
    """docs/spec/erasure-coding.md 5.7."""
    return f"invalid size {size}"


def needle_not_found(key: int) -> str:
    """Section 3.31."""
    return f"needle not found {key}"


def negative_offset(path: str) -> str:
    """Section 3.19."""
    return f"readat {path}: negative offset"


def no_receiving_volume(volume_id: int) -> str:
    """Section 3.24."""
    return f"receiver not found volume id {volume_id}"


def no_volume_for_meta(volume_id: int) -> str:
    """Section 3.20."""
    return f"{no_such_volume_id(volume_id)} and read needle metadata at ec shards is not supported"


def read_blob_failed(offset: int, size: int, reason: str) -> str:
    """Section 3.19."""
    return f"read needle blob offset {offset} size {size}: {reason}"


def tail_failed(reason: str) -> str:
    """Section 3.23."""
    return f"streamFollow: {reason}"


def volume_not_found(volume_id: int) -> str:
    """Section 3.31."""
    return f"volume not found {volume_id}"


def write_blob_failed(key: int, size: int, reason: str) -> str:
    """Section 3.21."""
    return f"write blob needle {key} size {size}: {reason}"


def invalid_source_server(source: str, reason: str) -> str:
    """Section 3.24."""
    return f"invalid source volume server {source}: {reason}"


def marked_readonly(volume_id: int) -> str:
    """ScrubVolume, section 3.29."""
    return f"volume {volume_id} is now read-only"


def deleted_check_not_supported() -> str:
    """ScrubEcVolume, erasure-coding.md 5.12."""
    return "deleted needle checks are only supported for FULL and READS scrubs"


def scrubbed_ec_volume_not_found(volume_id: int) -> str:
    """ScrubEcVolume, erasure-coding.md 5.12."""
    return f"EC volume id {volume_id} not found"


def unsupported_ec_scrub_mode(mode: int) -> str:
    """ScrubEcVolume, erasure-coding.md 5.12."""
    return f"unsupported EC volume scrub mode {mode}"


def scrubbed_volume_not_found(volume_id: int) -> str:
    """ScrubVolume, section 3.29."""
    return f"volume id {volume_id} not found"


def unsupported_scrub_mode(mode: int) -> str:
    """ScrubVolume, section 3.29."""
    return f"unsupported volume scrub mode {mode}"
