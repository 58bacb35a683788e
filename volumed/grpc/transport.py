"""What connections have in common, whoever opened them (docs/spec/grpc.md 7.1)."""

from __future__ import annotations

__all__ = ["TRANSPORT_OPTIONS"]

_MESSAGE_BYTES_MAX = 1 << 30
_HEADER_BYTES_MAX = 8 << 20
_WINDOW_BYTES = 16 << 20

TRANSPORT_OPTIONS = (
    ("grpc.max_receive_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", _MESSAGE_BYTES_MAX),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.max_metadata_size", _HEADER_BYTES_MAX),
    ("grpc.absolute_max_metadata_size", _HEADER_BYTES_MAX),
    ("grpc.http2.lookahead_bytes", _WINDOW_BYTES),
    # The library's probes of the line would make the window smaller at first.
    ("grpc.http2.bdp_probe", 0),
)
