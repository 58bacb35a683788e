"""JSON values as they stand in a text, found without building anything (docs/spec/grpc.md 3.30).

Nothing is checked: what is no JSON is skipped, what is cut short ends with the text. A value is the piece of text that
it takes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

__all__ = ["elements", "members", "number_of", "text_of", "values"]

_START = re.compile(rb'[{\["tfniIN+\-0-9]')
_KEY_OR_END = re.compile(rb'["}]')
_START_OR_END = re.compile(rb'[{\["tfniIN+\-0-9\]]')
_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_TOKEN = re.compile(rb'[{}\[\]]|"(?:[^"\\]++|\\.)*+"?', re.DOTALL)
_LITERAL = re.compile(rb"[a-z]*")
_NUMBER = re.compile(rb"[^\x00-\x20,\]}]*")
_FLOAT = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NAMED_FLOAT = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE)


def values(text: bytes) -> Iterator[bytes]:
    """All values, one after the other, whatever stands between them."""
    at = 0
    while start := _START.search(text, at):
        at = _end(text, start.start())
        yield text[start.start() : at]


def members(value: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Names, without quotes and escapes, and values of an object."""
    at = 1
    while (found := _KEY_OR_END.search(value, at)) and found[0] == b'"':
        key_end = _end(value, found.start())
        start = _START.search(value, key_end)
        if start is None:
            return
        at = _end(value, start.start())
        yield text_of(value[found.start() : key_end]), value[start.start() : at]


def elements(value: bytes) -> Iterator[bytes]:
    """Values of an array."""
    at = 1
    while (found := _START_OR_END.search(value, at)) and found[0] != b"]":
        at = _end(value, found.start())
        yield value[found.start() : at]


def text_of(quoted: bytes) -> bytes:
    """What a string says, as UTF-8."""
    plain = quoted.removeprefix(b'"').removesuffix(b'"')
    if b"\\" not in plain:
        return plain
    try:
        text: str = json.loads(b'"%b"' % plain, strict=False)
    except ValueError:
        return plain
    # Half a surrogate pair is no character.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace").encode()


def number_of(text: str) -> float:
    """What a number says; 0 when it is none."""
    if _FLOAT.fullmatch(text):
        return float(text)
    if _NAMED_FLOAT.fullmatch(text):
        return float(text)
    return 0.0


def _end(text: bytes, start: int) -> int:
    """Where the value that starts there ends."""
    first = text[start : start + 1]
    if first in b"{[":
        return _end_of_nested(text, start)
    if first == b'"':
        pattern = _STRING
    elif first in b"tf" or (first == b"n" and text[start + 1 : start + 2] in (b"u", b"")):
        pattern = _LITERAL
    else:
        pattern = _NUMBER
    found = pattern.match(text, start)
    return len(text) if found is None else max(found.end(), start + 1)


def _end_of_nested(text: bytes, start: int) -> int:
    depth = 0
    for token in _TOKEN.finditer(text, start):
        kind = token[0][:1]
        if kind in b"{[":
            depth += 1
        elif kind in b"}]":
            depth -= 1
            if not depth:
                return token.end()
    return len(text)
