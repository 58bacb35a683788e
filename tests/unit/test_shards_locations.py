"""How long it is believed where shards are."""

from __future__ import annotations

import pytest

from volumed.bus.calls import Location
from volumed.erasure.code import Ratio
from volumed.shards.locations import ShardLocations

RATIO = Ratio(3, 2)
ONE, TWO = Location("one:80", "one"), Location("two:80", "two")


def learnt(*shards: int) -> ShardLocations:
    locations = ShardLocations(RATIO)
    locations.learn({shard: [ONE, TWO] for shard in shards}, 1000.0)
    return locations


@pytest.mark.parametrize(
    ("shards", "lasts_s"),
    [((), 1), ((0, 1), 1), ((0, 1, 4), 1), ((0, 1, 2, 3), 1), (range(5), 37 * 60)],
    ids=str,
)
def test_only_complete_knowledge_lasts(shards: tuple[int, ...], lasts_s: float) -> None:
    locations = learnt(*shards)
    assert locations.is_fresh(1000.0 + lasts_s - 0.1)
    assert not locations.is_fresh(1000.0 + lasts_s)


def test_the_master_is_asked_again_a_little_before_but_not_too_often() -> None:
    locations = learnt(0)
    assert not locations.is_ending(1000.7)
    assert locations.is_ending(1000.8)
    locations.renew(1000.1)
    assert not locations.is_ending(1000.2)
    assert locations.is_ending(1000.26)


def test_nothing_is_known_at_first() -> None:
    assert not ShardLocations(RATIO).is_fresh(0.0)
    assert ShardLocations(RATIO).of(0) == []


def test_shards_without_servers_are_not_known() -> None:
    locations = ShardLocations(RATIO)
    locations.learn({shard: [ONE] if shard < 2 else [] for shard in range(5)}, 0.0)
    assert not locations.is_fresh(1.0)


def test_a_failure_shortens_it_but_never_prolongs() -> None:
    locations = learnt(*range(5))
    locations.failed(0, ONE, 1500.0, recovers=False)
    assert locations.is_fresh(1500.9)
    assert not locations.is_fresh(1501.0)
    locations.failed(0, ONE, 1500.5, recovers=False)
    assert not locations.is_fresh(1501.0)


def test_a_read_that_fails_has_the_master_asked_again_but_not_too_often() -> None:
    locations = learnt(*range(5))
    assert locations.renew(1000.1) == pytest.approx(0.15)
    assert locations.is_fresh(1000.2)
    assert not locations.is_fresh(1000.26)
    assert locations.renew(1000.3) == 0.0
    assert not locations.is_fresh(1000.3)


def test_only_a_source_for_recovering_is_dropped() -> None:
    locations = learnt(0, 1)
    locations.failed(0, ONE, 1000.0, recovers=False)
    locations.failed(1, ONE, 1000.0, recovers=True)
    assert locations.of(0) == [ONE, TWO]
    assert locations.of(1) == [TWO]


def test_what_was_known_survives_a_master_that_does_not_answer() -> None:
    locations = learnt(0)
    locations.not_answered(2000.0)
    assert locations.of(0) == [ONE, TWO]
    assert locations.is_fresh(2001.9)
    assert not locations.is_fresh(2002.0)
