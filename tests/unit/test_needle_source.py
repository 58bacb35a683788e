"""Large needles that move while they are read page by page."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

from volumed.erasure.errors import EcReadFailed
from volumed.errors import DiskUnavailable, RetryError, StaleGeneration, VolumedError, VolumeNotFound
from volumed.formats.checksum import crc32c, masked
from volumed.formats.needle import Buffer, Needle
from volumed.http.objects import needle_source
from volumed.http.objects.ec_needles import EcPages
from volumed.http.objects.needle_source import StoredNeedle

DATA = bytes(range(250)) * 4
BLOCK = 300


class Place:
    """Where data lie until so many pages were read."""

    def __init__(self, pages: int, data: bytes = DATA) -> None:
        self._pages = pages
        self._data = data

    async def begin(self, *, whole: bool) -> None:
        del whole
        if not self._pages:
            raise VolumeNotFound.of(7)

    async def page(self, at: int, length: int) -> Buffer:
        if not self._pages:
            raise StaleGeneration("gone")
        self._pages -= 1
        return self._data[at : at + length]

    def distrust(self) -> None:
        pytest.fail("the data are right")


NODE: Any = SimpleNamespace(config=SimpleNamespace(read_block_bytes=BLOCK))


def stored(place: Place | None = None, *, cookie: int = 2, checksum: int | None = None) -> StoredNeedle:
    """The needle at a place, or at hand."""
    known = crc32c(DATA) if checksum is None else checksum
    needle = Needle(key=1, cookie=cookie, data=b"" if place else DATA, checksum=known)
    return StoredNeedle(NODE, 7, needle, place, len(DATA) if place else 0)


@pytest.fixture
def moves(monkeypatch: pytest.MonkeyPatch) -> list[StoredNeedle]:
    """Where the needle is found, one after the other."""
    places: list[StoredNeedle] = []

    async def find(_node: Any, volume_id: int, key: int, cookie: int) -> StoredNeedle:
        assert (volume_id, key, cookie) == (7, 1, 2)
        return places.pop(0)

    monkeypatch.setattr(needle_source, "find_needle", find)
    return places


def read(needle: StoredNeedle) -> bytes:
    async def pages() -> bytes:
        return b"".join([bytes(page) async for page in needle.pages(0, needle.data_size)])

    return asyncio.run(pages())


def test_it_is_followed_from_place_to_place(moves: list[StoredNeedle]) -> None:
    moves += [stored(Place(1)), stored(Place(9))]
    assert read(stored(Place(2))) == DATA
    assert moves == []


def test_it_may_be_gone_before_the_first_page(moves: list[StoredNeedle]) -> None:
    moves += [stored(Place(9))]
    assert read(stored(Place(0))) == DATA


def test_it_may_be_at_hand_then(moves: list[StoredNeedle]) -> None:
    """As it is when a volume is encoded, whose needles of this size are paged. Old checksums are masked."""
    moves += [stored()]
    assert read(stored(Place(2), checksum=masked(crc32c(DATA)))) == DATA
    moves += [stored(Place(9), checksum=masked(crc32c(DATA)))]
    assert read(stored(Place(2))) == DATA


@pytest.mark.parametrize("changed", [{"cookie": 3}, {"checksum": 5}], ids=str)
def test_another_needle_of_the_key_is_not_mixed_in(moves: list[StoredNeedle], changed: dict[str, int]) -> None:
    moves += [stored(Place(9), **changed)]
    with pytest.raises(StaleGeneration, match=r"volume 7: needle 0100000002 was replaced"):
        read(stored(Place(2)))


def test_it_is_not_followed_for_ever(moves: list[StoredNeedle]) -> None:
    moves += [stored(Place(0)) for _ in range(20)]
    with pytest.raises(StaleGeneration, match="changes too fast"):
        read(stored(Place(1)))
    assert moves


class Decoded:
    """A node with an erasure coded volume, and perhaps a normal one of the id; no shard can be read."""

    def __init__(self, *, shards: bool, volume: bool | None, failure: VolumedError) -> None:
        self.shards = self.view = self
        self._shards, self._volume, self._failure = shards, volume, failure

    def find(self, _volume_id: int) -> object:
        return self if self._shards else None

    def locate(self, _volume_id: int) -> object:
        if self._volume is None:
            raise DiskUnavailable("disk 1 is stuck")
        return self if self._volume else None

    async def read(self, *_: object, **_options: object) -> None:
        raise self._failure

    read_data = read


FAILED = EcReadFailed.of("too few")
BUSY = RetryError("too much is being recovered")


@pytest.mark.parametrize(
    ("shards", "volume", "failure", "expected"),
    [
        (True, False, FAILED, EcReadFailed),
        (True, None, FAILED, EcReadFailed),
        (False, False, FAILED, EcReadFailed),
        (True, True, FAILED, StaleGeneration),
        (True, True, BUSY, StaleGeneration),
        (True, False, BUSY, RetryError),
        (False, True, FAILED, StaleGeneration),
    ],
)
def test_a_volume_in_place_of_the_shards_is_told_of(
    shards: bool, volume: bool | None, failure: VolumedError, expected: type[VolumedError]
) -> None:
    node: Any = Decoded(shards=shards, volume=volume, failure=failure)
    found: Any = SimpleNamespace(volume=SimpleNamespace(volume_id=7), is_fresh=False, needle=Needle(key=1, cookie=2))
    pages = EcPages(node, found)
    for reading in (pages.page(0, 5), pages.begin(whole=True)):
        with pytest.raises(VolumedError) as raised:
            asyncio.run(reading)
        assert type(raised.value) is expected
