"""Frames of the bus between fronts and a disk's worker (and, for calls, the supervisor).

One ZeroMQ frame per message each way, little-endian, no padding. The first byte is the kind:

====  ===========================  ==========================================================================
kind  direction                    content after the kind byte
====  ===========================  ==========================================================================
``H`` front → worker               UTF-8 path of the front's body pool; sent first on each new socket
``S`` front → worker               batch u32, count u16, then per needle one operation (``pack_put`` ...)
``s`` worker → front               batch u32, count u16, then per operation in order: one result
``R`` front → worker               count u16, then per read: request id u32 and one read operation
``r`` worker → front               count u16, then per finished read: request id u32, status u8, length u32, payload
``C`` caller → worker/supervisor   call id u32, msgpack of one struct of ``volumed.bus.calls``
``c`` worker/supervisor → caller   call id u32, status u8, msgpack of the result, or of the error triple
``E`` worker ↔ supervisor          msgpack of one struct of ``volumed.bus.events``; no answer
====  ===========================  ==========================================================================

A store batch is answered as a whole and a front has at most one in flight per worker (natural batching); reads
are answered one by one as they finish, since one of them may wait for a cold disk.

A needle body travels inline, or, from ``SHARED_BODY_BYTES_MIN`` up, by reference: an offset into the front's body
pool, which the worker maps read-only. The front leaves those bytes alone until the batch is answered or the worker
that had them is gone.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from volumed.errors import VolumedError

__all__ = [
    "BATCH_BODIES_BYTES_MAX",
    "BATCH_BYTES_MAX",
    "BATCH_OPERATIONS_MAX",
    "CALL",
    "CALL_REPLY",
    "EVENT",
    "FLAG_FSYNC",
    "FLAG_META_ONLY",
    "FLAG_READ_DELETED",
    "FLAG_SKIP_COOKIE_CHECK",
    "HELLO",
    "READ",
    "READ_NEEDLE",
    "READ_RANGE",
    "READ_REPLY",
    "SHARED_BODY_BYTES_MIN",
    "STATUS_ERROR",
    "STATUS_OK",
    "STORE",
    "STORE_DELETE",
    "STORE_PUT",
    "STORE_PUT_SHARED",
    "STORE_RECORD",
    "STORE_REPLY",
    "FrameError",
    "ReadOperation",
    "StoreOperation",
    "StoreOutcome",
    "StoreResult",
    "decode_error",
    "encode_error",
    "pack_call",
    "pack_call_reply",
    "pack_delete",
    "pack_event",
    "pack_hello",
    "pack_put",
    "pack_put_shared",
    "pack_read",
    "pack_read_batch",
    "pack_read_replies",
    "pack_store_batch",
    "pack_store_reply",
    "parse_call",
    "parse_call_reply",
    "parse_hello",
    "parse_read_batch",
    "parse_read_replies",
    "parse_store_batch",
    "parse_store_reply",
]

HELLO, STORE, STORE_REPLY = ord("H"), ord("S"), ord("s")
READ, READ_REPLY = ord("R"), ord("r")
CALL, CALL_REPLY = ord("C"), ord("c")
EVENT = ord("E")

SHARED_BODY_BYTES_MIN = 128 << 10
BATCH_BYTES_MAX = 1 << 20
BATCH_OPERATIONS_MAX = 1024
BATCH_BODIES_BYTES_MAX = 16 << 20
"""Shared bodies of one batch: the worker's loop answers nobody while it writes them."""

STORE_PUT, STORE_PUT_SHARED, STORE_DELETE = 1, 2, 3
STORE_RECORD = 4
"""Inside a worker only."""
READ_NEEDLE, READ_RANGE = 1, 2

FLAG_FSYNC = 1
FLAG_SKIP_COOKIE_CHECK = 2
FLAG_READ_DELETED = 1
FLAG_META_ONLY = 2
"""Needle read: for S above the paged-read limit return header and metadata only (storage.md 3.7)."""

STATUS_OK, STATUS_ERROR = 0, 1

_BATCH = struct.Struct("<BIH")
_STORE_OP = struct.Struct("<BBHIIIQII")
_SHARED_AT = struct.Struct("<Q")
_RESULT = struct.Struct("<BI")
_LENGTH = struct.Struct("<H")
_READ_HEAD = struct.Struct("<BH")
_READ_OP = struct.Struct("<IBBHIIQqI")
_READ_RESULT = struct.Struct("<IBI")
_CALL = struct.Struct("<BI")
_CALL_REPLY = struct.Struct("<BIB")


