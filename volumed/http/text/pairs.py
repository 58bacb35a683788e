"""Stored pairs: `Seaweed-*` headers of an upload, kept and given back as headers (http.md 3.5, 4.3)."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from volumed.formats.needle import Buffer
from volumed.formats.numbers import go_bytes, go_text
from volumed.http.text.headertext import canonical_name, clean_value, is_valid_name
from volumed.http.text.jsontext import encode_json

__all__ = ["PAIRS_BYTES_MAX", "collect_pairs", "pairs_to_headers"]

PAIRS_BYTES_MAX = 65535
"""Longer JSON is dropped as a whole: the length field in the record has 16 bits."""

_PREFIX = b"Seaweed-"
# DEVIATE: the reference lets stored pairs break the framing of its own answer.
_FRAMING = frozenset(
    {b"Connection", b"Content-Length", b"Keep-Alive", b"Te", b"Trailer", b"Transfer-Encoding", b"Upgrade"}
)


def collect_pairs(headers: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Sorted JSON of the `Seaweed-*` headers, prefix removed, first value each; empty for none or too many."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name[: len(_PREFIX)].lower() == b"seaweed-":
            found.setdefault(go_text(canonical_name(name)[len(_PREFIX) :]), go_text(value))
    if not found:
        return b""
    encoded = encode_json(found, sort_keys=True)
    return encoded if len(encoded) <= PAIRS_BYTES_MAX else b""


def pairs_to_headers(pairs: Buffer) -> list[tuple[bytes, bytes]]:
    """Headers of a needle's pairs; JSON that is no map of strings gives none, and so does an invalid name."""
    if not pairs:
        return []
    try:
        decoded = msgspec.json.decode(pairs, type=dict[str, str | None])
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    headers = [(canonical_name(go_bytes(name)), go_bytes(value or "")) for name, value in decoded.items()]
    return [
        (name, clean_value(value)) for name, value in headers if is_valid_name(name) and name not in _FRAMING
    ]
