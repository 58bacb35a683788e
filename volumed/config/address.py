"""Server addresses: ``host:port`` and ``host:port.grpcPort`` (docs/spec/grpc.md 1.7)."""

from __future__ import annotations

__all__ = ["grpc_address", "http_address", "join_host_port"]

_GRPC_PORT_DISTANCE = 10_000


def join_host_port(host: str, port: int) -> str:
    """``host:port``, an IPv6 host in brackets."""
    return f"[{host}]:{port}" if ":" in host and not host.startswith("[") else f"{host}:{port}"


def http_address(address: str) -> str:
    """The ``host:port`` part; two addresses name the same server when these are equal."""
    host, colon, ports = address.rpartition(":")
    return f"{host}:{ports.rpartition('.')[0] or ports}" if colon else address


def grpc_address(address: str) -> str:
    """Where the server answers gRPC. A text without a port is used as it is."""
    host, colon, ports = address.rpartition(":")
    port, dot, grpc_port = ports.rpartition(".")
    if not colon:
        return address
    if dot and port:
        return f"{host}:{grpc_port}"
    return f"{host}:{int(ports) + _GRPC_PORT_DISTANCE}" if ports.isdigit() else address