class FrameError(ValueError):
    """A frame that no peer of this node can have sent: a bug, never a client's fault."""


class StoreOperation(NamedTuple):
    """One put or delete as the worker sees it. ``body`` is the needle body (``size`` bytes, storage.md 3.2);
    for a shared body it is still the offset into the sender's pool (``shared_at``), for a record of another volume
    the record without its footer."""

    kind: int
    flags: int
    volume_id: int
    generation: int
    cookie: int
    key: int
    checksum: int
    size: int
    body: memoryview | bytes
    shared_at: int


class StoreOutcome:
    """First byte of a store result."""

    STORED = 0
    UNCHANGED = 1
    DELETED = 2
    ERROR = 3


class StoreResult(NamedTuple):
    """Result of one operation; ``size`` is the needle's S (the freed S for a delete, 0 when nothing was live)."""

    outcome: int
    size: int
    error: VolumedError | None = None


class ReadOperation(NamedTuple):
    """One read. ``READ_NEEDLE`` looks ``key`` up; ``READ_RANGE`` reads ``length`` bytes of ``.dat`` at ``offset``
    of the given generation."""

    request_id: int
    kind: int
    flags: int
    volume_id: int
    generation: int
    key: int
    offset: int
    length: int


def encode_error(error: VolumedError) -> bytes:
    """Wire form of a domain error."""
    return msgspec.msgpack.encode(error.to_wire())


def decode_error(payload: bytes | memoryview) -> VolumedError:
    """The domain error that ``encode_error`` wrote."""
    return VolumedError.from_wire(*msgspec.msgpack.decode(payload))


def pack_hello(pool_path: str) -> bytes:
    """First frame on a new socket: where the sender's body pool is."""
    return bytes((HELLO,)) + os.fsencode(pool_path)


def parse_hello(frame: memoryview) -> str:
    """The pool path of a hello frame."""
    return os.fsdecode(bytes(frame[1:]))


def pack_event(event: msgspec.Struct) -> bytes:
    """One event; the receiver decodes ``frame[1:]`` by its union of ``volumed.bus.events``."""
    return bytes((EVENT,)) + msgspec.msgpack.encode(event)


def pack_put(
    volume_id: int, generation: int, cookie: int, key: int, checksum: int, body: bytes, flags: int = 0
) -> bytes:
    """One put with its body inline."""
    return _STORE_OP.pack(STORE_PUT, flags, 0, volume_id, generation, cookie, key, checksum, len(body)) + body


def pack_put_shared(
    volume_id: int,
    generation: int,
    cookie: int,
    key: int,
    checksum: int,
    size: int,
    shared_at: int,
    flags: int = 0,
) -> bytes:
    """One put whose body of ``size`` bytes lies at ``shared_at`` of the sender's body pool."""
    head = _STORE_OP.pack(STORE_PUT_SHARED, flags, 0, volume_id, generation, cookie, key, checksum, size)
    return head + _SHARED_AT.pack(shared_at)


def pack_delete(volume_id: int, generation: int, cookie: int, key: int, checksum: int, flags: int = 0) -> bytes:
    """One delete; ``cookie`` and ``checksum`` go into the tombstone record (storage.md 3.5)."""
    return _STORE_OP.pack(STORE_DELETE, flags, 0, volume_id, generation, cookie, key, checksum, 0)


def pack_store_batch(batch: int, operations: Sequence[bytes]) -> bytes:
    """Store frame of packed operations."""
    return b"".join((_BATCH.pack(STORE, batch, len(operations)), *operations))


def parse_store_batch(frame: memoryview) -> tuple[int, list[StoreOperation]]:
    """Batch number and operations of a store frame; bodies are views into ``frame``."""
    try:
        _, batch, count = _BATCH.unpack_from(frame)
        at = _BATCH.size
        operations = []
        for _ in range(count):
            kind, flags, _, volume, generation, cookie, key, checksum, size = _STORE_OP.unpack_from(frame, at)
            at += _STORE_OP.size
            body: memoryview | bytes = b""
            shared_at = 0
            if kind == STORE_PUT:
                body = frame[at : at + size]
                at += size
            elif kind == STORE_PUT_SHARED:
                (shared_at,) = _SHARED_AT.unpack_from(frame, at)
                at += _SHARED_AT.size
            operations.append(
                StoreOperation(kind, flags, volume, generation, cookie, key, checksum, size, body, shared_at)
            )
    except struct.error as error:
        raise FrameError("store batch ends early") from error
    if at != len(frame):
        raise FrameError(f"store batch of {count} operations has {len(frame)} bytes, expected {at}")
    return batch, operations


