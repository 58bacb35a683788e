"""Storing records of other volumes (docs/spec/grpc.md 3.21, 3.24), through the queue of all other writes."""

from __future__ import annotations

from collections.abc import Sequence

from volumed.bus.frames import FLAG_SKIP_COOKIE_CHECK, STORE_PUT, STORE_RECORD, StoreOperation, StoreResult
from volumed.bus.record_calls import ForeignRecord, RecordsStored, StoreRecords
from volumed.bus.router import Reply
from volumed.errors import NodeError
from volumed.formats.needle import decode_header
from volumed.storage.disk import ANY_GENERATION
from workers.host import Shell

__all__ = ["store_records"]


def store_records(shell: Shell, request: StoreRecords, reply: Reply) -> None:
    """Store all and answer the call."""
    operations = [_operation(request, record) for record in request.records]

    def stored(results: Sequence[StoreResult]) -> None:
        error = next((result.error for result in results if result.error), None)
        if error is None:
            reply.result(RecordsStored())
        else:
            reply.error(error)

    if operations:
        shell.store(operations, stored)
    else:
        stored(())


def _operation(request: StoreRecords, record: ForeignRecord) -> StoreOperation:
    cookie, _, size = decode_header(record.header)
    if size != len(record.body):
        raise NodeError(f"record of {size} bytes came with {len(record.body)}")
    volume_id, key, checksum = request.volume_id, record.key, record.checksum
    if size and not request.verbatim:
        flags = FLAG_SKIP_COOKIE_CHECK if request.zero_is_any_cookie else 0
        return StoreOperation(STORE_PUT, flags, volume_id, ANY_GENERATION, cookie, key, checksum, size, record.body, 0)
    body = record.header + record.body
    return StoreOperation(STORE_RECORD, 0, volume_id, ANY_GENERATION, cookie, key, checksum, size, body, 0)
