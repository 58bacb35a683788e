"""Records of other volumes in a volume here: merged, followed, in batches (storage.md 6.5, grpc.md P7)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.storage_kit import COOKIE, DELETED, ERROR, STORED, UNCHANGED, Rig, delete, needle_body, outcomes, put
from volumed.bus.frames import STORE_RECORD, StoreOperation
from volumed.errors import CorruptNeedle, NeedleDeleted, SizeLimitExceeded
from volumed.formats.checksum import crc32c
from volumed.formats.idx import iter_rows
from volumed.formats.needle import encode_header
from volumed.storage import append
from volumed.storage.store import ANY_GENERATION

OTHER_COOKIE = 0xBAD


@pytest.fixture
def rig(tmp_path: Path) -> Iterator[Rig]:
    rig = Rig(tmp_path)
    rig.allocate()
    yield rig
    rig.close()


def record(
    key: int, data: bytes = b"", *, cookie: int = COOKIE, own_key: int | None = None, body: bytes | None = None
) -> StoreOperation:
    if body is None:
        body = needle_body(data, 3) if data else b""
    header = encode_header(cookie, key if own_key is None else own_key, len(body))
    return StoreOperation(
        STORE_RECORD, 0, 1, ANY_GENERATION, cookie, key, crc32c(data) if data else 0, len(body), header + body, 0
    )


def rows(rig: Rig) -> list[tuple[int, int]]:
    """Key and size."""
    return [(key, size) for key, _, size in iter_rows(rig.path("1.idx").read_bytes())]


def test_a_record_is_stored_as_it_is(rig: Rig) -> None:
    assert outcomes(rig.store(record(7, b"data", own_key=9))) == [STORED]
    needle = rig.read(1, 7)
    assert (needle.key, bytes(needle.data), needle.cookie) == (9, b"data", COOKIE)
    assert needle.append_at_ns > 0


def test_the_same_record_is_not_stored_again(rig: Rig) -> None:
    first = record(7, b"data")
    assert outcomes(rig.store(first)) == [STORED]
    assert outcomes(rig.store(first, record(8, b"x"), record(8, b"x"))) == [UNCHANGED, STORED, UNCHANGED]
    assert outcomes(rig.store(record(7, b"data", cookie=OTHER_COOKIE), record(7, b"tada"))) == [STORED, STORED]


def test_no_cookie_is_compared(rig: Rig) -> None:
    assert outcomes(rig.store(put(7, b"data"), record(7, b"other", cookie=OTHER_COOKIE))) == [STORED, STORED]
    assert rig.read(1, 7).cookie == OTHER_COOKIE


@pytest.mark.parametrize("together", [True, False], ids=["one batch", "many"])
def test_size_0_deletes_what_is_not_empty(rig: Rig, together: bool) -> None:
    steps = [
        record(1), record(1), put(2, b"data"), record(2), record(2), put(2, b"data again"), record(2, b"once more"),
        record(3, b"three"), delete(3), record(3), delete(1), record(1),
    ]  # fmt: skip
    wanted = [STORED, STORED, STORED, DELETED, DELETED, STORED, STORED, STORED, DELETED, DELETED, DELETED, DELETED]
    results = rig.store(*steps) if together else [rig.store(step)[0] for step in steps]
    assert outcomes(results) == wanted
    sizes = [size for _, size in rows(rig)]
    assert [size if size <= 0 else 1 for size in sizes] == [0, 0, 1, -1, -1, 1, 1, 1, -1, -1, -1, -1]
    assert bytes(rig.read(1, 2).data) == b"once more"
    for key in (1, 3):
        with pytest.raises(NeedleDeleted):
            rig.read(1, key)
    before = rig.counters()
    rig.forget_map()
    rig.reopen()
    assert rig.counters() == before


def test_damaged_records_are_taken_and_found_out(rig: Rig) -> None:
    overlong = b"\xff\xff\xff\xff" + b"garbage"
    wrong = record(6, b"data")._replace(checksum=1)
    assert outcomes(rig.store(record(5, body=overlong), wrong, wrong)) == [STORED, STORED, UNCHANGED]
    for key in (5, 6):
        with pytest.raises(CorruptNeedle):
            rig.read(1, key)
    # What is stored cannot be compared, so the same comes again.
    assert outcomes(rig.store(wrong)) == [STORED]


def test_a_damaged_record_in_a_volume_with_a_ttl(rig: Rig) -> None:
    rig.allocate(2, ttl=3 << 8 | 3)
    damaged = record(5, body=b"\x00\x00\x00\x01x\x08\x01")._replace(volume_id=2)
    assert outcomes(rig.store(damaged)) == [STORED]


def test_limits(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(append.MAX_VOLUME_SIZE, 5, 100)
    assert outcomes(rig.store(record(1, b"data"))) == [STORED]
    (refused,) = rig.store(record(2, bytes(50)))
    assert refused.outcome == ERROR
    assert isinstance(refused.error, SizeLimitExceeded)
    assert refused.error.text.startswith("volume size limit 100 exceeded! current size is ")
