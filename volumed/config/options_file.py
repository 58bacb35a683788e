"""The options file of ``-options`` (docs/spec/http.md 9.1)."""

from __future__ import annotations

import re
from collections.abc import Iterator

__all__ = ["read_options"]

_SEPARATOR = re.compile(r"[=: \t]")


def read_options(content: str) -> Iterator[tuple[str, str | None]]:
    """Yield (name, value) of each line; the value is None when the line is a bare name.

    A name ends at the first of ``=``, blank and ``:``, so that ``name = value`` gives the value ``= value``.
    """
    for line in content.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith("#"):
            continue
        stripped = stripped.removeprefix("-")
        match = _SEPARATOR.search(stripped)
        if match is None:
            yield stripped, None
        else:
            yield stripped[: match.start()], stripped[match.end() :].strip()
