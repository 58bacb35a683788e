"""What is believed of other servers that are asked for shards."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.erasure_kit import SmallVolume
from tests.shards_kit import mounted
from volumed.erasure.layout import Interval
from volumed.errors import NeedleDeleted
from volumed.shards.peers import ShardPeers
from volumed.shards.view import NodeEcVolume
from volumed.wire.volume_server_pb2 import VolumeEcShardReadResponse

PIECE = Interval(4, 0, 4)
DELETED = VolumeEcShardReadResponse(is_deleted=True)
DATA = VolumeEcShardReadResponse(data=b"data")


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> NodeEcVolume:
    small = SmallVolume(tmp_path_factory.mktemp("peers") / "v", needles=3, needle_bytes=100)
    return NodeEcVolume.of(9, (mounted(small, small.encode(), [0], encode_ts_ns=0),))


class Answers:
    """A server that answers as told, the last answer again and again."""

    def __init__(self, *answers: VolumeEcShardReadResponse) -> None:
        self.left = list(answers)

    def __call__(self, *_: Any) -> Iterator[VolumeEcShardReadResponse]:
        yield self.left.pop(0) if len(self.left) > 1 else self.left[0]


def ask(answers: Answers, volume: NodeEcVolume, monkeypatch: pytest.MonkeyPatch) -> bytes:
    peers = ShardPeers("")
    monkeypatch.setattr(peers, "_stream", answers)
    return peers.read("one:80", volume, 7, PIECE, 1.0)


@pytest.mark.parametrize("wrong", [0, 1, 3])
def test_a_deletion_is_doubted_a_few_times(volume: NodeEcVolume, monkeypatch: pytest.MonkeyPatch, wrong: int) -> None:
    assert ask(Answers(*[DELETED] * wrong, DATA), volume, monkeypatch) == b"data"


def test_a_deletion_that_is_insisted_on_is_believed(volume: NodeEcVolume, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NeedleDeleted):
        ask(Answers(DELETED), volume, monkeypatch)
