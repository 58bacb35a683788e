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
from volumed.errors import ClientError, FormatError, VolumedError
from volumed.formats.fileid import parse_batch_file_id, parse_volume_id
from volumed.formats.replication import ReplicaPlacement
from volumed.http.objects.node import CALL_TIMEOUT_S, Node, own_address
from volumed.http.rules.manifest import ChunkManifest

__all__ = ["delete_chunks"]

_BATCH_MAX = 1000
"""Chunks per call: a worker deletes them without doing anything else."""
_GONE_STATUSES = frozenset({202, 304, 404})
"""Results that leave no chunk: deleted, deleted before, never there."""

_Errors = dict[str, str]
"""Text by file id."""


class _Target(NamedTuple):
    """Where a volume is."""

    disk_id: int | None
    """None: not here."""
    others: list[Location]


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
    handle = node.view.locate(volume_id)
    # DEVIATE: the reference asks the master even for a volume that can only be here.
    if handle is not None and ReplicaPlacement.from_byte(handle.record.replica_placement).copies == 1:
        return _Target(handle.disk_id, [])
    try:
        found = await node.supervisor.call(LookupVolume(volume_id), CALL_TIMEOUT_S)
    except VolumedError:
        raise ClientError(f"volume id {volume} not found") from None
    own = own_address(node.config)
    others = [location for location in found.locations if location.url != own]
    return _Target(None if handle is None else handle.disk_id, others)


async def _delete_batch(node: Node, target: _Target, fids: Sequence[str]) -> _Errors:
    work = [_delete_at(node, location, fids) for location in target.others]
    if target.disk_id is not None:
        work.append(_delete_here(node, target.disk_id, fids))
    errors: _Errors = {}
    for failed in await asyncio.gather(*work):
        errors |= failed
    return errors


async def _delete_here(node: Node, disk_id: int, fids: Sequence[str]) -> _Errors:
    errors: _Errors = {}
    needles: list[DeleteNeedle] = []
    parsed: list[str] = []
    for fid in fids:
        try:
            # COMPAT: `_<n>` is not understood where cookies are not compared.
            found = parse_batch_file_id(fid, with_delta=False)
        except FormatError as error:
            errors[fid] = error.text
            continue
        needles.append(DeleteNeedle(found.volume_id, found.key, None))
        parsed.append(fid)
    answer: DeletionResults = await node.link(disk_id).call(DeleteNeedles(needles), CALL_TIMEOUT_S)
    return errors | _failed(parsed, answer.results)


async def _delete_at(node: Node, location: Location, fids: Sequence[str]) -> _Errors:
    call = DeleteAtServer(location.url, location.grpc_port, list(fids))
    answer: DeletionResults = await node.supervisor.call(call, CALL_TIMEOUT_S)
    return _failed(fids, answer.results)


def _failed(fids: Sequence[str], results: Sequence[NeedleDeletion]) -> _Errors:
    return {fid: result.error for fid, result in zip(fids, results, strict=True) if result.status not in _GONE_STATUSES}
