"""Form decoding of query strings and urlencoded bodies (http.md 1.1 and 4.1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from volumed.errors import FormatError
from volumed.formats.numbers import go_text, quote

__all__ = ["Form", "go_bool", "parse_form", "parse_query", "percent_decode"]

Form = dict[str, str]
"""Decoded names and values; of a repeated name the first value."""

_PAIRS_MAX = 10_000

_TRUE = frozenset({"1", "t", "T", "TRUE", "true", "True"})
_BAD_ESCAPE = re.compile(rb"%(?![0-9A-Fa-f]{2}).{0,2}", re.DOTALL)


@dataclass(frozen=True, slots=True)
class _Decoded:
    form: Form
    error: str
    """Empty when every pair was well formed."""


def parse_query(raw: bytes) -> Form:
    """The well-formed pairs of a query; malformed ones are left out (GET, HEAD, DELETE)."""
    return _decode(raw).form if raw else {}


def parse_form(raw: bytes) -> Form:
    """All pairs; raises `FormatError` with the reference's text when one is malformed (POST, PUT)."""
    decoded = _decode(raw)
    if decoded.error:
        raise FormatError(decoded.error)
    return decoded.form


def go_bool(text: str) -> bool:
    """True for `1 t T TRUE true True`; everything else, also what is no boolean at all, is false."""
    return text in _TRUE


def percent_decode(raw: bytes) -> bytes:
    """Decode `%XX`. Raises `FormatError` with `invalid URL escape "%zz"` for a bad escape."""
    if b"%" not in raw:
        return raw
    if bad := _BAD_ESCAPE.search(raw):
        raise FormatError(f"invalid URL escape {quote(go_text(bad.group()))}")
    return unquote_to_bytes(raw)


def _decode(raw: bytes) -> _Decoded:
    if raw.count(b"&") >= _PAIRS_MAX:
        return _Decoded({}, "number of URL query parameters exceeded limit")
    form: Form = {}
    semicolon = escape = ""
    for pair in raw.split(b"&"):
        if b";" in pair:
            semicolon = "invalid semicolon separator in query"
            continue
        name, _, value = pair.replace(b"+", b" ").partition(b"=")
        try:
            decoded_name = go_text(percent_decode(name))
            decoded_value = go_text(percent_decode(value))
        except FormatError as error:
            escape = escape or error.text
            continue
        if pair:
            form.setdefault(decoded_name, decoded_value)
    # COMPAT: a semicolon anywhere hides an earlier bad escape.
    return _Decoded(form, semicolon or escape)
