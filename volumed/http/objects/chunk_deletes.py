"""Deleting the chunks of a manifest, wherever they are (http.md 5, step 7)."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

from volumed.bus.calls import (
    DeleteAtServer,
    DeleteNeedle,
    DeleteNeedles,
    DeletionResults,
    Location,
    LookupVolume,
    NeedleDeletion,
)
from volumed.errors import ClientError, FormatError, NeedleDeleted, NeedleNotFound, VolumedError
from volumed.formats.fileid import FileId, parse_batch_file_id, parse_volume_id
from volumed.formats.replication import ReplicaPlacement
from volumed.http.objects.node import CALL_TIMEOUT_S, Node, own_address
from volumed.http.rules.manifest import ChunkManifest
from volumed.shards.view import NodeEcVolume

__all__ = ["delete_chunks"]

_BATCH_MAX = 1000
"""Chunks per call: a worker deletes them without doing anything else."""
_GONE_STATUSES = frozenset({202, 304, 404})
"""Results that leave no chunk: deleted, deleted before, never there."""
_ANY_COOKIE = 0

_Errors = dict[str, str]
"""Text by file id."""


class _Target(NamedTuple):
    """Where a volume is."""

    disk_id: int | None
    """None: not here."""
    others: list[Location]
    in_shards: NodeEcVolume | None = None
    """Its shards that are here: those who have the others learn of a deletion by themselves."""


async def delete_chunks(node: Node, manifest: ChunkManifest) -> None:
    """Delete all chunks, without comparing cookies; missing ones are fine. Raises `ClientError` for the first in the
    manifest that cannot be deleted; the others may be gone then."""
    fids = [chunk.fid for chunk in manifest.chunks]
    by_volume: dict[str, list[str]] = defaultdict(list)
    errors: _Errors = {}
    for fid in fids:
        volume, comma, _ = fid.partition(",")
        if comma and volume:
            by_volume[volume].append(fid)
        else:
            errors[fid] = "Wrong fid format."
    found = await asyncio.gather(*[_delete_in_volume(node, *entry) for entry in by_volume.items()])
    for failed in found:
        errors |= failed
    for fid in fids:
        if fid in errors:
            raise ClientError(f"Delete chunks error: chunk delete {fid}: {errors[fid]}")


async def _delete_in_volume(node: Node, volume: str, fids: list[str]) -> _Errors:
    try:
        target = await _find(node, volume)
        errors: _Errors = {}
        for at in range(0, len(fids), _BATCH_MAX):
            errors |= await _delete_batch(node, target, fids[at : at + _BATCH_MAX])
    except VolumedError as error:
        return dict.fromkeys(fids, error.text)
    return errors


async def _find(node: Node, volume: str) -> _Target:
    try:
        volume_id = parse_volume_id(volume)
    except FormatError:
        raise ClientError(f"unknown volume id {volume}") from None
    handle, in_shards = node.view.locate(volume_id), node.shards.find(volume_id)
    # DEVIATE: the reference asks the master even for a volume that can only be here.
    if handle is not None and ReplicaPlacement.from_byte(handle.record.replica_placement).copies == 1:
        return _Target(handle.disk_id, [], in_shards)
    if handle is None and in_shards is not None:
        return _Target(None, [], in_shards)
    try:
        found = await node.supervisor.call(LookupVolume(volume_id), CALL_TIMEOUT_S)
    except VolumedError:
        raise ClientError(f"volume id {volume} not found") from None
    own = own_address(node.config)
    others = [location for location in found.locations if location.url != own]
    return _Target(None if handle is None else handle.disk_id, others, in_shards)


async def _delete_batch(node: Node, target: _Target, fids: Sequence[str]) -> _Errors:
    work = [_delete_at(node, location, fids) for location in target.others]
    if target.disk_id is not None:
        work.append(_delete_here(node, target.disk_id, fids))
    if target.in_shards is not None:
        work.append(_delete_in_shards(node, target.in_shards, fids))
    errors: _Errors = {}
    for failed in await asyncio.gather(*work):
        errors |= failed
    return errors


async def _delete_here(node: Node, disk_id: int, fids: Sequence[str]) -> _Errors:
    parsed, errors = _parse(fids)
    needles = [DeleteNeedle(found.volume_id, found.key, None) for found in parsed.values()]
    answer: DeletionResults = await node.link(disk_id).call(DeleteNeedles(needles), CALL_TIMEOUT_S)
    return errors | _failed(list(parsed), answer.results)


async def _delete_in_shards(node: Node, volume: NodeEcVolume, fids: Sequence[str]) -> _Errors:
    parsed, errors = _parse(fids)
    for fid, found in parsed.items():
        try:
            await node.shards.delete(volume, found.key, _ANY_COOKIE)
        except (NeedleDeleted, NeedleNotFound):
            continue
        except VolumedError as error:
            errors[fid] = error.text
    return errors


def _parse(fids: Sequence[str]) -> tuple[dict[str, FileId], _Errors]:
    parsed: dict[str, FileId] = {}
    errors: _Errors = {}
    for fid in fids:
        try:
            # COMPAT: `_<n>` is not understood where cookies are not compared.
            parsed[fid] = parse_batch_file_id(fid, with_delta=False)
        except FormatError as error:
            errors[fid] = error.text
    return parsed, errors


async def _delete_at(node: Node, location: Location, fids: Sequence[str]) -> _Errors:
    call = DeleteAtServer(location.url, location.grpc_port, list(fids))
    answer: DeletionResults = await node.supervisor.call(call, CALL_TIMEOUT_S)
    return _failed(fids, answer.results)


def _failed(fids: Sequence[str], results: Sequence[NeedleDeletion]) -> _Errors:
    return {fid: result.error for fid, result in zip(fids, results, strict=True) if result.status not in _GONE_STATUSES}
