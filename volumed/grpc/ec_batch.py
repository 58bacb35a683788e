"""Needles of erasure coded volumes in a BatchDelete (docs/spec/erasure-coding.md 5.13)."""

from __future__ import annotations

from volumed.bus.calls import NeedleDeletion
from volumed.erasure.errors import NoSuchEcNeedle
from volumed.errors import CookieMismatch, NeedleDeleted, VolumedError
from volumed.shards.node import NodeShards
from volumed.shards.view import NodeEcVolume

__all__ = ["delete_in_shards"]

_DELETED, _NOTHING_FREED, _BAD_REQUEST, _NOT_FOUND, _MANIFEST, _FAILED = 202, 304, 400, 404, 406, 500
_MANIFEST_TEXT = "ChunkManifest: not allowed in batch delete mode."


def delete_in_shards(shards: NodeShards, volume: NodeEcVolume, key: int, cookie: int | None) -> NeedleDeletion:
    """Delete one needle; without a cookie none is compared."""
    try:
        stored = shards.read(volume, key, cookie)
    except (NeedleDeleted, NoSuchEcNeedle) as error:
        return _delete_beside(shards, volume, key, cookie) or _refusal(error, cookie)
    except VolumedError as error:
        return _refusal(error, cookie)
    if cookie is not None and stored.needle.cookie != cookie:
        return NeedleDeletion(_BAD_REQUEST, CookieMismatch.on_delete().text)
    if cookie is not None and stored.needle.is_chunk_manifest:
        return NeedleDeletion(_MANIFEST, _MANIFEST_TEXT)
    try:
        return NeedleDeletion(_DELETED, size=shards.delete_found(stored))
    except VolumedError as error:
        return NeedleDeletion(_FAILED, error.text)


def _delete_beside(shards: NodeShards, volume: NodeEcVolume, key: int, cookie: int | None) -> NeedleDeletion | None:
    """In the normal volume of the id; None when there is nothing to delete."""
    try:
        size = shards.delete_beside(volume.volume_id, key, cookie)
    except VolumedError as error:
        return NeedleDeletion(_FAILED, error.text)
    return None if size is None else NeedleDeletion(_DELETED, size=size)


def _refusal(error: VolumedError, cookie: int | None) -> NeedleDeletion:
    if cookie is not None:
        return NeedleDeletion(_NOT_FOUND, error.text)
    return NeedleDeletion(_NOTHING_FREED) if isinstance(error, NeedleDeleted) else NeedleDeletion(_FAILED, error.text)