def pack_store_reply(batch: int, results: Sequence[StoreResult]) -> bytes:
    """Answer to a whole store batch, results in the order of its operations."""
    parts = [_BATCH.pack(STORE_REPLY, batch, len(results))]
    for outcome, size, error in results:
        parts.append(_RESULT.pack(outcome, size))
        if error is not None:
            payload = encode_error(error)
            parts.append(_LENGTH.pack(len(payload)))
            parts.append(payload)
    return b"".join(parts)


def parse_store_reply(frame: memoryview) -> tuple[int, list[StoreResult]]:
    """Batch number and results of a store reply."""
    _, batch, count = _BATCH.unpack_from(frame)
    at = _BATCH.size
    results = []
    for _ in range(count):
        outcome, size = _RESULT.unpack_from(frame, at)
        at += _RESULT.size
        error = None
        if outcome == StoreOutcome.ERROR:
            (length,) = _LENGTH.unpack_from(frame, at)
            at += _LENGTH.size
            error = decode_error(frame[at : at + length])
            at += length
        results.append(StoreResult(outcome, size, error))
    return batch, results


def pack_read(operation: ReadOperation) -> bytes:
    """One read operation."""
    request_id, kind, flags, volume, generation, key, offset, length = operation
    return _READ_OP.pack(request_id, kind, flags, 0, volume, generation, key, offset, length)


def pack_read_batch(operations: Sequence[bytes]) -> bytes:
    """Read frame of packed operations."""
    return b"".join((_READ_HEAD.pack(READ, len(operations)), *operations))


def parse_read_batch(frame: memoryview) -> list[ReadOperation]:
    """Operations of a read frame."""
    try:
        _, count = _READ_HEAD.unpack_from(frame)
        operations = []
        for index in range(count):
            fields = _READ_OP.unpack_from(frame, _READ_HEAD.size + index * _READ_OP.size)
            operations.append(ReadOperation(*fields[:3], *fields[4:]))
        return operations
    except struct.error as error:
        raise FrameError("read batch ends early") from error


def pack_read_replies(replies: Sequence[tuple[int, int, bytes | bytearray]]) -> bytes:
    """Reply frame for finished reads: (request id, status, payload) each."""
    parts: list[bytes | bytearray] = [_READ_HEAD.pack(READ_REPLY, len(replies))]
    for request_id, status, payload in replies:
        parts.append(_READ_RESULT.pack(request_id, status, len(payload)))
        parts.append(payload)
    return b"".join(parts)


def parse_read_replies(frame: memoryview) -> list[tuple[int, int, memoryview]]:
    """Finished reads of a reply frame; payloads are views into ``frame``."""
    _, count = _READ_HEAD.unpack_from(frame)
    at = _READ_HEAD.size
    replies = []
    for _ in range(count):
        request_id, status, length = _READ_RESULT.unpack_from(frame, at)
        at += _READ_RESULT.size
        replies.append((request_id, status, frame[at : at + length]))
        at += length
    return replies


def pack_call(call_id: int, request: msgspec.Struct) -> bytes:
    """Call frame."""
    return _CALL.pack(CALL, call_id) + msgspec.msgpack.encode(request)


def parse_call(frame: memoryview) -> tuple[int, memoryview]:
    """Call id and msgpack payload."""
    try:
        _, call_id = _CALL.unpack_from(frame)
    except struct.error as error:
        raise FrameError("call ends early") from error
    return call_id, frame[_CALL.size :]


def pack_call_reply(call_id: int, status: int, payload: bytes) -> bytes:
    """Reply to a call; ``payload`` is the msgpack of the result or an ``encode_error``."""
    return _CALL_REPLY.pack(CALL_REPLY, call_id, status) + payload


def parse_call_reply(frame: memoryview) -> tuple[int, int, memoryview]:
    """Call id, status and payload of a reply."""
    _, call_id, status = _CALL_REPLY.unpack_from(frame)
    return call_id, status, frame[_CALL_REPLY.size :]
