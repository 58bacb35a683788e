"""Media types and dispositions with parameters (`type; name=value`), read as the reference reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from volumed.errors import FormatError
from volumed.formats.numbers import go_text
from volumed.http.text.query import percent_decode

__all__ = ["parse_media_type"]

_LENGTH_MAX = 64 << 10
"""DEVIATE: longer ones are refused. The reference takes as much as a head may hold; each parameter costs time."""
_SPACE = "\t\n\v\f\r \x85\xa0"
_TOKEN = r"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+"
_SPECIAL = r'[()<>@,;:\\"/\[\]?=]'
_TYPE = re.compile(rf"{_TOKEN}(?:/{_TOKEN})?")
_PARAMETER = re.compile(
    rf"[{_SPACE}]*+;[{_SPACE}]*+({_TOKEN}+)[{_SPACE}]*+=[{_SPACE}]*+"
    rf'(?:({_TOKEN})|"((?:\\{_SPECIAL}|[^"\r\n])*+)")'
)
_END = re.compile(rf"[{_SPACE}]*+;?[{_SPACE}]*+")
_ESCAPED = re.compile(rf"\\({_SPECIAL})")
_CHARSETS = frozenset({"us-ascii", "utf-8"})

_Pieces = dict[str, dict[str, str]]
"""Parameters with a `*` in their name (RFC 2231), by the name before it."""


@lru_cache(maxsize=64)
def parse_media_type(text: str) -> tuple[str, Mapping[str, str]]:
    """The lower-case type and its parameters (lower-case names).

    Raises `FormatError` with the text the reference gives, such as `mime: invalid media parameter`.
    """
    if len(text) > _LENGTH_MAX:
        raise FormatError("mime: invalid media parameter")
    base = text.partition(";")[0]
    kind = base.strip(_SPACE).lower()
    if not _TYPE.fullmatch(kind):
        raise FormatError(_type_error(kind))
    parameters: dict[str, str] = {}
    pieces: _Pieces = {}
    position = len(base)
    while not _END.fullmatch(text, position):
        match = _PARAMETER.match(text, position)
        if not match:
            raise FormatError("mime: invalid media parameter")
        name, token, quoted = match.groups()
        value = token if token is not None else _ESCAPED.sub(r"\1", quoted)
        _store(parameters, pieces, name.lower(), value)
        position = match.end()
    for name, parts in pieces.items():
        joined = _join_pieces(name, parts)
        if joined is not None:
            parameters[name] = joined
    return kind, parameters


def _type_error(kind: str) -> str:
    first, slash, rest = kind.partition("/")
    if not re.match(_TOKEN, first):
        return "mime: no media type"
    if not re.fullmatch(_TOKEN, first) or not slash:
        return "mime: expected slash after first token"
    if not re.match(_TOKEN, rest):
        return "mime: expected token after slash"
    return "mime: unexpected content after media subtype"


def _store(parameters: dict[str, str], pieces: _Pieces, name: str, value: str) -> None:
    base, star, _ = name.partition("*")
    target = pieces.setdefault(base, {}) if star else parameters
    if target.setdefault(name, value) != value:
        raise FormatError("mime: duplicate parameter name")


def _join_pieces(name: str, parts: dict[str, str]) -> str | None:
    """The value of `name*`, or of `name*0`, `name*1*`, … in order; None when there is none to decode."""
    if (whole := parts.get(f"{name}*")) is not None:
        return _decode_extended(whole)
    found: list[str] = []
    for number in range(len(parts)):
        plain, extended = parts.get(f"{name}*{number}"), parts.get(f"{name}*{number}*")
        if plain is not None:
            found.append(plain)
        elif extended is not None:
            found.append(_decode_extended(extended) or "" if number == 0 else _decode_percent(extended) or "")
        else:
            break
    return "".join(found) if found else None


def _decode_extended(text: str) -> str | None:
    charset, _, rest = text.partition("'")
    _, quote, encoded = rest.partition("'")
    return _decode_percent(encoded) if quote and charset.lower() in _CHARSETS else None


def _decode_percent(text: str) -> str | None:
    try:
        return go_text(percent_decode(text.encode("latin-1")))
    except (FormatError, UnicodeEncodeError):
        return None
