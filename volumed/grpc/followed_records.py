"""From the messages of a tail to records in a volume here (docs/spec/grpc.md 3.24).

Short records are collected and stored many at a time. Of a long one no more is held than a message brings: its data
go to a spool of the worker, as those of a long upload do.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable
from typing import Any

from volumed.bus.calls import Request
from volumed.bus.record_calls import RECORDS_BYTES_TARGET, RECORDS_MAX, ForeignRecord, StoreRecords
from volumed.bus.spool_calls import SPOOL_BLOCK_BYTES_MAX, AppendSpoolData, CloseSpool, OpenSpool, StoreSpool
from volumed.errors import CorruptNeedle, VolumedError
from volumed.formats.checksum import crc32c, matches
from volumed.formats.needle import (
    HEADER_LENGTH,
    decode_body,
    decode_header,
    decode_record,
    encode_body,
    encode_header,
    record_length,
)
from volumed.wire import volume_server_pb2 as pb

__all__ = ["LONG_BYTES_MIN", "FollowedRecords", "LongRecord", "foreign_record"]

LONG_BYTES_MIN = 4 << 20
"""S from which a record goes through a spool."""

_log = logging.getLogger(__name__)

_DEFAULT_VERSION = 3
_LENGTH_PREFIX = 4
_META_BYTES_MAX = 128 << 10
_CHECKSUM_LENGTH = 4
_ANY_GENERATION = 0
_SPOOL_IDS = itertools.count(1)

Ask = Callable[[Request], Any]
"""Result of a call to the worker that has the volume. Raises `VolumedError`."""


class FollowedRecords:
    """Takes messages in order. The methods raise `VolumedError`; then call nothing but `close`."""

    def __init__(self, ask: Ask, volume_id: int, version: int) -> None:
        """``version`` is that of the volume here."""
        self._ask = ask
        self._volume_id = volume_id
        self._version = version
        self._pieces = bytearray()
        self._long: LongRecord | None = None
        self._waiting: list[ForeignRecord] = []
        self._waiting_bytes = 0

    def take(self, message: pb.VolumeTailSenderResponse) -> None:
        """A piece of a record, or, without a header, the news that there is nothing new."""
        if not message.needle_header:
            self.store()
            return
        source_version = message.version or _DEFAULT_VERSION
        if self._long is None and not self._pieces and self._is_long(message.needle_header, source_version):
            self.store()
            self._long = LongRecord(self._ask, self._volume_id, message.needle_header, source_version)
        if self._long is not None:
            self._take_long(self._long, message)
        else:
            self._take_short(message, source_version)

    def store(self) -> None:
        """Store what waits."""
        records, self._waiting, self._waiting_bytes = self._waiting, [], 0
        if records:
            self._ask(StoreRecords(self._volume_id, records, zero_is_any_cookie=True))

    def close(self) -> None:
        """Forget a record that is not complete."""
        if self._long is not None:
            self._long.close()
            self._long = None

    def _is_long(self, header: bytes, source_version: int) -> bool:
        return min(self._version, source_version) > 1 and decode_header(header)[2] >= LONG_BYTES_MIN

    def _take_long(self, record: LongRecord, message: pb.VolumeTailSenderResponse) -> None:
        record.add(message.needle_body)
        if message.is_last_chunk:
            record.store()
            self.close()

    def _take_short(self, message: pb.VolumeTailSenderResponse, source_version: int) -> None:
        self._pieces += message.needle_body
        _, _, size = decode_header(message.needle_header)
        if HEADER_LENGTH + len(self._pieces) > record_length(size, source_version):
            raise CorruptNeedle.eof()
        if not message.is_last_chunk:
            return
        rest, self._pieces = self._pieces, bytearray()
        record = foreign_record(message.needle_header, rest, source_version, self._version)
        self._waiting.append(record)
        self._waiting_bytes += len(record.body)
        if len(self._waiting) >= RECORDS_MAX or self._waiting_bytes >= RECORDS_BYTES_TARGET:
            self.store()


class LongRecord:
    """One record of version 2 or 3 on its way through a spool. The methods raise `VolumedError`."""

    def __init__(self, ask: Ask, volume_id: int, header: bytes, version: int) -> None:
        self._ask = ask
        self._volume_id = volume_id
        self._cookie, self._key, self._size = decode_header(header)
        self._end = record_length(self._size, version) - len(header)
        """Bytes of the record behind its header."""
        self._spool_id = next(_SPOOL_IDS)
        self._spooled = False
        self._prefix = bytearray()
        self._data_left = 0
        self._checksum = 0
        self._suffix = bytearray()
        """Everything behind the data."""

    def add(self, piece: bytes) -> None:
        """The next bytes."""
        rest = memoryview(piece)
        self._end -= len(rest)
        if self._end < 0:
            raise CorruptNeedle.eof()
        if not self._spooled:
            missing = _LENGTH_PREFIX - len(self._prefix)
            self._prefix += rest[:missing]
            rest = rest[missing:]
            if len(self._prefix) < _LENGTH_PREFIX:
                return
            self._open()
        data, behind = rest[: self._data_left], rest[self._data_left :]
        self._data_left -= len(data)
        for at in range(0, len(data), SPOOL_BLOCK_BYTES_MAX):
            block = bytes(data[at : at + SPOOL_BLOCK_BYTES_MAX])
            self._checksum = crc32c(block, self._checksum)
            self._ask(AppendSpoolData(self._spool_id, block))
        self._suffix += behind

    def store(self) -> None:
        """All bytes are there: verify them and put the needle."""
        if self._end:
            raise CorruptNeedle.eof()
        meta_length = self._size - _LENGTH_PREFIX - int.from_bytes(self._prefix, "big")
        meta = bytes(self._suffix[:meta_length])
        stored = int.from_bytes(self._suffix[meta_length : meta_length + _CHECKSUM_LENGTH], "big")
        if not matches(self._checksum, stored):
            raise CorruptNeedle.crc(self._key, self._checksum, stored)
        decode_body(bytes(_LENGTH_PREFIX) + meta, _DEFAULT_VERSION)
        self._ask(
            StoreSpool(
                spool_id=self._spool_id,
                volume_id=self._volume_id,
                generation=_ANY_GENERATION,
                cookie=self._cookie,
                key=self._key,
                checksum=self._checksum,
                prefix=bytes(self._prefix),
                suffix=meta,
            )
        )

    def close(self) -> None:
        """Throw the spool away."""
        if self._spooled:
            self._spooled = False
            try:
                self._ask(CloseSpool(self._spool_id))
            except VolumedError as error:
                _log.info("a spool is left to the worker: %s", error.text)

    def _open(self) -> None:
        data_length = int.from_bytes(self._prefix, "big")
        meta_length = self._size - _LENGTH_PREFIX - data_length
        if not 0 < meta_length <= _META_BYTES_MAX:
            raise CorruptNeedle.out_of_range(1)
        self._ask(OpenSpool(self._spool_id, data_length))
        self._spooled = True
        self._data_left = data_length


def foreign_record(header: bytes, rest: bytearray, source_version: int, version: int) -> ForeignRecord:
    """A record, verified, in the form of ``version``. ``rest`` is what follows the header. Raises `CorruptNeedle`."""
    cookie, key, size = decode_header(header)
    needle = decode_record(header + rest, source_version, size)
    if min(source_version, version) > 1 or source_version == version:
        body = bytes(rest[:size])
    else:
        body = b"".join(map(bytes, encode_body(needle, version)))
    return ForeignRecord(key, encode_header(cookie, key, len(body)), body, needle.checksum)
