"""The data directories: ``-dir`` and the lists that go with it (docs/spec/http.md 9.3, storage.md 9.1)."""

from __future__ import annotations

import os
import re
import tempfile
from typing import TypeVar

from volumed.config.flags import CommandLine
from volumed.config.node import DiskConfig, FreeSpaceLimit
from volumed.config.sizes import parse_free_space_limit
from volumed.formats.volumename import normalize_disk_type

__all__ = ["ConfigError", "disk_configs"]

_T = TypeVar("_T")
_COUNT = re.compile(r"[+-]?[0-9]{1,18}")


class ConfigError(Exception):
    """A configuration the node cannot start with; exit status 255."""


def disk_configs(line: CommandLine) -> tuple[DiskConfig, ...]:
    """The disks in the order of ``-dir``. Raises `ConfigError` with the reference's texts; whether a directory
    exists is its worker's business, so that a missing disk does not stop the node."""
    limits = _free_space_limits(line)
    directories = [_absolute(item) for item in (line.text("dir") or tempfile.gettempdir()).split(",")]
    counts = [_count(item) for item in line.text("max").split(",")]
    types = [normalize_disk_type(item.strip()) for item in line.text("disk").split(",")]
    index = line.text("dir.idx")
    total = len(directories)
    counts = _spread(counts, total, "max is set by -max")
    limits = _spread(limits, total, "minFreeSpacePercent is set by -minFreeSpacePercent")
    types = _spread(types, total, "disk types is set by -disk")
    tags = _tags(line.text("tags"), total)
    if len(set(directories)) != total:
        raise ConfigError(f"a directory is listed twice in -dir: {line.text('dir')}")
    return tuple(
        DiskConfig(
            disk_id=disk_id,
            directory=directory,
            idx_directory=_absolute(index) if index else directory,
            disk_type=types[disk_id],
            tags=tags[disk_id],
            volumes_max=max(0, counts[disk_id]),
            free_space_limit=limits[disk_id],
        )
        for disk_id, directory in enumerate(directories)
    )


def _absolute(text: str) -> str:
    return os.path.abspath(os.path.expanduser(text.strip()))


def _free_space_limits(line: CommandLine) -> list[FreeSpaceLimit]:
    limits = []
    for item in (line.text("minFreeSpace") or line.text("minFreeSpacePercent")).split(","):
        try:
            limits.append(parse_free_space_limit(item))
        except ValueError:
            raise ConfigError(f"The value specified in -minFreeSpace not a valid value {item}") from None
    return limits


def _count(item: str) -> int:
    if not _COUNT.fullmatch(item):
        raise ConfigError(f"The max specified in -max not a valid number {item}")
    return int(item)


def _spread(items: list[_T], total: int, what: str) -> list[_T]:
    """One value counts for all directories; any other number but one each is an error."""
    if len(items) == 1:
        return items * total
    if len(items) != total:
        raise ConfigError(f"{total} directories by -dir, but only {len(items)} {what}")
    return items


def _tags(text: str, total: int) -> list[tuple[str, ...]]:
    """Tags of each disk; a single group applies to all, missing groups are empty."""
    groups = [
        tuple(dict.fromkeys(tag for item in group.split(":") if (tag := item.strip().lower())))
        for group in text.split(",")
    ]
    if len(groups) == 1:
        return groups * total
    return (groups + [()] * total)[:total]
