"""Values of command-line flags as the reference's language reads them (docs/spec/http.md 9.1).

Each parser takes the text of one value and raises `ValueError` with the reason as the reference words it.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from volumed.formats.numbers import quote

__all__ = ["FLAG_TYPES", "parse_bool", "parse_duration_s", "parse_int", "parse_uint_flag"]

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_FALSE = frozenset({"0", "f", "F", "FALSE", "false", "False"})
_INT64_MAX = (1 << 63) - 1
_UINT64_MAX = (1 << 64) - 1
_SEVERITIES = ("INFO", "WARNING", "ERROR", "FATAL")
_OLD_OCTAL = re.compile(r"0_?[0-7][0-7_]*")

_UNIT_NS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_DURATION_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?([^0-9.]*)")


def parse_bool(text: str) -> bool:
    """``1 t T TRUE true True`` or ``0 f F FALSE false False``."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise ValueError(f"strconv.ParseBool: parsing {quote(text)}: invalid syntax")


def parse_int(text: str) -> int:
    """A signed 64-bit number: decimal, ``0x``, ``0b``, ``0o``, or octal with a leading 0."""
    digits = text[1:] if text[:1] in ("-", "+") else text
    value = _magnitude(digits, "ParseInt", text)
    value = -value if text.startswith("-") else value
    if not -_INT64_MAX - 1 <= value <= _INT64_MAX:
        raise ValueError(f"strconv.ParseInt: parsing {quote(text)}: value out of range")
    return value


def parse_uint_flag(text: str) -> int:
    """An unsigned 64-bit number in the same notations."""
    value = _magnitude(text, "ParseUint", text)
    if value > _UINT64_MAX:
        raise ValueError(f"strconv.ParseUint: parsing {quote(text)}: value out of range")
    return value


def _magnitude(digits: str, function: str, text: str) -> int:
    base = 8 if _OLD_OCTAL.fullmatch(digits) else 0
    if digits[:1].isdigit() and digits.isascii() and digits.strip() == digits:
        try:
            return int(digits, base)
        except ValueError:
            pass
    raise ValueError(f"strconv.{function}: parsing {quote(text)}: invalid syntax")


def _parse_level(text: str) -> int:
    """A log level: plain decimal."""
    if not re.fullmatch(r"[+-]?[0-9]{1,18}", text):
        raise ValueError(f"strconv.Atoi: parsing {quote(text)}: invalid syntax")
    return int(text)


def _parse_severity(text: str) -> int:
    """A severity by name or number."""
    name = text.upper()
    return _SEVERITIES.index(name) if name in _SEVERITIES else _parse_level(text)


def parse_duration_s(text: str) -> float:
    """A duration such as ``300ms``, ``1h30m`` or ``1m0s``, in seconds; a bare number other than 0 has no unit."""
    body = text[1:] if text[:1] in ("-", "+") else text
    if body == "0":
        return 0.0
    total_ns = 0.0
    at = 0
    while at < len(body):
        match = _DURATION_PART.match(body, at)
        whole, fraction, unit = match.groups() if match else ("", None, "")
        if not whole and not fraction:
            raise ValueError(f"time: invalid duration {quote(text)}")
        if not unit:
            raise ValueError(f"time: missing unit in duration {quote(text)}")
        if unit not in _UNIT_NS:
            raise ValueError(f"time: unknown unit {quote(unit)} in duration {quote(text)}")
        total_ns += float(f"{whole or 0}.{fraction or 0}") * _UNIT_NS[unit]
        at += len(whole) + len(unit) + (0 if fraction is None else len(fraction) + 1)
    if not body or total_ns > _INT64_MAX:
        raise ValueError(f"time: invalid duration {quote(text)}")
    return (-total_ns if text.startswith("-") else total_ns) / 1e9


FLAG_TYPES: dict[str, Callable[[str], object]] = {
    "string": str,
    "bool": parse_bool,
    "int": parse_int,
    "int64": parse_int,
    "uint": parse_uint_flag,
    "level": _parse_level,
    "severity": _parse_severity,
    "duration": parse_duration_s,
}
"""Name of a type in the flag table → parser of its values."""
