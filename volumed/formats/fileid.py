"""Volume ids and file ids in text (docs/spec/storage.md 1.1 to 1.3)."""

from __future__ import annotations

import re
from dataclasses import dataclass

from volumed.errors import FormatError
from volumed.formats.numbers import go_bytes, go_text, parse_uint

__all__ = [
    "FileId",
    "format_file_id",
    "format_key_cookie",
    "parse_batch_file_id",
    "parse_key_cookie",
    "parse_volume_id",
]

_COOKIE_DIGITS = 8
_BASE_DIGITS_MAX = 24
_PLAIN = re.compile("([0-9a-fA-F]{1,16})([0-9a-fA-F]{8})")
_PLAIN_VOLUME = re.compile("[0-9]{1,9}")
_KEY_MAX = (1 << 64) - 1
_VOLUME_MASK = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class FileId:
    """`<vid>,<key><cookie>`: volume id (32 bits), needle key (64), cookie (32)."""

    volume_id: int
    key: int
    cookie: int

    def __str__(self) -> str:
        return format_file_id(self.volume_id, self.key, self.cookie)


def parse_volume_id(text: str) -> int:
    """A decimal volume id. Raises `FormatError`."""
    if _PLAIN_VOLUME.fullmatch(text):
        return int(text)
    # COMPAT: 64 bits are read and the low 32 kept, so 4294967297 is volume 1.
    return parse_uint(text) & _VOLUME_MASK


def parse_key_cookie(text: str, *, with_delta: bool = True) -> tuple[int, int]:
    """(key, cookie) of the part after the comma; `<base>_<n>` means the key of the base plus n.

    Raises `FormatError`. Without `with_delta` (a batch delete that skips the cookie check) the suffix form is
    not understood.
    """
    # PERF: nearly every id has the plain form, and one match tells; the rest finds the error in the others.
    if match := _PLAIN.fullmatch(text):
        key, cookie = match.groups()
        return int(key, 16), int(cookie, 16)
    return _parse_with_delta(go_bytes(text)) if with_delta else _parse_base(go_bytes(text))


def _parse_with_delta(raw: bytes) -> tuple[int, int]:
    if len(raw) <= _COOKIE_DIGITS:
        raise FormatError(f"Invalid fid: {go_text(raw)}")
    at = raw.rfind(b"_")
    base, suffix = (raw[:at], raw[at + 1 :]) if at > 0 else (raw, b"")
    key, cookie = _parse_base(base)
    if not suffix:
        return key, cookie
    delta = parse_uint(go_text(suffix))
    if key + delta > _KEY_MAX:
        # COMPAT: the reference prints the hex text of the key once more as hex.
        raise FormatError(f"delta {delta} overflows needle id {f'{key:x}'.encode().hex()}")
    return key + delta, cookie


def _parse_base(raw: bytes) -> tuple[int, int]:
    if len(raw) <= _COOKIE_DIGITS:
        raise FormatError("KeyHash is too short.")
    if len(raw) > _BASE_DIGITS_MAX:
        raise FormatError("KeyHash is too long.")
    key = _parse_hex(raw[:-_COOKIE_DIGITS], 64, "Parse needleId error: needle id")
    return key, _parse_hex(raw[-_COOKIE_DIGITS:], 32, "Parse cookie error: needle cookie")


def _parse_hex(raw: bytes, bits: int, what: str) -> int:
    text = go_text(raw)
    try:
        return parse_uint(text, bits, 16)
    except FormatError as error:
        raise FormatError(f"{what} {text} format error: {error.text}") from None


def parse_batch_file_id(text: str, *, with_delta: bool = True) -> FileId:
    """A whole file id by the rules of the gRPC batch delete (1.3). Raises `FormatError`."""
    volume, comma, key_cookie = text.partition(",")
    if not comma or not volume:
        raise FormatError("Wrong fid format.")
    key, cookie = parse_key_cookie(key_cookie, with_delta=with_delta)
    try:
        volume_id = parse_volume_id(volume)
    except FormatError:
        # COMPAT: no error here but volume 0, which then is `not found`; callers compare that text.
        volume_id = 0
    return FileId(volume_id, key, cookie)


def format_key_cookie(key: int, cookie: int) -> str:
    """Lower-case hex, without the key's leading zero bytes; key 0 leaves the cookie alone."""
    digits = f"{key:x}" if key else ""
    return f"{'0' * (len(digits) % 2)}{digits}{cookie:08x}"


def format_file_id(volume_id: int, key: int, cookie: int) -> str:
    """`<vid>,<key><cookie>`."""
    return f"{volume_id},{format_key_cookie(key, cookie)}"
