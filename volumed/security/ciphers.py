"""Names of TLS versions and cipher suites in ``security.toml`` (docs/spec/http.md 8.1)."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from volumed.config.disks import ConfigError

__all__ = ["TLS13_ONLY", "grpc_ciphers", "openssl_ciphers", "tls_version"]

TLS13_ONLY = ""
"""What `openssl_ciphers` returns when no suite of TLS 1.2 is wanted."""

_VERSIONS = {
    # DEVIATE: TLS 1.2 is the oldest that is spoken; as a lower bound the older names mean the same.
    "SSLv3": ssl.TLSVersion.TLSv1_2,
    "TLS 1.0": ssl.TLSVersion.TLSv1_2,
    "TLS 1.1": ssl.TLSVersion.TLSv1_2,
    "TLS 1.2": ssl.TLSVersion.TLSv1_2,
    "TLS 1.3": ssl.TLSVersion.TLSv1_3,
}
_SPOKEN = ("TLS 1.2", "TLS 1.3")

_TLS13_SUITES = frozenset({"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"})
"""Always on with TLS 1.3, here as in the reference."""

_SUITES = {
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256": "ECDHE-ECDSA-AES128-GCM-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384": "ECDHE-ECDSA-AES256-GCM-SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305": "ECDHE-ECDSA-CHACHA20-POLY1305",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA": "ECDHE-ECDSA-AES128-SHA",
    "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256": "ECDHE-ECDSA-AES128-SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA": "ECDHE-ECDSA-AES256-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": "ECDHE-RSA-AES128-GCM-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384": "ECDHE-RSA-AES256-GCM-SHA384",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305": "ECDHE-RSA-CHACHA20-POLY1305",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA": "ECDHE-RSA-AES128-SHA",
    "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256": "ECDHE-RSA-AES128-SHA256",
    "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA": "ECDHE-RSA-AES256-SHA",
    "TLS_RSA_WITH_AES_128_GCM_SHA256": "AES128-GCM-SHA256",
    "TLS_RSA_WITH_AES_256_GCM_SHA384": "AES256-GCM-SHA384",
    "TLS_RSA_WITH_AES_128_CBC_SHA": "AES128-SHA",
    "TLS_RSA_WITH_AES_128_CBC_SHA256": "AES128-SHA256",
    "TLS_RSA_WITH_AES_256_CBC_SHA": "AES256-SHA",
}
"""The suites of TLS 1.2 that both the reference and OpenSSL have; RC4 and 3DES are not among them."""

_NOT_IN_GRPC = "AES128-SHA256"
_GRPC_TLS13_ONLY = "ECDHE-PSK-AES128-CBC-SHA"
"""The gRPC library cannot be told a lowest version. A suite that needs keys which nobody has leaves nothing of TLS 1.2,
and does not touch TLS 1.3."""


def tls_version(name: str, *, is_maximum: bool = False) -> ssl.TLSVersion:
    """The version of that name. Raises `ConfigError`, also for an upper bound below all that is spoken."""
    version = _VERSIONS.get(name)
    if version is None:
        raise ConfigError(f"invalid tls version {name}")
    if is_maximum and name not in _SPOKEN:
        raise ConfigError(f"tls.max_version {name} is not spoken by this build, the oldest is TLS 1.2")
    return version


def openssl_ciphers(names: Sequence[str]) -> str:
    """IANA names as OpenSSL's list of TLS 1.2 suites, `TLS13_ONLY` if there is none. Raises `ConfigError`."""
    for name in names:
        if name not in _SUITES and name not in _TLS13_SUITES:
            raise ConfigError(f"invalid tls cipher suite name {name}")
    return ":".join(_SUITES[name] for name in names if name in _SUITES)


def grpc_ciphers(names: Sequence[str], min_version: str) -> str:
    """The list of suites that makes the gRPC library keep to ``[tls]``; empty: its own choice. Raises `ConfigError`."""
    if min_version and tls_version(min_version) == ssl.TLSVersion.TLSv1_3:
        return _GRPC_TLS13_ONLY
    if not names:
        return ""
    ciphers = openssl_ciphers(names)
    if ciphers == _NOT_IN_GRPC:
        raise ConfigError(f"tls.cipher_suites: gRPC has no {names[0]}")
    return _GRPC_TLS13_ONLY if ciphers == TLS13_ONLY else ciphers
