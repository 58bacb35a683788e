"""The white list: from which addresses a node takes writes and administration (docs/spec/http.md 1.7, grpc.md 7.4)."""

from __future__ import annotations

import ipaddress
import logging
import re
from collections.abc import Iterable

__all__ = ["WhiteList", "canonical_address", "usable_entries"]

_log = logging.getLogger(__name__)
_PREFIX = re.compile(r"[^/]+/[0-9]{1,3}")


class WhiteList:
    """A parsed list that is not empty."""

    def __init__(self, entries: Iterable[str]) -> None:
        """``entries``: what `usable_entries` let through."""
        entries = tuple(entries)
        self._addresses = frozenset(entry for entry in entries if "/" not in entry)
        self._networks = tuple(_network(entry) for entry in entries if "/" in entry)

    def allows(self, peer: str) -> bool:
        """Whether the list names the address of the connection, or a range around it. An unknown one is not allowed."""
        address = canonical_address(peer)
        if address in self._addresses:
            return True
        if not self._networks:
            return False
        try:
            parsed = ipaddress.ip_address(address)
        except ValueError:
            return False
        return any(parsed in network for network in self._networks)


def usable_entries(entries: Iterable[str]) -> tuple[str, ...]:
    """Leave out, and log, ranges that are none. COMPAT: when nothing is left, everybody is allowed."""
    return tuple(entry for entry in entries if "/" not in entry or _is_range(entry))


def canonical_address(peer: str) -> str:
    """The address as entries are compared with it: IPv4 in IPv6 as IPv4, no zone; unparsable text unchanged."""
    try:
        address = ipaddress.ip_address(peer.partition("%")[0])
    except ValueError:
        return peer
    return str(getattr(address, "ipv4_mapped", None) or address)


def _is_range(entry: str) -> bool:
    try:
        _network(entry)
    except ValueError as error:
        _log.error("white list: %s is skipped: %s", entry, error)
        return False
    return True


def _network(entry: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    if not _PREFIX.fullmatch(entry):
        raise ValueError("not an address and a prefix length")
    return ipaddress.ip_network(entry, strict=False)
