"""The node's TCP ports, taken at start and opened when the node is ready.

Bound sockets that do not listen refuse connections, so a port is ours from the first moment and yet closed until the
disks are loaded. The HTTP fronts inherit theirs. grpcio cannot adopt a socket: its port is held by a bound socket
with SO_REUSEPORT, beside which the gRPC front binds its own.
"""

from __future__ import annotations

import contextlib
import socket

from volumed.config.address import join_host_port
from volumed.config.node import NodeConfig

__all__ = ["NodeSockets", "PortUnavailable"]


_LOOPBACK = "127.0.0.1"


class PortUnavailable(Exception):
    """A port cannot be bound; the process exits with status 255."""


class NodeSockets:
    """``admin``, ``public`` (None when it is the same port), the reservation of the gRPC port, and ``metrics`` and
    ``debug`` (None when they are off)."""

    def __init__(self, config: NodeConfig) -> None:
        with contextlib.ExitStack() as held:
            self._reservation = held.enter_context(_reserve_shared(config.bind_ip, config.grpc_port))
            self.admin = held.enter_context(_reserve(config.bind_ip, config.port))
            self.public: socket.socket | None = None
            if config.public_port != config.port:
                self.public = held.enter_context(_reserve(config.bind_ip, config.public_port))
            self.metrics: socket.socket | None = None
            if config.metrics_port:
                self.metrics = held.enter_context(_reserve(config.metrics_ip, config.metrics_port))
            self.debug: socket.socket | None = None
            if config.debug_port:
                self.debug = held.enter_context(_reserve(_LOOPBACK, config.debug_port))
            held.pop_all()

    def inherited(self) -> dict[str, int]:
        """Environment variable → descriptor, for the HTTP fronts."""
        descriptors = {"VOLUMED_ADMIN_FD": self.admin.fileno()}
        if self.public is not None:
            descriptors["VOLUMED_PUBLIC_FD"] = self.public.fileno()
        return descriptors

    def allow_listening(self) -> None:
        """To be called before the fronts may listen."""
        for listener in (self.admin, self.public):
            if listener is not None:
                # Accepted connections inherit the option; without it, those in TIME_WAIT would block a restart.
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)

    def close(self) -> None:
        for item in (self.admin, self.public, self._reservation, self.metrics, self.debug):
            if item is not None:
                item.close()


def _reserve(host: str, port: int, *, shared: bool = False) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except OSError as error:
        raise PortUnavailable(f"listen tcp: lookup {host}: {error.strerror or error}") from None
    holder = socket.socket(family, kind, protocol)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(address)
        # While it is set, another process that also sets it could bind a port on which nobody listens yet.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError as error:
        holder.close()
        reason = (error.strerror or str(error)).lower()
        raise PortUnavailable(f"listen tcp {join_host_port(host, port)}: bind: {reason}") from None
    return holder


def _reserve_shared(host: str, port: int) -> socket.socket:
    """A plain bind proves that the port is free; then it is taken again, so that our own front may join."""
    _reserve(host, port).close()
    return _reserve(host, port, shared=True)
