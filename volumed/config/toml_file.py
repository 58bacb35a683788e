"""Toml configuration files: where they are searched, and how values are read (docs/spec/http.md 8.1)."""

from __future__ import annotations

import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from volumed.config.disks import ConfigError
from volumed.config.flagtypes import parse_bool

__all__ = ["TomlKeys", "find_toml", "list_entries", "read_toml"]

T = TypeVar("T")

_FOLDERS = (".", "~/.seaweedfs", "/usr/local/etc/seaweedfs", "/etc/seaweedfs")


def find_toml(name: str, config_dir: str) -> Path | None:
    """The first file of this name in ``-config_dir`` and the usual places."""
    folders = (Path(os.path.expanduser(folder)).absolute() for folder in (config_dir, *_FOLDERS) if folder)
    return next((path for folder in folders if (path := folder / name).exists()), None)


def read_toml(path: Path | None, environ: Mapping[str, str]) -> TomlKeys:
    """The keys of a file; without one, those of the environment. Raises `ConfigError`."""
    return TomlKeys(str(path or "the environment"), _read(path) if path else {}, environ)


def _read(path: Path) -> dict[str, object]:
    try:
        with path.open("rb") as file:
            return dict(_flat(tomllib.load(file)))
    except (OSError, ValueError) as error:
        # DEVIATE: the reference warns and starts; a file that was meant to protect must not be skipped.
        raise ConfigError(f"cannot read {path}: {error}") from None


def _flat(table: dict[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """Dotted lower-case keys: letter case means nothing in them, and ``"jwt.signing.key"`` is as good as a table."""
    for name, value in table.items():
        key = prefix + name.lower()
        if isinstance(value, dict):
            yield from _flat(value, key + ".")
        else:
            yield key, value


class TomlKeys:
    """Values by key: a non-empty environment variable wins over the file."""

    def __init__(self, source: str, values: dict[str, object], environ: Mapping[str, str]) -> None:
        self._source = source
        self._values = values
        self._environ = environ

    def text(self, key: str) -> str:
        """A text; numbers and booleans count as their spelling."""
        value = self._value(key)
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, str | int | float):
            return str(value)
        # DEVIATE: to the reference such a value is empty, which would leave open what was meant to be closed.
        raise ConfigError(f"{key} in {self._source} is not a text")

    def entries(self, key: str) -> tuple[str, ...]:
        """A comma-separated list."""
        return list_entries(self.text(key))

    def flag(self, key: str) -> bool:
        """A boolean; what is none counts as false, as in the reference."""
        try:
            return parse_bool(self.text(key))
        except ValueError:
            return False

    def number(self, key: str, default: int) -> int:
        """A whole number; ``default`` when it is not set."""
        text = self.text(key)
        try:
            return int(text) if text else default
        except ValueError:
            raise ConfigError(f"{key} in {self._source} is not a number") from None

    def parsed(self, key: str, default: T, parse: Callable[[str], T]) -> T:
        """What ``parse`` makes of the value; ``default`` when it is not set. Raises `ConfigError` with the reason."""
        text = self.text(key)
        try:
            return parse(text) if text else default
        except ValueError as error:
            raise ConfigError(f"{key} in {self._source}: {error}") from None

    def _value(self, key: str) -> object:
        variable = "WEED_" + key.upper().replace(".", "_")
        return self._environ.get(variable) or self._values.get(key.lower(), "")


def list_entries(text: str) -> tuple[str, ...]:
    """The entries of a comma-separated list, without blanks around them."""
    return tuple(entry for item in text.split(",") if (entry := item.strip()))
