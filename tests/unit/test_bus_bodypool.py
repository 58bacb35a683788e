"""`volumed.bus.bodypool`: the allocator's invariants, and that memory is shared, bounded and given back."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.bus.bodypool import BodyPool, ExtentAllocator, PoolReader
from volumed.bus.frames import FrameError
from volumed.errors import RetryError

PAGE = 4096
CAPACITY = 64


@given(st.lists(st.one_of(st.integers(1, 20), st.integers(-10, -1))))
def test_extents_never_overlap_and_all_come_back(steps: list[int]) -> None:
    """A positive step allocates so many units, a negative one frees one of the extents held."""
    allocator = ExtentAllocator(CAPACITY)
    held: list[tuple[int, int]] = []
    for step in steps:
        if step < 0 and held:
            allocator.free(*held.pop(step % len(held)))
        elif step > 0:
            offset = allocator.allocate(step)
            if offset is None:
                continue
            assert 0 <= offset <= CAPACITY - step
            assert all(offset + step <= other or other + length <= offset for other, length in held)
            held.append((offset, step))
        assert allocator.free_bytes == CAPACITY - sum(length for _, length in held)
    for extent in held:
        allocator.free(*extent)
    assert allocator.allocate(CAPACITY) == 0, "the free extents were not joined again"


def used_bytes(path: str) -> int:
    return os.stat(path).st_blocks * 512


@pytest.fixture
def pool(tmp_path: Path) -> Iterator[BodyPool]:
    made = BodyPool(str(tmp_path / "pool"), capacity=64 * PAGE, kept_bytes=4 * PAGE)
    yield made
    made.close()


def test_a_worker_sees_what_the_front_wrote(pool: BodyPool) -> None:
    slab = pool.allocate(5, head_room=4, tail_room=3)
    slab.data[:] = b"12345"
    slab.view[:4] = b"head"
    slab.view[9:12] = b"end"
    reader = PoolReader(pool.path)
    assert bytes(reader.view(slab.offset + 1, 11)) == b"ead12345end"
    slab.release()
    reader.close()


@pytest.mark.parametrize(("offset", "length"), [(64 * PAGE, 1), (64 * PAGE - 1, 2), (2**63, 1)])
def test_a_reader_refuses_what_is_outside(pool: BodyPool, offset: int, length: int) -> None:
    reader = PoolReader(pool.path)
    with pytest.raises(FrameError):
        reader.view(offset, length)
    reader.close()


def test_a_slab_is_free_after_its_last_share(pool: BodyPool) -> None:
    free = pool.free_bytes
    slab = pool.allocate(PAGE)
    slab.retain()
    slab.release()
    assert pool.free_bytes == free - PAGE
    slab.release()
    assert pool.free_bytes == free


def test_memory_is_reserved_and_given_back_beyond_what_is_kept(pool: BodyPool) -> None:
    assert used_bytes(pool.path) == 0
    slab = pool.allocate(32 * PAGE)
    assert used_bytes(pool.path) == 32 * PAGE
    slab.release()
    assert used_bytes(pool.path) == 4 * PAGE


def test_a_full_pool_asks_to_retry(pool: BodyPool) -> None:
    slab = pool.allocate(60 * PAGE)
    with pytest.raises(RetryError):
        pool.allocate(5 * PAGE)
    slab.release()
    pool.allocate(64 * PAGE).release()


def test_a_pool_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "pool").write_bytes(b"old")
    pool = BodyPool(str(tmp_path / "pool"), capacity=PAGE)
    assert bytes(PoolReader(pool.path).view(0, 3)) == bytes(3)
    pool.close()


def test_closing_removes_the_file_and_spares_slabs(tmp_path: Path) -> None:
    pool = BodyPool(str(tmp_path / "pool"), capacity=PAGE)
    held = pool.allocate(1)
    pool.close()
    assert not os.path.exists(pool.path)
    held.data[:] = b"x"
