"""JSON text as the reference writes it (http.md 1.4): compact, HTML-safe, no trailing newline."""

from __future__ import annotations

import re
from typing import Any, Literal

import msgspec

__all__ = ["encode_json", "error_body"]

_UNSAFE = re.compile(rb"[<>&]|\xe2\x80[\xa8\xa9]")
"""Occurs inside strings only: markup, and the line separators U+2028 and U+2029."""
_ESCAPES = {
    b"<": rb"\u003c",
    b">": rb"\u003e",
    b"&": rb"\u0026",
    b"\xe2\x80\xa8": rb"\u2028",
    b"\xe2\x80\xa9": rb"\u2029",
}
_SURROGATES = re.compile("[\ud800-\udfff]")


def encode_json(value: Any, *, pretty: bool = False, sort_keys: bool = False) -> bytes:
    """JSON of builtin values or msgspec structs.

    `pretty` indents by two blanks (`?pretty=`); `sort_keys` is for results that are maps, not records.
    Surrogate escapes, which stand for bytes that are not UTF-8, each become a replacement character.
    """
    order: Literal["sorted"] | None = "sorted" if sort_keys else None
    try:
        encoded = msgspec.json.encode(value, order=order)
    except UnicodeEncodeError:
        encoded = msgspec.json.encode(_replace_surrogates(msgspec.to_builtins(value)), order=order)
    if pretty:
        encoded = msgspec.json.format(encoded, indent=2)
    return _UNSAFE.sub(lambda found: _ESCAPES[found[0]], encoded)


def error_body(text: str, *, pretty: bool = False) -> bytes:
    """`{"error":"<text>"}`."""
    return encode_json({"error": text}, pretty=pretty)


def _replace_surrogates(value: Any) -> Any:
    if isinstance(value, str):
        return _SURROGATES.sub("\ufffd", value)
    if isinstance(value, dict):
        return {_replace_surrogates(name): _replace_surrogates(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_surrogates(item) for item in value]
    return value
