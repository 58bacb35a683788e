"""What is checked right now: built from the settings, followed through reloads by every process that serves."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple

import msgspec

from volumed.nodetable import NodeTable
from volumed.security.guard import WhiteList
from volumed.security.settings import SecuritySettings, load_security

if TYPE_CHECKING:
    from volumed.security.tokens import TokenKey

__all__ = ["Access", "AccessView", "access_of"]

_log = logging.getLogger(__name__)


class Access(NamedTuple):
    """The checks; None means that there is nothing to check."""

    read_key: TokenKey | None = None
    write_key: TokenKey | None = None
    white_list: WhiteList | None = None


def access_of(settings: SecuritySettings) -> Access:
    """The checks that the settings ask for."""
    return Access(
        _key(settings.read_key, settings.read_expires_s),
        _key(settings.write_key, settings.write_expires_s),
        WhiteList(settings.white_list) if settings.white_list else None,
    )


def _key(text: str, expires_s: int) -> TokenKey | None:
    if not text:
        return None
    # The library brings a large one along: only nodes that check tokens wait for it at start.
    from volumed.security.tokens import TokenKey

    return TokenKey(text, expires_s)


class AccessView:
    """The node's current checks, seen from one process. Usable by several threads."""

    def __init__(self, table: NodeTable, runtime_dir: str) -> None:
        self._table = table
        self._runtime_dir = runtime_dir
        # One value, so that no thread sees the version of one reload with the checks of another.
        self._seen = (table.security_version, access_of(load_security(runtime_dir)))

    @property
    def current(self) -> Access:
        """The checks as of the last reload. A file that cannot be read changes nothing and is logged."""
        version, access = self._seen
        return access if version == self._table.security_version else self._reload(access)

    def _reload(self, access: Access) -> Access:
        # The version first: what is replaced while we read has a newer one and is read again.
        version = self._table.security_version
        try:
            access = access_of(load_security(self._runtime_dir))
        except (OSError, msgspec.DecodeError) as error:
            _log.error("security settings are not reloaded: %s", error)
        self._seen = (version, access)
        return access
