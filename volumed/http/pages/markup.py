"""HTML that is escaped unless it was made here, and numbers as people read them."""

from __future__ import annotations

import html
from collections.abc import Iterable

__all__ = ["Markup", "duration_text", "fill", "join", "share_text", "size_text"]

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_PERIODS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


class Markup(str):
    """HTML, ready to be sent."""

    __slots__ = ()


def fill(template: str, /, *values: object, **named: object) -> Markup:
    """``str.format`` with every value escaped except `Markup`."""
    return Markup(
        template.format(*map(_escaped, values), **{name: _escaped(value) for name, value in named.items()})
    )


def join(parts: Iterable[Markup], separator: str = "") -> Markup:
    """The parts one after the other."""
    return Markup(separator.join(parts))


def _escaped(value: object) -> str:
    return value if isinstance(value, Markup) else html.escape(str(value))


def size_text(size_bytes: int) -> str:
    """``14.00 MiB``; below a KiB the bytes themselves."""
    size = float(size_bytes)
    for unit in _UNITS:
        if size < 1024 or unit == _UNITS[-1]:
            break
        size /= 1024
    return f"{size_bytes} B" if unit == "B" else f"{size:.2f} {unit}"


def share_text(part: int, whole: int) -> str:
    """``69.7%``, and a dash when there is no whole."""
    return f"{100 * part / whole:.1f}%" if whole else "–"


def duration_text(seconds: float) -> str:
    """The two largest units: ``3d 4h``, ``12m 5s``, ``0s``."""
    rest = max(0, int(seconds))
    parts: list[str] = []
    for length, letter in _PERIODS:
        count, rest = divmod(rest, length)
        if count or parts or length == 1:
            parts.append(f"{count}{letter}")
    return " ".join(parts[:2])
