"""Raw records that come from outside (docs/spec/storage.md 6.5)."""

from __future__ import annotations

from volumed.errors import InvalidBlob
from volumed.formats.needle import HEADER_LENGTH, decode_header, record_length

__all__ = ["check_blob"]


def check_blob(key: int, size: int, blob: bytes, version: int) -> None:
    """Refuse a blob that cannot be a record with S = ``size``. Raises `InvalidBlob`."""
    if size < 0:
        raise InvalidBlob.negative_size(key, size)
    if len(blob) < HEADER_LENGTH:
        raise InvalidBlob.no_header(key, len(blob))
    _, _, header_size = decode_header(blob)
    if header_size != size:
        raise InvalidBlob.other_size(key, size, header_size)
    expected = record_length(size, version)
    if len(blob) != expected:
        raise InvalidBlob.other_length(key, len(blob), expected, size, version)
