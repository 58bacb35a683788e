"""The host's own address, the default of ``-ip`` (docs/spec/http.md 9.2)."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from pathlib import Path

__all__ = ["detect_host_address"]

_SIOCGIFFLAGS = 0x8913
_SIOCGIFADDR = 0x8915
_IFF_UP = 1
_IFF_LOOPBACK = 8
_IFREQ_NAME_BYTES = 15


def detect_host_address() -> str:
    """First IPv4 address of an interface that is up and no loopback; else such an IPv6 address; else
    ``localhost``."""
    names = [name for _, name in sorted(socket.if_nameindex()) if _is_candidate(name)]
    for name in names:
        address = _ipv4(name)
        if address:
            return address
    return _ipv6(names) or "localhost"


def _ioctl(name: str, request: int) -> bytes:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return fcntl.ioctl(probe, request, struct.pack("256s", name.encode()[:_IFREQ_NAME_BYTES]))


def _is_candidate(name: str) -> bool:
    try:
        (flags,) = struct.unpack_from("<H", _ioctl(name, _SIOCGIFFLAGS), 16)
    except OSError:
        return False
    return bool(flags & _IFF_UP) and not flags & _IFF_LOOPBACK


def _ipv4(name: str) -> str:
    try:
        return socket.inet_ntoa(_ioctl(name, _SIOCGIFADDR)[20:24])
    except OSError:
        return ""


def _ipv6(names: list[str]) -> str:
    try:
        rows = [line.split() for line in Path("/proc/net/if_inet6").read_text().splitlines()]
    except OSError:
        return ""
    for row in rows:
        address = ipaddress.IPv6Address(bytes.fromhex(row[0]))
        if row[5] in names and not address.is_link_local:
            return str(address)
    return ""
