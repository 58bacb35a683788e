"""Sizes on the command line: ``-minFreeSpace`` (docs/spec/http.md 9.2)."""

from __future__ import annotations

import re

from volumed.config.node import FreeSpaceLimit

__all__ = ["parse_free_space_limit", "parse_human_bytes"]

_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_AMOUNT = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+) *([a-z]*)")
_POWERS = "kmgtpe"
_PERCENT_MAX = 100.0
_BYTES_MIN = 101
_BYTES_LIMIT = 1 << 64


def parse_human_bytes(text: str) -> int:
    """``10GiB``, ``5G``, ``1.5 tb``: decimal for ``kB``, ``MB`` ..., binary for ``KiB``, ``MiB`` .... Raises
    `ValueError`."""
    match = _AMOUNT.fullmatch(text.strip().lower())
    if match is None:
        raise ValueError(f"{text} is no size")
    number, unit = match.groups()
    value = float(number) * _factor(unit.removesuffix("b"))
    if value >= _BYTES_LIMIT:
        raise ValueError(f"{text} is too large")
    return int(value)


def _factor(prefix: str) -> int:
    if not prefix:
        return 1
    if len(prefix) > 2 or prefix[0] not in _POWERS or prefix[1:] not in ("", "i"):
        raise ValueError(f"unknown unit {prefix}")
    base = 1024 if prefix.endswith("i") else 1000
    return int(base ** (_POWERS.index(prefix[0]) + 1))


def parse_free_space_limit(text: str) -> FreeSpaceLimit:
    """A plain number is a percentage of 0 to 100; anything else must be more than 100 bytes. Raises
    `ValueError`."""
    text = text.strip()
    if _NUMBER.fullmatch(text):
        percent = float(text)
        if not 0 <= percent <= _PERCENT_MAX:
            raise ValueError(f"{text} is no percentage")
        return FreeSpaceLimit(percent=percent)
    size = parse_human_bytes(text)
    if size < _BYTES_MIN:
        raise ValueError(f"{text} is not more than 100 bytes")
    return FreeSpaceLimit(bytes=size)
