"""Patterns with ``*`` for any text and ``?`` for one character; a backslash takes both their meaning."""

from __future__ import annotations

import re

__all__ = ["Glob", "has_wildcard"]

_PIECE = re.compile(r"\\(.)|(\*)|(\?)|([^\\*?]+|\\)", re.DOTALL)


def has_wildcard(pattern: str) -> bool:
    """Whether anything but one text can match."""
    return any(piece[2] or piece[3] for piece in _PIECE.finditer(pattern))


class Glob:
    """A pattern. Matching takes no longer than the product of both lengths, whatever the pattern."""

    def __init__(self, pattern: str) -> None:
        parts = [""]
        for escaped, star, any_one, plain in _PIECE.findall(pattern):
            if star:
                parts.append("")
            else:
                parts[-1] += "." if any_one else re.escape(escaped or plain)
        # No part repeats anything, and each is placed as far left as it fits: there is nothing to try again.
        self._parts = [re.compile(part, re.DOTALL) for part in parts]
        self._last_length = len(re.sub(r"\\(.)", r"\1", parts[-1], flags=re.DOTALL))

    def matches(self, text: str) -> bool:
        """Whether the whole text is described."""
        first, *rest = self._parts
        if not rest:
            return first.fullmatch(text) is not None
        found = first.match(text)
        if found is None:
            return False
        at = found.end()
        for part in rest[:-1]:
            found = part.search(text, at)
            if found is None:
                return False
            at = found.end()
        start = len(text) - self._last_length
        return start >= at and rest[-1].fullmatch(text, start) is not None
