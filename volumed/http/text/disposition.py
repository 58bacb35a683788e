"""Content-Disposition: written for reads (http.md 3.6), read for raw uploads (http.md 4.2)."""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes

from volumed.errors import FormatError
from volumed.formats.numbers import go_text
from volumed.http.text.mediatype import parse_media_type

__all__ = ["base_name", "content_disposition", "raw_upload_name"]

_TOKEN = re.compile(rb"[!#$%&'*+\-.0-9A-Z^_`a-z{|}~]+")
_QUOTABLE = re.compile(rb"[\t -~]*")
_EXTENDED_SAFE = "!#$&+^`{|}"
"""Kept as they are in `filename*` besides letters, digits and `-._~`."""


def content_disposition(filename: bytes, attachment: bool = False) -> bytes:
    """Header value that names a file, in the simplest of the three encodings that can carry the name."""
    kind = b"attachment" if attachment else b"inline"
    if _TOKEN.fullmatch(filename):
        return b"%b; filename=%b" % (kind, filename)
    if _QUOTABLE.fullmatch(filename):
        escaped = filename.replace(b"\\", b"\\\\").replace(b'"', b'\\"')
        return b'%b; filename="%b"' % (kind, escaped)
    return b"%b; filename*=utf-8''%b" % (kind, quote_from_bytes(filename, safe=_EXTENDED_SAFE).encode())


def raw_upload_name(disposition: bytes | None, path: str) -> str:
    """Name of a raw upload, before `base_name`: from its Content-Disposition, else from the decoded path."""
    return _disposition_name(go_text(disposition or b"")) or path.rpartition("/")[2]


def _disposition_name(text: str) -> str:
    # COMPAT: `filename*=` alone has no `name=` in it and is not looked at.
    if "name=" not in text:
        return ""
    if not text.startswith(("inline", "attachment")):
        text = "attachment; " + text
    try:
        _, parameters = parse_media_type(text)
    except FormatError:
        return ""
    return parameters.get("filename", parameters.get("name", ""))


def base_name(name: str) -> str:
    """Last path element of a name; a backslash separates too. Empty stays empty, `/` stays `/`."""
    slashed = name.replace("\\", "/")
    return slashed.rstrip("/").rpartition("/")[2] or slashed[:1]
