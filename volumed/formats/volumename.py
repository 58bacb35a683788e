"""Names around a volume: file base name, collection, disk type (docs/spec/storage.md 1.6, 1.7)."""

from __future__ import annotations

from volumed.errors import ClientError, FormatError
from volumed.formats.fileid import parse_volume_id
from volumed.formats.numbers import quote

__all__ = [
    "check_collection",
    "display_disk_type",
    "format_base_name",
    "normalize_disk_type",
    "parse_base_name",
    "require_collection",
]

_HDD = "hdd"


def format_base_name(collection: str, volume_id: int) -> str:
    """File name of a volume without the extension."""
    return f"{collection}_{volume_id}" if collection else str(volume_id)


def parse_base_name(name: str) -> tuple[str, int] | None:
    """(collection, volume id), or None when it is not the base name of a volume."""
    at = name.rfind("_")
    collection, digits = (name[:at], name[at + 1 :]) if at > 0 else ("", name)
    try:
        volume_id = parse_volume_id(digits)
    except FormatError:
        return None
    # DEVIATE: the reference reads `049` as volume 49 and then opens `49.dat`.
    return (collection, volume_id) if format_base_name(collection, volume_id) == name else None


def check_collection(name: str) -> None:
    """Refuse a collection name that would leave the data directory. Raises `FormatError`."""
    # DEVIATE: the reference does not look, and `../x` writes outside.
    if name in (".", "..") or any(char in name for char in "/\\\0"):
        raise FormatError(f"invalid collection {quote(name)}")


def require_collection(actual: str, asked: str) -> None:
    """Refuse a request that names another collection than that of the volume. Raises `ClientError`."""
    if actual != asked:
        raise ClientError(f"existing collection:{actual} unexpected input: {asked}")


def normalize_disk_type(text: str) -> str:
    """The form in messages: lower case, the default type empty."""
    lower = text.lower()
    return "" if lower == _HDD else lower


def display_disk_type(disk_type: str) -> str:
    """The form for people."""
    return disk_type or _HDD
