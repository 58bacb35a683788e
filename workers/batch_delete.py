"""Deleting many needles by one call (docs/spec/grpc.md 3.1): what each deletion answers, and in which order."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from volumed.bus.calls import DeleteNeedle, DeletionResults, NeedleDeletion
from volumed.bus.frames import (
    FLAG_META_ONLY,
    READ_NEEDLE,
    STORE_DELETE,
    ReadOperation,
    StoreOperation,
    StoreResult,
)
from volumed.bus.router import Reply
from volumed.errors import CookieMismatch, NeedleNotFound, VolumedError
from volumed.storage.disk import ANY_GENERATION, Disk
from volumed.storage.read_payload import decode_payload, unpack_payload
from workers.host import Shell, Work

__all__ = ["delete_needles"]

_DELETED, _NOTHING_FREED, _BAD_REQUEST, _NOT_FOUND, _MANIFEST, _FAILED = 202, 304, 400, 404, 406, 500
_MANIFEST_TEXT = "ChunkManifest: not allowed in batch delete mode."


def delete_needles(disk: Disk, shell: Shell, needles: Sequence[DeleteNeedle], reply: Reply) -> None:
    """Delete in order and answer the call with one result per needle. Needles are read on a task thread."""
    runs = _distinct_runs(needles)
    results: list[NeedleDeletion] = []

    def next_run() -> None:
        run = next(runs, None)
        if run is None:
            reply.result(DeletionResults(results))
            return

        def checked(checks: list[NeedleDeletion | StoreOperation]) -> None:
            operations = [check for check in checks if isinstance(check, StoreOperation)]

            def stored(outcomes: Sequence[StoreResult]) -> None:
                done = iter(outcomes)
                results.extend(
                    _deletion(next(done)) if isinstance(check, StoreOperation) else check for check in checks
                )
                next_run()

            if operations:
                shell.store(operations, stored)
            else:
                stored(())

        kind = Work.REMOTE if any(_is_distant(disk, needle) for needle in run) else Work.TASK
        shell.in_background(lambda: [_check(disk, needle) for needle in run], checked, reply.error, kind)

    next_run()


def _distinct_runs(needles: Sequence[DeleteNeedle]) -> Iterator[list[DeleteNeedle]]:
    """Cut before each needle that is there already: its check must see that the first one is deleted."""
    run: list[DeleteNeedle] = []
    seen: set[tuple[int, int]] = set()
    for needle in needles:
        name = (needle.volume_id, needle.key)
        if name in seen:
            yield run
            run, seen = [], set()
        run.append(needle)
        seen.add(name)
    if run:
        yield run


def _is_distant(disk: Disk, needle: DeleteNeedle) -> bool:
    volume = disk.volumes.get(needle.volume_id)
    return volume is not None and volume.is_remote


def _check(disk: Disk, needle: DeleteNeedle) -> NeedleDeletion | StoreOperation:
    """The delete to be done, or the result that refuses it. May wait for the disk."""
    checksum = 0
    if needle.cookie is not None:
        read = ReadOperation(0, READ_NEEDLE, FLAG_META_ONLY, needle.volume_id, ANY_GENERATION, needle.key, 0, 0)
        try:
            payload = unpack_payload(disk.read(read))
            # COMPAT: an empty object has no record to compare with and may be deleted with any cookie.
            if payload.size:
                # DEVIATE: the data of a long needle are not read; the reference does not delete one that is damaged.
                found, _ = decode_payload(payload)
                if found.is_expired(time.time_ns()):
                    raise NeedleNotFound
                if found.cookie != needle.cookie:
                    return NeedleDeletion(_BAD_REQUEST, CookieMismatch.on_delete().text)
                if found.is_chunk_manifest:
                    return NeedleDeletion(_MANIFEST, _MANIFEST_TEXT)
                checksum = found.checksum
        except VolumedError as error:
            return NeedleDeletion(_NOT_FOUND, error.text)
    return StoreOperation(
        STORE_DELETE, 0, needle.volume_id, ANY_GENERATION, needle.cookie or 0, needle.key, checksum, 0, b"", 0
    )


def _deletion(result: StoreResult) -> NeedleDeletion:
    if result.error is not None:
        return NeedleDeletion(_FAILED, result.error.text)
    return NeedleDeletion(_DELETED if result.size else _NOTHING_FREED, size=result.size)
