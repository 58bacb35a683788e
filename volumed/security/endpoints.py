"""Where this node may be sent to fetch something by whoever may call it (docs/spec/grpc.md 3.28).

A caller names the server to copy a volume from, or the object store to read from. Without these rules it could have
the node ask what only the node can reach: services of its own host, of the link, of the cloud it runs in.

Every address of a name must pass; whoever connects uses the addresses that were checked, not the name.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from concurrent import futures
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import NamedTuple
from urllib.parse import urlsplit

from volumed.errors import ClientError, FormatError
from volumed.formats.numbers import quote

__all__ = ["Resolve", "check_peer_target", "check_remote_endpoint", "resolve_host"]

Resolve = Callable[[str], Sequence[str]]
"""Addresses of a host name. Raises `OSError`."""

_RESOLVE_LIMIT_S = 2.0
_METADATA_ADDRESS = ip_address("169.254.169.254")
_METADATA_NAMES = ("metadata", "metadata.google.internal")
_NOT_IN_A_TARGET = ("://", "/", "?", "#", "@", "\\")


class _Rule(NamedTuple):
    """Networks that are refused, and what such an address is called."""

    networks: tuple[str, ...]
    name: str
    for_peers: bool = True
    """Whether it holds for servers of the cluster, too: those may live in private networks."""

    def matches(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in ip_network(network) for network in self.networks)


_RULES = (
    _Rule(("127.0.0.0/8", "::1/128"), "loopback"),
    _Rule(("0.0.0.0/32", "::/128"), "unspecified"),
    _Rule(("169.254.0.0/16", "fe80::/10", "224.0.0.0/24", "ff02::/16"), "link-local"),
    _Rule(("ff01::/16",), "interface-local"),
    _Rule(("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7"), "private", for_peers=False),
    _Rule(("100.64.0.0/10",), "CGNAT", for_peers=False),
)

_EMBEDDING = ("::ffff:0:0/96", "64:ff9b::/96", "::/96")
"""IPv6 networks whose last 32 bits are an IPv4 address."""


def check_peer_target(target: str, resolve: Resolve | None = None) -> list[str]:
    """A server of the cluster, ``host:port`` or ``host:port.grpcPort``. The addresses that may be connected to. Raises
    `ClientError` with the reason."""
    if not target:
        raise FormatError("replica target is empty")
    bare = f"replica target {quote(target)} must be a bare host:port"
    if any(part in target for part in _NOT_IN_A_TARGET):
        raise FormatError(bare)
    try:
        host = _split_host(target)
    except FormatError as error:
        raise FormatError(f"{bare}: {error.text}") from None
    if not host:
        raise FormatError(f"replica target {quote(target)} has no host")
    if _is_metadata_name(host):
        raise ClientError(f"replica target {quote(target)} targets instance metadata service")
    return _checked(target, _addresses("replica target", host, resolve), for_peer=True)


def check_remote_endpoint(endpoint: str, resolve: Resolve | None = None) -> list[str]:
    """An object store, an ``http`` or ``https`` URL. The addresses that may be connected to. Raises `ClientError`
    with the reason."""
    try:
        url = urlsplit(endpoint)
        host = url.hostname or ""
    except ValueError as error:
        raise FormatError(f"parse remote endpoint {quote(endpoint)}: {error}") from None
    named = f"remote endpoint {quote(endpoint)}"
    if url.scheme not in ("http", "https"):
        raise FormatError(f"{named} must use http or https, got {quote(url.scheme)}")
    if not host:
        raise FormatError(f"{named} has no host")
    if _is_metadata_name(host):
        raise ClientError(f"{named} targets instance metadata service")
    return _checked(endpoint, _addresses("remote endpoint", host, resolve), for_peer=False)


def resolve_host(host: str) -> Sequence[str]:
    """Ask the resolver of this host, for two seconds at most. Raises `OSError`."""
    pool = futures.ThreadPoolExecutor(1, thread_name_prefix="resolve")
    try:
        found = pool.submit(socket.getaddrinfo, host, None, type=socket.SOCK_STREAM).result(_RESOLVE_LIMIT_S)
    except futures.TimeoutError:
        raise OSError(f"lookup {host}: i/o timeout") from None
    except UnicodeError:
        raise OSError(f"lookup {host}: no such host") from None
    finally:
        pool.shutdown(wait=False)
    return [str(entry[4][0]) for entry in found]


def _split_host(target: str) -> str:
    """The host of ``host:port``. Raises `FormatError` with the reference's reason."""
    host, colon, _ = target.rpartition(":")
    if not colon or host.startswith("[") != host.endswith("]"):
        raise FormatError(f"address {target}: missing port in address")
    if host.startswith("["):
        return host[1:-1]
    if ":" in host:
        raise FormatError(f"address {target}: too many colons in address")
    return host


def _is_metadata_name(host: str) -> bool:
    return host.lower().rstrip(".") in _METADATA_NAMES


def _addresses(kind: str, host: str, resolve: Resolve | None) -> list[IPv4Address | IPv6Address]:
    try:
        return [ip_address(host)]
    except ValueError:
        pass
    try:
        found = (resolve or resolve_host)(host)
        return [ip_address(text.partition("%")[0]) for text in found]
    except OSError as error:
        raise ClientError(f"resolve {kind} host {quote(host)}: {error.strerror or error}") from None


def _checked(named: str, addresses: Sequence[IPv4Address | IPv6Address], *, for_peer: bool) -> list[str]:
    for address in addresses:
        problem = _problem(address, for_peer=for_peer)
        if problem:
            raise ClientError(f"remote endpoint {quote(named)} {problem}")
    return [str(address) for address in addresses]


def _problem(address: IPv4Address | IPv6Address, *, for_peer: bool) -> str:
    """What is wrong with it, empty when nothing is."""
    if address == _METADATA_ADDRESS:
        return f"targets instance metadata service {address}"
    for rule in _RULES:
        if rule.matches(address):
            return f"resolves to {rule.name} address {address}" if rule.for_peers or not for_peer else ""
    carried = _carried(address)
    return _problem(carried, for_peer=for_peer) if carried is not None else ""


def _carried(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """The IPv4 address in an IPv6 address: mapped, compatible, NAT64, 6to4, Teredo."""
    if isinstance(address, IPv4Address):
        return None
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    if any(address in ip_network(network) for network in _EMBEDDING):
        return IPv4Address(int(address) & 0xFFFFFFFF)
    return None
