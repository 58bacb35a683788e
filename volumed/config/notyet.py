"""Settings that this build does not implement and that would be unsafe to ignore.

A white list or a signing key that is silently not enforced leaves a store open that its owner believes closed, so
the node refuses to start instead.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from volumed.config.disks import ConfigError
from volumed.config.flags import CommandLine

__all__ = ["refuse_unimplemented_security"]

_PROTECTING_KEYS = (
    "jwt.signing.key",
    "jwt.signing.read.key",
    "guard.white_list",
    "https.volume.cert",
    "https.volume.key",
    "https.volume.ca",
    "https.client.enabled",
    "https.client.cert",
    "grpc.ca",
    "grpc.volume.cert",
    "grpc.volume.key",
    "grpc.volume.allowed_commonNames",
    "grpc.allowed_wildcard_domain",
)
"""Keys of security.toml (docs/spec/http.md 8.1) that protect something when they are set."""

_FILE = "security.toml"


def refuse_unimplemented_security(line: CommandLine, environ: Mapping[str, str]) -> None:
    """Raise `ConfigError` when the command line, security.toml or the environment asks for protection."""
    if line.text("whiteList"):
        raise ConfigError("-whiteList is not implemented by this build; refusing to start without it")
    path = _security_file(line)
    settings = _read(path) if path else {}
    for key in _PROTECTING_KEYS:
        variable = "WEED_" + key.upper().replace(".", "_")
        if environ.get(variable):
            raise ConfigError(_refusal(key, f"the environment variable {variable}"))
        if _look_up(settings, key):
            raise ConfigError(_refusal(key, str(path)))


def _refusal(key: str, source: str) -> str:
    return f"{key} is set in {source} but not implemented by this build; refusing to start without it"


def _security_file(line: CommandLine) -> Path | None:
    named = line.text("securityFile")
    if named:
        return Path(named)
    return next((path for path in _search_path(line.text("config_dir")) if path.is_file()), None)


def _search_path(config_dir: str) -> Iterator[Path]:
    for folder in (config_dir, ".", "~/.seaweedfs", "/usr/local/etc/seaweedfs", "/etc/seaweedfs"):
        if folder:
            yield Path(os.path.expanduser(folder)) / _FILE


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError) as error:
        # DEVIATE: the reference warns and starts; a file that was meant to protect must not be skipped.
        raise ConfigError(f"cannot read {path}: {error}") from None


def _look_up(settings: dict[str, object], key: str) -> object:
    value: object = settings
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    return value
