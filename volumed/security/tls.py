"""TLS of the admin listener and of connections to other servers (docs/spec/http.md 1.6, 8.1).

Contexts are built from ``security.toml`` at the start and again when one of their files has changed, so that
certificates can be renewed while the node runs. Connections keep the context they were made with.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import Callable, Mapping, Sequence

from volumed.config.disks import ConfigError
from volumed.config.flagtypes import parse_duration_s
from volumed.security.ciphers import TLS13_ONLY, openssl_ciphers, tls_version
from volumed.security.settings import HttpsClient, SecuritySettings, TlsLimits

__all__ = ["TlsContext", "check_tls", "client_tls", "follow_files", "refresh_interval_s", "server_tls"]

_log = logging.getLogger(__name__)

_REFRESH_S = 5 * 3600.0
_RETRY_S = 60.0
_REFRESH_VARIABLE = "WEED_TLS_CERT_REFRESH_INTERVAL"
_NO_PASSWORD = "a password is needed"

Stamp = tuple[int, int, int]


class TlsContext:
    """The context for new connections: `current`."""

    def __init__(self, build: Callable[[], ssl.SSLContext], files: Sequence[str]) -> None:
        """``build`` reads ``files``. Raises `ConfigError` when they are of no use."""
        self._build = build
        self._files = [path for path in files if path]
        self._stamps = self._look()
        self.current = build()

    def refresh(self) -> bool:
        """Read the files again if they have changed. Blocks on them. False: what they have become is of no use; that is
        logged and changes nothing."""
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return True
            self.current = self._build()
        except ConfigError as error:
            _log.error("certificates stay as they are: %s", error)
            return False
        self._stamps = stamps
        _log.info("read again: %s", ", ".join(self._files))
        return True

    def _look(self) -> list[Stamp]:
        try:
            found = [os.stat(path) for path in self._files]
        except OSError as error:
            raise ConfigError(f"open {error.filename}: {error.strerror}") from None
        return [(stat.st_mtime_ns, stat.st_size, stat.st_ino) for stat in found]


def server_tls(settings: SecuritySettings) -> TlsContext | None:
    """For the admin listener; None: it speaks plain HTTP. Raises `ConfigError`."""
    own = settings.https_server
    if not (own.cert or own.key or own.ca):
        return None
    # DEVIATE: with one of the two alone the reference serves plain HTTP, which nobody who set it can want.
    _require_pair("https.volume", own.cert, own.key)

    def build() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.options |= ssl.OP_NO_RENEGOTIATION
        _limit(context, settings.tls)
        _load_identity(context, own.cert, own.key)
        if own.ca:
            _load_authority(context, own.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    return TlsContext(build, (own.cert, own.key, own.ca))


def client_tls(settings: HttpsClient) -> TlsContext | None:
    """For connections to other servers; None: they are plain. Raises `ConfigError`."""
    if not settings.enabled:
        return None
    if settings.cert or settings.key:
        _require_pair("https.client", settings.cert, settings.key)

    def build() -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        if settings.ca:
            _load_authority(context, settings.ca)
        else:
            context.load_default_certs()
        if settings.cert:
            _load_identity(context, settings.cert, settings.key)
        if settings.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    return TlsContext(build, (settings.cert, settings.key, settings.ca))


def check_tls(settings: SecuritySettings) -> None:
    """Raise `ConfigError` when the node could not start with these settings."""
    server_tls(settings)
    client_tls(settings.https_client)


def refresh_interval_s(environ: Mapping[str, str]) -> float:
    """How often to look whether certificate files have changed."""
    text = environ.get(_REFRESH_VARIABLE, "")
    try:
        seconds = parse_duration_s(text) if text else _REFRESH_S
    except ValueError as error:
        _log.warning("%s: %s", _REFRESH_VARIABLE, error)
        return _REFRESH_S
    return seconds if seconds > 0 else _REFRESH_S


async def follow_files(contexts: Sequence[TlsContext], interval_s: float) -> None:
    """Refresh for ever. The files may lie on a slow disk, so a thread reads them."""
    pause_s = interval_s
    while True:
        await asyncio.sleep(pause_s)
        useful = [await asyncio.to_thread(context.refresh) for context in contexts]
        # Certificate and key may just have been caught between two writes.
        pause_s = interval_s if all(useful) else min(interval_s, _RETRY_S)


def _require_pair(section: str, cert: str, key: str) -> None:
    if not (cert and key):
        raise ConfigError(f'{section}: both cert and key must be set (got cert="{cert}" key="{key}")')


def _limit(context: ssl.SSLContext, limits: TlsLimits) -> None:
    # DEVIATE: the reference heeds them only when https.volume.ca is set, too.
    context.minimum_version = tls_version(limits.min_version or "TLS 1.2")
    if limits.max_version:
        context.maximum_version = tls_version(limits.max_version, is_maximum=True)
        if context.maximum_version < context.minimum_version:
            raise ConfigError(f"tls.max_version {limits.max_version} is below tls.min_version {limits.min_version}")
    if limits.cipher_suites:
        ciphers = openssl_ciphers(limits.cipher_suites)
        if ciphers == TLS13_ONLY:
            context.minimum_version = ssl.TLSVersion.TLSv1_3
        else:
            context.set_ciphers(ciphers)


def _load_identity(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        # Without a password function OpenSSL would ask on the terminal.
        context.load_cert_chain(cert, key, password=_refuse_password)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use certificate {cert} with key {key}: {error}") from None


def _load_authority(context: ssl.SSLContext, ca: str) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use certificate authority {ca}: {error}") from None
    # As in the reference every certificate of the file is trusted, be it the last of its chain or not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _refuse_password() -> str:
    raise ValueError(_NO_PASSWORD)
