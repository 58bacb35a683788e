"""Numbers in text, read the way the reference's language reads them, with its error texts.

Lengths and positions there are those of UTF-8 bytes, and a quoted string in an error text escapes what cannot
be printed. Text that came in as bytes which are not UTF-8 is expected to carry them as surrogate escapes.
"""

from __future__ import annotations

import re

from volumed.errors import FormatError

__all__ = ["atoi", "go_bytes", "go_text", "parse_uint", "quote"]

_DIGITS = {10: re.compile("[0-9]*"), 16: re.compile("[0-9a-fA-F]*")}
_DIGITS_MAX = 20
"""No 64-bit number has more significant digits; longer ones are out of range without being computed."""

_ESCAPES = {
    "\a": r"\a",
    "\b": r"\b",
    "\f": r"\f",
    "\n": r"\n",
    "\r": r"\r",
    "\t": r"\t",
    "\v": r"\v",
    "\\": r"\\",
    '"': r"\"",
}


def go_bytes(text: str) -> bytes:
    """The bytes that the text came from."""
    return text.encode("utf-8", "surrogateescape")


def go_text(raw: bytes) -> str:
    """The inverse of `go_bytes`."""
    return raw.decode("utf-8", "surrogateescape")


def quote(text: str) -> str:
    """The text in double quotes, with escapes for what cannot be printed (as `%q` does)."""
    return '"' + "".join(map(_escape, text)) + '"'


def _escape(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable():
        return char
    point = ord(char)
    if 0xDC80 <= point <= 0xDCFF:
        return f"\\x{point - 0xDC00:02x}"
    if point < 0x20 or point == 0x7F:
        return f"\\x{point:02x}"
    return f"\\u{point:04x}" if point < 0x10000 else f"\\U{point:08x}"


def parse_uint(text: str, bits: int = 64, base: int = 10) -> int:
    """An unsigned number of at most `bits` bits in base 10 or 16: digits only. Raises `FormatError`."""
    value = _leading_digits(text, base, (1 << bits) - 1)
    if value is None:
        raise _error("ParseUint", text, in_range=False)
    if not _DIGITS[base].fullmatch(text) or not text:
        raise _error("ParseUint", text, in_range=True)
    return value


def atoi(text: str) -> int:
    """A signed 64-bit decimal number: optional sign, then digits. Raises `FormatError`."""
    negative = text.startswith("-")
    digits = text[1:] if text.startswith(("-", "+")) else text
    value = _leading_digits(digits, 10, 1 << 63 if negative else (1 << 63) - 1)
    if value is None:
        raise _error("Atoi", text, in_range=False)
    if not _DIGITS[10].fullmatch(digits) or not digits:
        raise _error("Atoi", text, in_range=True)
    return -value if negative else value


def _leading_digits(text: str, base: int, limit: int) -> int | None:
    """The number that `text` starts with; None when it exceeds `limit`, whatever follows the digits."""
    match = _DIGITS[base].match(text)
    digits = match.group().lstrip("0") if match else ""
    if len(digits) > _DIGITS_MAX:
        return None
    value = int(digits or "0", base)
    return value if value <= limit else None


def _error(function: str, text: str, *, in_range: bool) -> FormatError:
    reason = "invalid syntax" if in_range else "value out of range"
    return FormatError(f"strconv.{function}: parsing {quote(text)}: {reason}")
