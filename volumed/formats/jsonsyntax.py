"""What is wrong with a text that is no JSON, in the words of the reference (http.md 5).

Only error texts come from here: a text that is sound is read by the standard library.
"""

from __future__ import annotations

import re

from volumed.formats.numbers import go_text, quote

__all__ = ["syntax_error"]

_BLANKS = re.compile(rb"[ \t\r\n]*")
_NUMBER = re.compile(rb"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_UNFINISHED_NUMBER = re.compile(rb"-?(?:(?:0|[1-9][0-9]*)(?:\.|(?:\.[0-9]+)?[eE][+-]?))?")
"""The longest start of a number when there is no whole one."""
_PLAIN_TEXT = re.compile(rb'[^"\\\x00-\x1f]*')
_ESCAPE = re.compile(rb'\\(?:["\\/bfnrt]|u[0-9A-Fa-f]{4})')
_ESCAPE_START = re.compile(rb"\\(?:u[0-9A-Fa-f]{0,3})?")
_LITERALS = {b"n": b"null", b"t": b"true", b"f": b"false"}
_DEPTH_MAX = 10_000
_SHOWN_QUOTED = re.compile(r"[`\s\ufffd]")


class _BadSyntax(Exception):
    """Carries the text."""


def syntax_error(raw: bytes) -> str | None:
    """The first error of a JSON text, None when there is none."""
    try:
        _Scanner(raw).check()
    except _BadSyntax as error:
        return str(error)
    return None


class _Scanner:
    """Reads a text once from left to right; nesting is a list, not recursion."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._at = 0
        self._closers: list[bytes] = []

    def check(self) -> None:
        self._value()
        while self._closers:
            self._after_element()
        if self._peek():
            raise self._unexpected("after top-level value")

    def _peek(self) -> bytes:
        """The next byte that is no blank; empty at the end."""
        found = _BLANKS.match(self._raw, self._at)
        self._at = found.end() if found else self._at
        return self._raw[self._at : self._at + 1]

    def _value(self) -> None:
        """One value; of an object or a list that has elements, all up to the first scalar."""
        while True:
            start = self._peek()
            if start not in (b"{", b"["):
                self._scalar(start)
                return
            closer = b"}" if start == b"{" else b"]"
            self._at += 1
            if self._peek() == closer:
                self._at += 1
                return
            self._closers.append(closer)
            if len(self._closers) > _DEPTH_MAX:
                raise _BadSyntax("exceeded max depth")
            if closer == b"}":
                self._key()

    def _after_element(self) -> None:
        closer = self._closers[-1]
        following = self._peek()
        if following not in (b",", closer):
            raise self._unexpected("after object key:value pair" if closer == b"}" else "after array element")
        self._at += 1
        if following == closer:
            self._closers.pop()
            return
        if closer == b"}":
            self._key()
        self._value()

    def _key(self) -> None:
        if self._peek() != b'"':
            raise self._unexpected("looking for beginning of object key string")
        self._string()
        if self._peek() != b":":
            raise self._unexpected("after object key")
        self._at += 1

    def _scalar(self, start: bytes) -> None:
        if start == b'"':
            self._string()
        elif start in _LITERALS:
            self._literal(_LITERALS[start])
        elif start and start in b"-0123456789":
            self._number()
        else:
            raise self._unexpected("looking for beginning of value")

    def _literal(self, word: bytes) -> None:
        for byte in word:
            if self._raw[self._at : self._at + 1] != bytes([byte]):
                raise self._unexpected(f"in literal {word.decode()} (expecting {chr(byte)!r})")
            self._at += 1

    def _number(self) -> None:
        unfinished = _UNFINISHED_NUMBER.match(self._raw, self._at)
        whole = _NUMBER.match(self._raw, self._at)
        ends = [found.end() for found in (whole, unfinished) if found]
        self._at = max(ends)
        if whole is None or whole.end() < self._at:
            raise self._unexpected("in numeric literal")

    def _string(self) -> None:
        self._at += 1
        while True:
            plain = _PLAIN_TEXT.match(self._raw, self._at)
            self._at = plain.end() if plain else self._at
            stopped_by = self._raw[self._at : self._at + 1]
            if stopped_by == b'"':
                self._at += 1
                return
            if stopped_by != b"\\":
                raise self._unexpected("in string")
            escape = _ESCAPE.match(self._raw, self._at)
            if escape is None:
                raise self._bad_escape()
            self._at = escape.end()

    def _bad_escape(self) -> _BadSyntax:
        start = _ESCAPE_START.match(self._raw, self._at)
        if start and start.end() == len(self._raw):
            return self._unexpected("")
        length = 6 if self._raw[self._at + 1 : self._at + 2] == b"u" else 2
        escape = self._raw[self._at : self._at + length].decode("utf-8", "replace")
        plain = escape.isprintable() and not _SHOWN_QUOTED.search(escape)
        shown = f"`{escape}`" if plain else quote(escape)
        return _BadSyntax(f"invalid escape sequence {shown} in string")

    def _unexpected(self, where: str) -> _BadSyntax:
        rest = self._raw[self._at : self._at + 4]
        if not rest:
            return _BadSyntax("unexpected end of JSON input")
        return _BadSyntax(f"invalid character {_quote_first(rest)} {where}")


def _quote_first(raw: bytes) -> str:
    """The first character of a text, quoted as the reference quotes characters."""
    character = go_text(raw)[0]
    if character == '"':
        return "'\"'"
    return r"'\''" if character == "'" else f"'{quote(character)[1:-1]}'"
