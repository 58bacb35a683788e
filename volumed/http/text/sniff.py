"""Content type from the first bytes of a body (http.md appendix B)."""

from __future__ import annotations

import re

from volumed.formats.needle import Buffer

__all__ = ["SNIFF_BYTES", "sniff"]

SNIFF_BYTES = 512
"""Only this many bytes are looked at."""

_TEXT = b"text/plain; charset=utf-8"
_BINARY = b"application/octet-stream"

_HTML_TAGS = rb"!DOCTYPE HTML|HTML|HEAD|SCRIPT|IFRAME|H1|DIV|FONT|TABLE|A|STYLE|TITLE|B|BODY|BR|P|!--"

_SIGNATURES: tuple[tuple[bytes, bytes], ...] = (
    (rb"[\t\n\f\r ]*<(?i:" + _HTML_TAGS + rb")[ >]", b"text/html; charset=utf-8"),
    (rb"[\t\n\f\r ]*<\?xml", b"text/xml; charset=utf-8"),
    (rb"%PDF-", b"application/pdf"),
    (rb"%!PS-Adobe-", b"application/postscript"),
    # COMPAT: the byte order marks count only in bodies of at least four bytes.
    (rb"\xFE\xFF..", b"text/plain; charset=utf-16be"),
    (rb"\xFF\xFE..", b"text/plain; charset=utf-16le"),
    (rb"\xEF\xBB\xBF.", _TEXT),
    (rb"\x00\x00[\x01\x02]\x00", b"image/x-icon"),
    (rb"BM", b"image/bmp"),
    (rb"GIF8[79]a", b"image/gif"),
    (rb"RIFF.{4}WEBPVP", b"image/webp"),
    (rb"\x89PNG\r\n\x1A\n", b"image/png"),
    (rb"\xFF\xD8\xFF", b"image/jpeg"),
    (rb"FORM.{4}AIFF", b"audio/aiff"),
    (rb"ID3", b"audio/mpeg"),
    (rb"OggS\x00", b"application/ogg"),
    (rb"MThd\x00\x00\x00\x06", b"audio/midi"),
    (rb"RIFF.{4}AVI ", b"video/avi"),
    (rb"RIFF.{4}WAVE", b"audio/wave"),
)
_MP4 = b"video/mp4"
_SIGNATURES_AFTER_MP4: tuple[tuple[bytes, bytes], ...] = (
    (rb"\x1A\x45\xDF\xA3", b"video/webm"),
    (rb".{34}LP", b"application/vnd.ms-fontobject"),
    (rb"\x00\x01\x00\x00", b"font/ttf"),
    (rb"OTTO", b"font/otf"),
    (rb"ttcf", b"font/collection"),
    (rb"wOFF", b"font/woff"),
    (rb"wOF2", b"font/woff2"),
    (rb"\x1F\x8B\x08", b"application/x-gzip"),
    (rb"PK\x03\x04", b"application/zip"),
    (rb"Rar!\x1A\x07(?:\x00|\x01\x00)", b"application/x-rar-compressed"),
    (rb"\x00asm", b"application/wasm"),
)


class _Matcher:
    """Signatures as one expression; the number of the group that matched selects the type."""

    def __init__(self, table: tuple[tuple[bytes, bytes], ...]) -> None:
        self._match = re.compile(b"|".join(b"(" + pattern + b")" for pattern, _ in table), re.DOTALL).match
        self._types = (b"", *(kind for _, kind in table))

    def find(self, head: bytes) -> bytes:
        found = self._match(head)
        return self._types[found.lastindex or 0] if found else b""


_FIRST = _Matcher(_SIGNATURES)
_SECOND = _Matcher(_SIGNATURES_AFTER_MP4)
_FIRST_BYTES = frozenset(b"%c" % byte for byte in b"\t\n\f\r <%\xFE\xFF\xEF\x00BGR\x89FIOM\x1AtwP\x1F")
_TEXT_CONTROLS = b"\t\n\f\r\x1B"
_BINARY_BYTES = bytes(byte for byte in range(0x20) if byte not in _TEXT_CONTROLS)


def sniff(body: Buffer) -> bytes:
    """Content type of a body that starts with `body`; an empty one is text."""
    head = bytes(body[:SNIFF_BYTES])
    # PERF: most bodies start like no signature; the two that begin with any byte are asked for on their own.
    if head[:1] in _FIRST_BYTES or head[4:8] == b"ftyp" or head[34:36] == b"LP":
        kind = _FIRST.find(head) or _sniff_mp4(head) or _SECOND.find(head)
        if kind:
            return kind
    # PERF: a copy without the bytes in question is faster than a search for them.
    return _TEXT if len(head.translate(None, _BINARY_BYTES)) == len(head) else _BINARY


def _sniff_mp4(head: bytes) -> bytes:
    if head[4:8] != b"ftyp":
        return b""
    box_bytes = int.from_bytes(head[:4], "big")
    if len(head) < max(box_bytes, 12) or box_bytes % 4:
        return b""
    # The brands of an ISO `ftyp` box: the major one at 8, its version at 12, then compatible ones.
    brands = (head[at : at + 3] for at in range(8, box_bytes, 4) if at != 12)
    return _MP4 if b"mp4" in brands else b""
