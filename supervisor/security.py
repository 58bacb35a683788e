"""The security settings of the running node: read at start, read again at SIGHUP (docs/spec/http.md 8.3)."""

from __future__ import annotations

import logging
from collections.abc import Callable

from supervisor.jobs import Jobs
from volumed.config.disks import ConfigError
from volumed.errors import ClientError
from volumed.security.settings import GrpcIdentity, SecuritySettings, write_security

__all__ = ["SecurityKeeper"]

_log = logging.getLogger(__name__)


class SecurityKeeper:
    """Writes what the node's processes check by; they look at it when the node table tells of a change."""

    def __init__(self, settings: SecuritySettings, read: Callable[[], SecuritySettings], runtime_dir: str) -> None:
        """``read`` reads the configuration anew; raises `ConfigError`."""
        self._settings = settings
        self._read = read
        self._runtime_dir = runtime_dir
        write_security(settings, runtime_dir)

    @property
    def scheme(self) -> str:
        """Of the admin listener's URL."""
        return "https" if self._settings.https_server.cert else "http"

    @property
    def grpc(self) -> GrpcIdentity:
        """How this process shows itself to masters and other servers; no reload changes it."""
        return self._settings.grpc

    def reload(self, jobs: Jobs, changed: Callable[[], None]) -> None:
        """Read on a thread of ``jobs``, which must be one alone; ``changed`` is called once the new settings lie
        ready. A configuration that cannot be read changes nothing and is logged."""

        def done(settings: SecuritySettings) -> None:
            changed()
            _log.info(
                "security settings reloaded: %s write key, %s read key, %d entries in the white list",
                "a" if settings.write_key else "no",
                "a" if settings.read_key else "no",
                len(settings.white_list),
            )

        jobs.submit(self._renew, done, lambda error: _log.error("security settings stay as they are: %s", error.text))

    def _renew(self) -> SecuritySettings:
        try:
            self._settings = self._settings.reloaded(self._read())
            write_security(self._settings, self._runtime_dir)
        except (ConfigError, OSError) as error:
            raise ClientError(str(error)) from None
        return self._settings
