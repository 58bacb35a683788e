"""`volumed.bus.frames`: what one side packs, the other parses; garbage is refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.bus import frames
from volumed.bus.frames import FrameError, ReadOperation, StoreOutcome, StoreResult
from volumed.errors import Code, Corruption, CorruptNeedle, VolumedError, VolumeNotFound

u8, u32, u64 = st.integers(0, 0xFF), st.integers(0, 0xFFFFFFFF), st.integers(0, 2**64 - 1)
put = st.tuples(u32, u32, u32, u64, u32, st.binary(max_size=50), u8)


@given(u32, st.lists(put, max_size=5), u64)
def test_store_batches(number: int, puts: list[tuple[int, int, int, int, int, bytes, int]], shared_at: int) -> None:
    packed = [frames.pack_put(*operation) for operation in puts]
    packed.append(frames.pack_put_shared(1, 2, 3, 4, 5, 6, shared_at, flags=7))
    packed.append(frames.pack_delete(1, 2, 3, 4, 5, flags=6))
    got_number, operations = frames.parse_store_batch(memoryview(frames.pack_store_batch(number, packed)))
    assert got_number == number
    *plain, shared, delete = operations
    for operation, (volume_id, generation, cookie, key, checksum, body, flags) in zip(plain, puts, strict=True):
        assert operation._replace(body=bytes(operation.body)) == (
            frames.STORE_PUT, flags, volume_id, generation, cookie, key, checksum, len(body), body, 0,
        )  # fmt: skip
    assert shared == (frames.STORE_PUT_SHARED, 7, 1, 2, 3, 4, 5, 6, b"", shared_at)
    assert delete == (frames.STORE_DELETE, 6, 1, 2, 3, 4, 5, 0, b"", 0)


@given(st.data())
def test_a_store_batch_of_another_length_is_refused(data: st.DataObject) -> None:
    whole = frames.pack_store_batch(1, [frames.pack_put(1, 2, 3, 4, 5, b"body"), frames.pack_delete(1, 2, 3, 4, 5)])
    cut = data.draw(st.integers(1, len(whole) - 1))
    with pytest.raises(FrameError):
        frames.parse_store_batch(memoryview(whole[:cut]))
    with pytest.raises(FrameError):
        frames.parse_store_batch(memoryview(whole + b"x"))


def test_a_call_without_a_number_is_refused() -> None:
    with pytest.raises(FrameError):
        frames.parse_call(memoryview(b"C12"))


def test_store_replies_carry_domain_errors() -> None:
    error = CorruptNeedle("broken", kind=Corruption.CRC)
    results = [StoreResult(StoreOutcome.STORED, 9), StoreResult(StoreOutcome.ERROR, 0, error)]
    number, parsed = frames.parse_store_reply(memoryview(frames.pack_store_reply(3, results)))
    assert (number, parsed[0]) == (3, results[0])
    got = parsed[1].error
    assert isinstance(got, CorruptNeedle)
    assert (got.text, got.kind) == ("broken", Corruption.CRC)


read = st.builds(ReadOperation, u32, u8, u8, u32, u32, u64, st.integers(-(2**63), 2**63 - 1), u32)


@given(st.lists(read, max_size=5))
def test_reads(operations: list[ReadOperation]) -> None:
    frame = frames.pack_read_batch([frames.pack_read(operation) for operation in operations])
    assert frames.parse_read_batch(memoryview(frame)) == operations


def test_read_replies() -> None:
    replies = [(1, frames.STATUS_OK, b"payload"), (2, frames.STATUS_ERROR, b""), (3, frames.STATUS_OK, bytearray(b"x"))]
    parsed = frames.parse_read_replies(memoryview(frames.pack_read_replies(replies)))
    assert parsed == replies


@pytest.mark.parametrize("path", ["/run/volumed/front-1.pool", "/run/\udcff/pool"])
def test_hello(path: str) -> None:
    assert frames.parse_hello(memoryview(frames.pack_hello(path))) == path


@pytest.mark.parametrize("error", [VolumeNotFound.of(3), VolumedError("text", Code.UNAVAILABLE)])
def test_errors_keep_class_text_and_code(error: VolumedError) -> None:
    got = frames.decode_error(frames.encode_error(error))
    assert (type(got), got.text, got.code) == (type(error), error.text, error.code)
