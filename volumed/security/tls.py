"""TLS of the admin listener and of connections to other servers (docs/spec/http.md 1.6, 8.1).

Contexts are built from ``security.toml`` at the start and again when one of their files has changed, so that
certificates can be renewed while the node runs. Connections keep the context they were made with.
"""

from __future__ import annotations

import ssl
from typing import NamedTuple, TypeAlias

from volumed.config.disks import ConfigError
from volumed.security.ciphers import TLS13_ONLY, openssl_ciphers, tls_version
from volumed.security.followed import FollowedFiles
from volumed.security.settings import HttpsClient, SecuritySettings, TlsLimits

__all__ = ["NodeTls", "TlsContext", "client_tls", "load_authority", "load_identity", "load_tls", "server_tls"]

_NO_PASSWORD = "a password is needed"

TlsContext: TypeAlias = "FollowedFiles[ssl.SSLContext]"
"""The context for new connections."""


class NodeTls(NamedTuple):
    """What HTTP fronts speak TLS with; None: plain. Made before the fork, so that a front can start while new files are
    of no use."""

    server: TlsContext | None
    client: TlsContext | None

    @property
    def contexts(self) -> list[TlsContext]:
        """Those that there are."""
        return [context for context in self if context is not None]


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
        load_identity(context, own.cert, own.key)
        if own.ca:
            load_authority(context, own.ca)
            context.verify_mode = ssl.CERT_REQUIRED
        context.set_alpn_protocols(["h2", "http/1.1"])
        return context

    return FollowedFiles(build, (own.cert, own.key, own.ca))


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
            load_authority(context, settings.ca)
        else:
            context.load_default_certs()
        if settings.cert:
            load_identity(context, settings.cert, settings.key)
        if settings.insecure_skip_verify:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context

    return FollowedFiles(build, (settings.cert, settings.key, settings.ca))


def load_tls(settings: SecuritySettings) -> NodeTls:
    """Everything that these settings ask for. Raises `ConfigError` when the node cannot start with them."""
    return NodeTls(server_tls(settings), client_tls(settings.https_client))


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


def load_identity(context: ssl.SSLContext, cert: str, key: str) -> None:
    try:
        # Without a password function OpenSSL would ask on the terminal.
        context.load_cert_chain(cert, key, password=_refuse_password)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use certificate {cert} with key {key}: {error}") from None


def load_authority(context: ssl.SSLContext, ca: str) -> None:
    try:
        context.load_verify_locations(ca)
    except (OSError, ValueError) as error:
        raise ConfigError(f"cannot use certificate authority {ca}: {error}") from None
    # As in the reference every certificate of the file is trusted, be it the last of its chain or not.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN


def _refuse_password() -> str:
    raise ValueError(_NO_PASSWORD)
