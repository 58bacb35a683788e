"""Header names and values as they go out."""

from __future__ import annotations

import re

__all__ = ["canonical_name", "clean_value", "is_valid_name"]

_NAME = re.compile(rb"[!#$%&'*+\-.0-9A-Z^_`a-z|~]+")
_NEWLINES = bytes.maketrans(b"\r\n", b"  ")


def is_valid_name(name: bytes) -> bool:
    """Whether a header may be called so."""
    return _NAME.fullmatch(name) is not None


def canonical_name(name: bytes) -> bytes:
    """The spelling in which headers are stored and sent: `x-aMZ-id` is `X-Amz-Id`."""
    return b"-".join(word.capitalize() for word in name.split(b"-"))


def clean_value(value: bytes) -> bytes:
    """A value that cannot end its line: line breaks become blanks, outer blanks go."""
    return value.translate(_NEWLINES).strip(b" \t")
