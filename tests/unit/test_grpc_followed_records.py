"""From the messages of a tail to calls to the worker: pieces, batches, long records, what cannot be right."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from volumed.bus.calls import Request
from volumed.bus.record_calls import RECORDS_MAX, StoreRecords
from volumed.bus.spool_calls import AppendSpoolData, CloseSpool, OpenSpool, StoreSpool
from volumed.errors import CorruptNeedle, DiskError
from volumed.formats.checksum import crc32c
from volumed.formats.needle import FLAG_NAME, HEADER_LENGTH, Needle, decode_body, encode_record
from volumed.grpc import followed_records
from volumed.grpc.followed_records import FollowedRecords, foreign_record
from volumed.wire import volume_server_pb2 as pb

COOKIE, KEY, VOLUME = 0xC00C1E, 0xABC, 7
NOTHING_NEW = pb.VolumeTailSenderResponse(is_last_chunk=True, version=3)


def encoded(data: bytes, *, key: int = KEY, version: int = 3, checksum: int | None = None) -> bytes:
    crc = crc32c(data) if checksum is None else checksum
    return encode_record(
        Needle(COOKIE, key, data=data, flags=FLAG_NAME, name=b"n", checksum=crc, append_at_ns=5), version
    )


def messages(record: bytes, piece_bytes: int = 1 << 20, version: int = 3) -> Iterable[pb.VolumeTailSenderResponse]:
    header, rest = record[:HEADER_LENGTH], record[HEADER_LENGTH:]
    for at in range(0, len(rest), piece_bytes):
        piece, last = rest[at : at + piece_bytes], at + piece_bytes >= len(rest)
        yield pb.VolumeTailSenderResponse(needle_header=header, needle_body=piece, is_last_chunk=last, version=version)


class Worker:
    """Remembers what it is asked."""

    def __init__(self) -> None:
        self.asked: list[Request] = []
        self.refuse: type[Request] | None = None

    def __call__(self, request: Request) -> Any:
        self.asked.append(request)
        if type(request) is self.refuse:
            raise DiskError("refused")

    def kinds(self) -> list[str]:
        return [type(request).__name__ for request in self.asked]


@pytest.fixture
def worker() -> Worker:
    return Worker()


@pytest.fixture
def records(worker: Worker) -> FollowedRecords:
    return FollowedRecords(worker, VOLUME, 3)


@pytest.fixture
def short_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(followed_records, "LONG_BYTES_MIN", 64)


def take(records: FollowedRecords, sent: Iterable[pb.VolumeTailSenderResponse]) -> None:
    for message in sent:
        records.take(message)


@pytest.mark.parametrize("piece_bytes", [1, 7, 1 << 20])
def test_pieces_become_a_record(records: FollowedRecords, worker: Worker, piece_bytes: int) -> None:
    take(records, messages(encoded(b"some data"), piece_bytes))
    assert worker.asked == []
    records.take(NOTHING_NEW)
    (call,) = worker.asked
    assert isinstance(call, StoreRecords)
    (record,) = call.records
    assert (record.key, record.checksum, call.verbatim) == (KEY, crc32c(b"some data"), False)
    assert bytes(decode_body(record.body, 3).data) == b"some data"
    records.store()
    assert len(worker.asked) == 1


def test_many_go_together(records: FollowedRecords, worker: Worker) -> None:
    for key in range(RECORDS_MAX + 1):
        take(records, messages(encoded(b"x", key=key)))
    take(records, messages(encoded(bytes(2 << 20))))
    assert [len(call.records) for call in worker.asked if isinstance(call, StoreRecords)] == [RECORDS_MAX, 2]


@pytest.mark.parametrize("version", [1, 2, 3])
@pytest.mark.parametrize("source", [1, 2, 3])
def test_the_form_of_the_volume_here(source: int, version: int) -> None:
    record = encoded(b"data", version=source)
    found = foreign_record(record[:HEADER_LENGTH], bytearray(record[HEADER_LENGTH:]), source, version)
    assert int.from_bytes(found.header[12:], "big") == len(found.body)
    assert bytes(decode_body(found.body, version).data) == b"data"


@pytest.mark.usefixtures("short_is_long")
@pytest.mark.parametrize("piece_bytes", [1, 3, 50, 1 << 20])
def test_a_long_record_goes_through_a_spool(records: FollowedRecords, worker: Worker, piece_bytes: int) -> None:
    data = bytes(range(100))
    take(records, messages(encoded(b"short")))
    take(records, messages(encoded(data), piece_bytes))
    assert worker.kinds()[:2] == ["StoreRecords", "OpenSpool"]
    assert worker.kinds()[-2:] == ["StoreSpool", "CloseSpool"]
    opened, stored = worker.asked[1], worker.asked[-2]
    assert isinstance(opened, OpenSpool)
    assert isinstance(stored, StoreSpool)
    assert opened.expected_bytes == len(data)
    spooled = b"".join(call.data for call in worker.asked if isinstance(call, AppendSpoolData))
    assert spooled == data
    body = decode_body(stored.prefix + data + stored.suffix, 3)
    assert (bytes(body.data), body.name, stored.checksum, stored.key) == (data, b"n", crc32c(data), KEY)
    # The next one starts afresh.
    take(records, messages(encoded(b"short")))
    records.store()
    assert worker.kinds()[-1] == "StoreRecords"


@pytest.mark.usefixtures("short_is_long")
def test_an_unfinished_long_record_leaves_no_spool(records: FollowedRecords, worker: Worker) -> None:
    worker.refuse = AppendSpoolData
    with pytest.raises(DiskError):
        take(records, messages(encoded(bytes(100))))
    records.close()
    records.close()
    assert [isinstance(call, CloseSpool) for call in worker.asked].count(True) == 1


@pytest.mark.parametrize("long", [False, True], ids=["short", "long"])
@pytest.mark.parametrize("damage", ["checksum", "too long", "cut short", "data length"])
def test_what_cannot_be_right(
    records: FollowedRecords, worker: Worker, monkeypatch: pytest.MonkeyPatch, damage: str, long: bool
) -> None:
    if long:
        monkeypatch.setattr(followed_records, "LONG_BYTES_MIN", 64)
    record = encoded(bytes(range(100)), checksum=1 if damage == "checksum" else None)
    if damage == "too long":
        record += bytes(8)
    elif damage == "cut short":
        record = record[:-30]
    elif damage == "data length":
        record = record[:HEADER_LENGTH] + b"\xff" + record[HEADER_LENGTH + 1 :]
    with pytest.raises(CorruptNeedle):
        take(records, messages(record, 50))
    records.store()
    assert not {"StoreRecords", "StoreSpool"} & set(worker.kinds())
