"""Quoted-printable parts of forms, decoded as the reference decodes them (http.md 4.2)."""

from __future__ import annotations

import binascii
import re

from volumed.errors import FormatError
from volumed.formats.needle import Buffer
from volumed.formats.numbers import go_text, quote

__all__ = ["LINE_BYTES_MAX", "decode_quoted_printable"]

LINE_BYTES_MAX = 4096
"""COMPAT: a longer line, its end included, is an error."""

_BLANKS = b"\r\n \t"
_UNUSUAL = re.compile(rb"[ \t]\r?(?:\n|\Z)|=(?![0-9A-Fa-f]{2}|\r?\n)|[^\t\r\n -~\x80-\xff]|\r(?!\n)|(?m:^)[^\n]{4096}")
"""What the standard library decodes differently. Long lines are looked for at their beginnings alone."""
_LINE = re.compile(rb"[^\n]*\n|[^\n]+\Z")
"""A carriage return alone ends none."""
_CONTROL = re.compile(rb"[^\t\r\n -~\x80-\xff]")
_ESCAPE = re.compile(rb"=([0-9A-Fa-f]{2})")


def decode_quoted_printable(data: Buffer) -> bytes:
    """Decode whole lines; the last one may lack its end. Raises `FormatError` with the reference's text."""
    text = bytes(data)
    if not _UNUSUAL.search(text):
        return binascii.a2b_qp(text)
    return b"".join(map(_decode_line, _LINE.findall(text)))


def _decode_line(line: bytes) -> bytes:
    if len(line) > LINE_BYTES_MAX:
        raise FormatError("bufio: buffer full")
    kept = line.rstrip(_BLANKS)
    rest = line[len(kept) :]
    end = b"\r\n" if rest.endswith(b"\r\n") else b"\n" if rest.endswith(b"\n") else b""
    if kept.endswith(b"="):
        kept, end = kept[:-1], b""
        if not rest.endswith(b"\n") and (rest or not kept):
            raise FormatError(f"quotedprintable: invalid bytes after =: {quote(go_text(rest))}")
    if bad := _CONTROL.search(kept):
        raise FormatError(f"quotedprintable: invalid unescaped byte 0x{bad[0][0]:02x} in body")
    # COMPAT: an equals sign before anything but two digits stands for itself.
    return _ESCAPE.sub(lambda found: bytes.fromhex(found[1].decode()), kept) + end
