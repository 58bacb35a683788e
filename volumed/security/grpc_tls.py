"""Mutual TLS of gRPC: the files of ``security.toml`` and what is read from them (docs/spec/grpc.md 7.3)."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import NamedTuple, TypeAlias

from volumed.config.disks import ConfigError
from volumed.security.ciphers import grpc_ciphers, tls_version
from volumed.security.followed import FollowedFiles
from volumed.security.settings import GrpcIdentity, SecuritySettings
from volumed.security.tls import load_authority, load_identity

__all__ = [
    "FollowedSecrets",
    "GrpcSecrets",
    "check_grpc_tls",
    "grpc_client_secrets",
    "grpc_environment",
    "grpc_server_secrets",
]


class GrpcSecrets(NamedTuple):
    """One side of a connection; PEM."""

    authority: bytes
    """Certificates of those who may have signed the other side's."""
    cert: bytes
    key: bytes
    context: ssl.SSLContext
    """The same for a client that is not the gRPC library. It does not compare host names."""


FollowedSecrets: TypeAlias = "FollowedFiles[GrpcSecrets]"


def grpc_server_secrets(settings: GrpcIdentity) -> FollowedSecrets | None:
    """Of the gRPC port; None: it is plain. Raises `ConfigError`."""
    return _followed(settings.ca, settings.cert, settings.key) if _is_asked_for(settings) else None


def grpc_client_secrets(settings: GrpcIdentity) -> FollowedSecrets | None:
    """For connections to masters and other volume servers; None: they are plain. Raises `ConfigError`."""
    if not _is_asked_for(settings):
        return None
    if settings.client_cert and settings.client_key:
        return _followed(settings.ca, settings.client_cert, settings.client_key)
    return _followed(settings.ca, settings.cert, settings.key)


def grpc_environment(settings: SecuritySettings) -> dict[str, str]:
    """How the library is told to keep to ``[tls]``; it reads this when it is loaded. Raises `ConfigError`."""
    if settings.tls.max_version:
        tls_version(settings.tls.max_version, is_maximum=True)
    ciphers = grpc_ciphers(settings.tls.cipher_suites, settings.tls.min_version)
    return {"GRPC_SSL_CIPHER_SUITES": ciphers} if ciphers else {}


def check_grpc_tls(settings: SecuritySettings) -> None:
    """Raise `ConfigError` when the node cannot start with these settings."""
    grpc_client_secrets(settings.grpc)
    if grpc_server_secrets(settings.grpc) is not None:
        grpc_environment(settings)


def _is_asked_for(settings: GrpcIdentity) -> bool:
    needed = {"grpc.ca": settings.ca, "grpc.volume.cert": settings.cert, "grpc.volume.key": settings.key}
    others = {
        "grpc.volume.client_cert": settings.client_cert,
        "grpc.volume.client_key": settings.client_key,
        "grpc.volume.allowed_commonNames": settings.allowed_common_names,
        "grpc.allowed_wildcard_domain": settings.allowed_wildcard_domain,
    }
    given = [name for name, value in (needed | others).items() if value]
    missing = [name for name, value in needed.items() if not value]
    if given and missing:
        # DEVIATE: the reference serves and dials in plain text then, which nobody who set one of them can want.
        raise ConfigError(f"{given[0]} is set, but {' and '.join(missing)} for TLS of gRPC not")
    return bool(given)


def _followed(ca: str, cert: str, key: str) -> FollowedSecrets:
    def build() -> GrpcSecrets:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.set_alpn_protocols(["h2"])
        load_authority(context, ca)
        load_identity(context, cert, key)
        return GrpcSecrets(_read(ca), _read(cert), _read(key), context)

    return FollowedFiles(build, (ca, cert, key))


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"open {path}: {error.strerror}") from None
