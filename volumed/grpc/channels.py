"""Connections to masters and other volume servers, plain or with mutual TLS (docs/spec/grpc.md 7.1, 7.3).

Every channel of the node is opened here. The library is imported with the first one: the supervisor must not have it
before its children are started.
"""

from __future__ import annotations

import ipaddress
import logging
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from volumed.config.address import grpc_address
from volumed.grpc.transport import TRANSPORT_OPTIONS
from volumed.security.grpc_tls import GrpcSecrets, grpc_client_secrets
from volumed.security.settings import GrpcIdentity

if TYPE_CHECKING:
    import grpc

__all__ = ["Channels", "name_in_certificate"]

_log = logging.getLogger(__name__)

_GREETING_TIMEOUT_S = 5.0
_OPTIONS = (
    *TRANSPORT_OPTIONS,
    ("grpc.enable_retries", 0),
    # A connection of its own: what is shared between channels would be torn down for all of them.
    ("grpc.use_local_subchannel_pool", 1),
)


class Channels:
    """Opens channels. Usable by several threads."""

    def __init__(self, identity: GrpcIdentity) -> None:
        """Raises `ConfigError` when the certificates are of no use."""
        self._secrets = grpc_client_secrets(identity)

    def open(self, address: str, checked: Sequence[str] = ()) -> grpc.Channel:
        """A channel of its own to ``host:port`` or ``host:port.grpcPort``; the caller closes it. ``checked`` are the
        addresses that its host may have; the first one is used, and the name is not looked up again.

        With TLS it blocks for the time of a handshake. A server that cannot be reached is an error of the first call,
        not of this one."""
        import grpc

        target = grpc_address(address)
        if checked:
            host, port = checked[0], target.rpartition(":")[2]
            target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        if self._secrets is None:
            return grpc.insecure_channel(target, options=_OPTIONS)
        self._secrets.refresh()
        secrets = self._secrets.current
        credentials = grpc.ssl_channel_credentials(secrets.authority, secrets.key, secrets.cert)
        return grpc.secure_channel(target, credentials, options=(*_OPTIONS, *_named_as_certified(target, secrets)))


def _named_as_certified(target: str, secrets: GrpcSecrets) -> list[tuple[str, str]]:
    """Expect the name that the server's certificate has, whatever that is.

    COMPAT: the reference checks who signed a certificate, but not for which host it is, and clusters share one
    certificate between all servers. The library cannot leave that out."""
    try:
        name = name_in_certificate(_certificate(target, secrets.context))
    except (OSError, ValueError) as error:
        # The channel will say it again, to somebody who waits for an answer.
        _log.info("no certificate of %s: %s", target, error)
        return []
    return [("grpc.ssl_target_name_override", name)]


def _certificate(target: str, context: ssl.SSLContext) -> dict[str, Any]:
    """What the server there shows, as `ssl.SSLSocket.getpeercert` tells it."""
    host, _, port = target.rpartition(":")
    with (
        socket.create_connection((host.strip("[]"), int(port)), _GREETING_TIMEOUT_S) as plain,
        context.wrap_socket(plain, server_hostname=host.strip("[]")) as secured,
    ):
        return secured.getpeercert() or {}


def name_in_certificate(certificate: dict[str, Any]) -> str:
    """A name that the library accepts for this certificate: an alternative name, without any the common name. Raises
    `ValueError` when there is none."""
    names = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "DNS"]
    addresses = [value for kind, value in certificate.get("subjectAltName", ()) if kind == "IP Address"]
    common = [value for part in certificate.get("subject", ()) for kind, value in part if kind == "commonName"]
    if names:
        return str(names[0]).replace("*", "any", 1)
    if addresses:
        return str(ipaddress.ip_address(addresses[0]))
    if common:
        return str(common[-1])
    raise ValueError("it names nobody")
