"""Error texts that only the gRPC interface speaks (docs/spec/grpc.md, rule P18: texts are contract)."""

from __future__ import annotations

__all__ = [
    "maintenance",
    "no_peer_info",
    "no_such_volume_id",
    "not_authorized",
    "not_implemented",
    "unknown_method",
    "unknown_service",
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


def unknown_method(method: str, service: str) -> str:
    """Section 1.1."""
    return f"unknown method {method} for service {service}"


def unknown_service(service: str) -> str:
    """Section 1.1."""
    return f"unknown service {service}"


def not_implemented(method: str) -> str:
    """Ours: an RPC of the contract that this version does not serve."""
    return f"{method} is not implemented by volumed yet"


def no_such_volume_id(volume_id: int) -> str:
    """Status RPCs, section 3.8."""
    return f"not found volume id {volume_id}"
