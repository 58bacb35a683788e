"""Settings that this build does not implement and that would be unsafe to ignore.

A protection that is silently not enforced leaves a store open that its owner believes closed, so the node refuses to
start instead.
"""

from __future__ import annotations

from volumed.config.disks import ConfigError
from volumed.security.settings import SecuritySettings

__all__ = ["refuse_unimplemented_security"]


def refuse_unimplemented_security(settings: SecuritySettings) -> None:
    """Raise `ConfigError` when ``settings`` ask for TLS of gRPC (docs/spec/http.md 8.1)."""
    grpc = settings.grpc
    protecting = {
        "grpc.ca": grpc.ca,
        "grpc.volume.cert": grpc.cert,
        "grpc.volume.key": grpc.key,
        "grpc.volume.allowed_commonNames": grpc.allowed_common_names,
        "grpc.allowed_wildcard_domain": grpc.allowed_wildcard_domain,
    }
    for key, value in protecting.items():
        if value:
            raise ConfigError(f"{key} is set but not implemented by this build; refusing to start without it")
