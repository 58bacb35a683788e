"""What scrubs of shards find, mode by mode. The words are compared with the reference in tests/interop."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from tests.erasure_kit import NOW_NS, RATIO, WIDTH, SmallVolume
from volumed.erasure import needle_scrub, scrub_findings
from volumed.erasure.encode import Encoded
from volumed.erasure.errors import TooFewShards
from volumed.erasure.layout import MIB, Interval
from volumed.erasure.needle_scrub import ScrubbedVolume, UnreadablePiece, scrub_all, scrub_local
from volumed.erasure.read import EcSource, answered, read_span
from volumed.erasure.scrub import ShardDamage
from volumed.erasure.scrub_findings import DiskShards, EcFindings, checksum_findings, index_findings, plan_scrub
from volumed.formats.idx import pack_rows
from volumed.storage import record_check
from volumed.storage.ec_records import EcRecord
from volumed.storage.fileio import Buffer
from volumed.storage.index_check import IndexRows

Made = tuple[SmallVolume, Encoded]


class FakeReads:
    """Shards of this node, and of others; needles that are ``deleted`` elsewhere."""

    def __init__(
        self, made: Made, here: range | list[int] = range(RATIO.total), there: list[int] | None = None
    ) -> None:
        self.volume, self.encoded = made
        self.shards = {shard: bytearray(content) for shard, content in enumerate(self.volume.shard_bytes())}
        self.here = list(here)
        self.there = there or []
        self.cut: dict[int, int] = {}

    @property
    def lengths(self) -> Mapping[int, int]:
        return {shard: self.cut.get(shard, len(self.shards[shard])) for shard in self.here}

    def local(self, wanted: Interval) -> Buffer:
        data = self.shards[wanted.shard][wanted.offset : wanted.offset + wanted.length]
        if len(data) < wanted.length:
            raise UnreadablePiece("EOF")
        return data

    def direct(self, wanted: Interval, key: int) -> Buffer:
        del key
        if wanted.shard not in (*self.here, *self.there):
            raise UnreadablePiece("no known shard locations")
        return self.local(wanted)

    def recovered(self, wanted: Interval) -> Buffer:
        layout = self.encoded.geometry.layout(0)
        source = EcSource(9, 3, layout)
        offset = layout.dat_offset(wanted.shard, wanted.offset)
        known = {*self.here, *self.there}
        return answered(
            read_span(source, offset, wanted.length, (wanted.shard,)),
            lambda at: self.local(at) if at.shard in known else None,
        )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    volume = SmallVolume(tmp_path_factory.mktemp("scrub") / "d", needles=80)
    return volume, volume.encode()


def rows_of(volume: SmallVolume) -> IndexRows:
    return IndexRows.decode(pack_rows(sorted(volume.rows), WIDTH), WIDTH, 3)


def scrubbed(made: Made, reads: FakeReads, rows: IndexRows | None = None) -> ScrubbedVolume:
    layout = made[1].geometry.layout(0)
    return ScrubbedVolume(9, 3, layout, rows or rows_of(made[0]), reads, lambda: None)


def found(made: Made, reads: FakeReads, mode: str) -> EcFindings:
    findings, volume = EcFindings(), scrubbed(made, reads)
    if mode == "local":
        scrub_local(volume, findings)
    else:
        scrub_all(volume, findings, recover=mode == "reads", forced=False)
    return findings


@pytest.fixture(params=[record_check.PIECE_BYTES, 1000], ids=["whole", "in pieces"])
def pieces(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_check, "PIECE_BYTES", request.param)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("mode", ["local", "full", "reads"])
def test_nothing_is_wrong(made: Made, mode: str) -> None:
    findings = found(made, FakeReads(made), mode)
    assert (findings.texts, findings.broken, findings.is_broken) == ([], {}, False)


@pytest.mark.usefixtures("pieces")
@pytest.mark.parametrize("mode", ["local", "full", "reads"])
def test_a_flipped_byte_is_found(made: Made, mode: str) -> None:
    reads = FakeReads(made)
    key, offset, _ = made[0].rows[3]
    reads.shards[0][offset + 30] ^= 1
    (text,) = found(made, reads, mode).texts
    assert f"needle {key} on" in text
    assert "invalid CRC" in text


def test_a_shard_of_another_server(made: Made) -> None:
    """Local scrubs leave its needles out."""
    reads = FakeReads(made, here=[1, 2, 3, 4], there=[0])
    reads.shards[0][made[0].rows[3][1] + 30] ^= 1
    assert not found(made, reads, "local").is_broken
    assert found(made, reads, "full").is_broken


def test_a_lost_shard(made: Made) -> None:
    reads = FakeReads(made, here=[1, 2, 3, 4])
    assert not found(made, reads, "local").is_broken
    full, read = found(made, reads, "full"), found(made, reads, "reads")
    assert set(full.broken) == set(read.broken) == {0}
    assert "no known shard locations" in full.texts[0]
    assert read.texts == []
    reads.here = [3, 4]
    assert "cannot recover shard 9.2: only 2 shards available [3 4]" in found(made, reads, "reads").texts[0]


def test_a_local_scrub_ends_where_it_cannot_read(made: Made) -> None:
    reads = FakeReads(made)
    reads.cut[1] = 100
    findings = found(made, reads, "local")
    assert findings.broken == {1: 100}
    assert 0 < findings.files < len(made[0].rows)
    assert "is too short (100), cannot read chunk" in findings.texts[0]
    assert findings.texts[-1].startswith("expected ")


def test_a_record_of_another_needle(made: Made) -> None:
    reads = FakeReads(made)
    reads.shards[0][made[0].rows[3][1] + 11] ^= 1
    assert "size mismatch" in found(made, reads, "full").texts[0]


def test_a_deletion_that_the_index_has_not_got(made: Made) -> None:
    reads = FakeReads(made)
    _, offset, _ = made[0].rows[3]
    reads.shards[0][offset + 12 : offset + 16] = bytes(4)
    assert not found(made, reads, "full").is_broken
    findings = EcFindings()
    scrub_all(scrubbed(made, reads), findings, recover=False, forced=True)
    assert "size 0, expected size" in findings.texts[0]


def test_too_few_shards_are_told_by_those_who_recover(made: Made) -> None:
    with pytest.raises(TooFewShards):
        FakeReads(made, here=[3]).recovered(Interval(0, 0, 10))


def record(**fields: Any) -> EcRecord:
    defaults: dict[str, Any] = {
        "generation": 1, "map_id": 1, "collection": "", "version": 3, "data_shards": 3, "parity_shards": 2,
        "block_size": MIB, "encode_ts_ns": NOW_NS, "dat_size": 0,
        "data_base": "/d/9", "index_base": "/d/9", "shards": {0: MIB},
    }  # fmt: skip
    return EcRecord(**defaults | fields)


def test_the_youngest_run_is_checked() -> None:
    disks = [
        DiskShards(0, "/a", record(encode_ts_ns=5)),
        DiskShards(2, "/b", record(encode_ts_ns=7)),
        DiskShards(3, "/c", record(encode_ts_ns=7, block_size=2 * MIB)),
        DiskShards(4, "/d", record(encode_ts_ns=7)),
    ]
    plan = plan_scrub(9, disks)
    assert plan.disks == [1, 3]
    assert plan.foreign == [
        "EC volume 9 shards at /a (position 0) belong to encode run 5 but the scrub anchors on 7; "
        "they were not verified",
        "EC volume 9 shards at /c (position 3) have layout 3+2 block 2097152 but the scrub anchors on "
        "3+2 block 1048576; they were not verified",
    ]


def test_index_findings() -> None:
    nothing = IndexRows.decode(b"", WIDTH, 3)
    assert index_findings(9, 0, 0, nothing).texts == ["zero-size ECX file for EC volume 9"]
    assert index_findings(9, 3, 0, nothing).texts == ["expected an index file of size 3, got 0"]


def damage(shard: int, *, length: int = MIB, blocks: tuple[int, ...] = (0,)) -> ShardDamage:
    return ShardDamage(shard, length, MIB, blocks)


def test_checksum_findings() -> None:
    bad = {1: damage(1), 3: damage(3, length=7)}
    findings = checksum_findings(9, bad, [3], block=MIB, checked=5, parity=2)
    assert findings.broken == {3: 7}
    assert len(findings.texts) == 3
    assert "stale sidecar" in findings.texts[1]
    assert findings.texts[2] == f"ec volume 9 shard 3: size 7 != covered_size {MIB} (truncated or extended)"


def test_more_damaged_shards_than_parity_speak_against_the_sidecar() -> None:
    findings = checksum_findings(9, {n: damage(n) for n in range(3)}, [0, 1, 2], block=MIB, checked=4, parity=2)
    assert findings.broken == {}
    assert findings.texts == [
        "ec volume 9: 3/4 local shards mismatch (> parity 2): suspect stale sidecar, not flagging shard corruption"
    ]


def test_findings_are_limited(monkeypatch: pytest.MonkeyPatch, made: Made) -> None:
    for module in (needle_scrub, scrub_findings):
        monkeypatch.setattr(module, "FINDINGS_MAX", 3)
    assert len(found(made, FakeReads(made, here=[]), "full").texts) == 3
