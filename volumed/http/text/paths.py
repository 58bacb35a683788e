"""Request targets and path forms (http.md 1.1 and 2)."""

from __future__ import annotations

import posixpath
import re
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from volumed.errors import FormatError
from volumed.formats.numbers import go_text
from volumed.http.text.mime import extension
from volumed.http.text.query import percent_decode

__all__ = [
    "ParsedPath",
    "decode_path",
    "normalised_path",
    "parse_read_path",
    "parse_write_path",
    "split_target",
]

_UNCLEAN = re.compile(rb"//|/\.{1,2}(?:/|$)")
_ABSOLUTE_FORM = re.compile(rb"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
_VALID_ENCODED = re.compile(rb"[A-Za-z0-9\-_.~!$&'()*+,;=:@\[\]/%]*")
_DEFAULT_SAFE = "$&+,/:;=@~"


class ParsedPath(NamedTuple):
    """The parts of a store path as text; `ext` starts with its dot."""

    vid_text: str
    fid_text: str = ""
    filename: str = ""
    ext: str = ""


def split_target(target: bytes) -> tuple[bytes, bytes]:
    """Raw path and query string of a request target in origin or absolute form."""
    if not target.startswith(b"/") and (authority := _ABSOLUTE_FORM.match(target)):
        target = target[authority.end() :]
    path, _, query = target.partition(b"?")
    # COMPAT: an absolute form without a path is redirected to `/`, as an unclean one.
    return path or b"//", query


def decode_path(raw_path: bytes) -> str:
    """The percent-decoded path. Raises `FormatError` for a bad escape or a path that is not absolute:
    a protocol error, answered 400 as text before any handler."""
    if not raw_path.startswith(b"/"):
        raise FormatError("invalid URI for request")
    return go_text(percent_decode(raw_path))


def normalised_path(raw_path: bytes) -> bytes | None:
    """The path to redirect to with 307, or None when the path is clean (http.md 1.1).

    Works on the encoded path: `%2F` and `%2e` are no separators and no dots here.
    """
    if not _UNCLEAN.search(raw_path):
        return None
    encoded = raw_path
    if not _VALID_ENCODED.fullmatch(raw_path):
        encoded = quote_from_bytes(percent_decode(raw_path), safe=_DEFAULT_SAFE).encode()
    cleaned = posixpath.normpath(b"/" + encoded.lstrip(b"/"))
    if encoded.endswith(b"/") and cleaned != b"/":
        cleaned += b"/"
    return cleaned


def parse_read_path(path: str) -> ParsedPath:
    """Split the decoded path of a GET, HEAD or DELETE (http.md 2).

    Ids are not parsed here. Raises `FormatError` without a text (answered 400 empty) for a comma form
    below other segments or with a dot before the comma.
    """
    slashes = path.count("/")
    if slashes == 3:
        _, vid, fid, filename = path.split("/")
        return ParsedPath(vid, fid, filename, extension(filename))
    if slashes == 2:
        _, vid, fid = path.split("/")
        dot = fid.rfind(".")
        return ParsedPath(vid, fid[:dot], "", fid[dot:]) if dot > 0 else ParsedPath(vid, fid)
    return _parse_comma_form(path, slashes)


def _parse_comma_form(path: str, slashes: int) -> ParsedPath:
    start = path.rfind("/") + 1
    comma = path.rfind(",")
    if comma < start:
        return ParsedPath(path[start:])
    dot = path.rfind(".")
    if slashes > 1 or start <= dot < comma:
        # DEVIATE: the reference's handler crashes here and the client sees the connection drop.
        raise FormatError("")
    if dot < comma:
        return ParsedPath(path[start:comma], path[comma + 1 :])
    return ParsedPath(path[start:comma], path[comma + 1 : dot], "", path[dot:])


def parse_write_path(path: str) -> str:
    """The file id text of a POST or PUT: between the last comma and a later dot.

    COMPAT: without a comma it is the whole path, so that `/vid/fid` cannot be written; errors quote it.
    """
    comma = path.rfind(",")
    dot = path.rfind(".")
    return path[comma + 1 : dot] if dot > comma else path[comma + 1 :]
