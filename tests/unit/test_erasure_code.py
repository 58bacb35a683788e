"""The code and the layout as properties; sidecar, journal and names; which geometry files stand for."""

from __future__ import annotations

import ctypes
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumed.erasure import multiply
from volumed.erasure.code import DEFAULT_RATIO, SHARDS_MAX, ErasureCode, Ratio
from volumed.erasure.errors import BadEcConfig, BadEcIndex, BadSidecar
from volumed.erasure.galois import Matrix
from volumed.erasure.geometry import (
    FoundFile,
    Geometry,
    SidecarState,
    accepts,
    is_older,
    judge_sidecar,
    resolve_geometry,
)
from volumed.erasure.joined_crc import joined_crc
from volumed.erasure.journal import decode_journal, decode_whole_journal, encode_journal, news
from volumed.erasure.layout import MIB, Interval, Layout, uniform_block_size
from volumed.erasure.multiply import NumpyProduct, multiplier, passes_self_test
from volumed.erasure.names import ENCODING, EcName, parse_ec_name, shard_extension
from volumed.erasure.sidecar import ShardSums, Sidecar, decode_sidecar, encode_sidecar
from volumed.formats.checksum import crc32c
from volumed.formats.vif import EcShardConfig, VolumeInfo, encode_vif

GIB = 1 << 30
COUNTS = st.integers(1, SHARDS_MAX - 1)
RATIOS = st.tuples(COUNTS, COUNTS).filter(lambda counts: sum(counts) <= SHARDS_MAX)


@st.composite
def losses(draw: Any) -> tuple[Ratio, int, list[int]]:
    """A ratio, a length, and as many shards as may be lost."""
    ratio = Ratio(*draw(RATIOS))
    lost = draw(st.lists(st.integers(0, ratio.total - 1), min_size=1, max_size=ratio.parity, unique=True))
    return ratio, draw(st.sampled_from([1, 2, 31, 64, 1000, 4097])), lost


@pytest.mark.parametrize("engine", [multiplier(), NumpyProduct()], ids=["library", "numpy"])
@settings(max_examples=60, deadline=None)
@given(case=losses(), seed=st.integers(0, 1 << 30))
def test_any_loss_up_to_parity_is_recovered(engine: Any, case: tuple[Ratio, int, list[int]], seed: int) -> None:
    ratio, length, lost = case
    data = random.Random(seed)
    code = ErasureCode(ratio, engine)
    columns = [bytearray(data.randbytes(length)) for _ in range(ratio.data)]
    columns += [bytearray(length) for _ in range(ratio.parity)]
    code.encode(columns[: ratio.data], columns[ratio.data :])
    left = {shard: bytes(column) for shard, column in enumerate(columns) if shard not in lost}
    assert code.recover(left, lost) == [columns[shard] for shard in lost]


def test_both_multipliers_give_the_same_bytes() -> None:
    data = [random.Random(shard).randbytes(300_001) for shard in range(DEFAULT_RATIO.data)]
    results = []
    for engine in (multiplier(), NumpyProduct()):
        parity = [bytearray(300_001) for _ in range(DEFAULT_RATIO.parity)]
        ErasureCode(DEFAULT_RATIO, engine).encode(data, parity)
        results.append(parity)
    assert results[0] == results[1]


def test_the_library_is_found() -> None:
    assert multiplier().name.startswith("ISA-L")
    assert passes_self_test(NumpyProduct())


@pytest.mark.parametrize("broken", ["missing", "wrong"])
def test_without_a_library_that_computes_right_numpy_does_it(monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    class Wrong(NumpyProduct):
        def __init__(self, _library: ctypes.CDLL, _name: str) -> None:
            pass

        def prepare(self, matrix: Matrix) -> Any:
            return super().prepare((bytes(len(matrix[0])), *matrix[1:]))

    if broken == "missing":
        monkeypatch.setattr(multiply, "_library_paths", lambda: iter(["/nonexistent.so"]))
    else:
        monkeypatch.setattr(multiply, "IsaL", Wrong)
    assert multiply.multiplier.__wrapped__().name == "numpy"


@pytest.mark.parametrize("engine", [multiplier(), NumpyProduct()], ids=["library", "numpy"])
def test_buffers_of_the_wrong_shape_are_refused(engine: Any) -> None:
    prepared = engine.prepare((b"\1\2",))
    for sources, targets in (
        ([b"ab"], [bytearray(2)]),
        ([b"ab", b"a"], [bytearray(2)]),
        ([b"ab", b"ab"], [bytearray(1)]),
        ([b"ab", b"ab"], [memoryview(b"ab")]),
    ):
        with pytest.raises(ValueError, match="buffers|target"):
            engine.multiply(prepared, sources, targets)


@pytest.mark.parametrize("ratio", [Ratio(0, 4), Ratio(10, 0), Ratio(-1, 4), Ratio(20, 13), Ratio(1 << 31, 1 << 31)])
def test_impossible_ratios(ratio: Ratio) -> None:
    with pytest.raises(BadEcConfig):
        ErasureCode(ratio)


# Layout


@pytest.mark.parametrize(
    ("size", "data", "block"),
    [(8, 10, 1), (13_192_152, 10, 2), (24_455_720, 10, 3), (24_455_720, 6, 4), (10 << 20, 10, 1), (10485761, 10, 2)],
)
def test_uniform_block_size(size: int, data: int, block: int) -> None:
    assert uniform_block_size(size, data) == block * MIB
    assert Layout.for_encoding(Ratio(data, 4), size).shard_length == block * MIB


@st.composite
def layouts(draw: Any) -> Layout:
    ratio = Ratio(draw(st.integers(1, 12)), 2)
    dat_size = draw(st.one_of(st.integers(1, 40 * MIB), st.integers(1, 40 * GIB), st.integers(1, 9).map(GIB.__mul__)))
    blocks = (0, uniform_block_size(dat_size, ratio.data), MIB)
    return Layout(ratio, draw(st.sampled_from(blocks)), dat_size)


@settings(max_examples=200, deadline=None)
@given(layout=layouts(), where=st.floats(0, 1), length=st.integers(1, 5 * MIB))
def test_intervals_and_offsets_are_inverse(layout: Layout, where: float, length: int) -> None:
    offset = int(where * (layout.dat_size - 1))
    length = min(length, layout.dat_size - offset)
    at = offset
    for shard, start, count in layout.intervals(offset, length):
        assert 0 <= shard < layout.ratio.data
        assert start + count <= layout.shard_length
        assert layout.dat_offset(shard, start) == at
        assert layout.dat_offset(shard, start + count - 1) == at + count - 1
        at += count
    assert at == offset + length


@settings(max_examples=100, deadline=None)
@given(dat_size=st.integers(1, 40 * GIB), data=st.integers(1, 20))
def test_both_layouts_have_shards_of_one_length(dat_size: int, data: int) -> None:
    ratio = Ratio(data, 4)
    length = -(-dat_size // (data * MIB)) * MIB
    assert Layout(ratio, 0, dat_size).shard_length == length
    assert Layout.for_encoding(ratio, dat_size).shard_length == length


def test_legacy_rows() -> None:
    layout = Layout(DEFAULT_RATIO, 0, 10 * GIB + 25 * MIB)
    assert list(layout.intervals(GIB - 4, 8)) == [Interval(0, GIB - 4, 4), Interval(1, 0, 4)]
    assert list(layout.intervals(10 * GIB - 4, 8)) == [Interval(9, GIB - 4, 4), Interval(0, GIB, 4)]
    assert list(layout.intervals(10 * GIB + 13 * MIB, 1)) == [Interval(3, GIB + MIB, 1)]
    assert layout.shard_length == GIB + 3 * MIB


def test_a_shard_of_exactly_one_large_block_is_taken_for_small_ones() -> None:
    assert Layout.of_shards(DEFAULT_RATIO, 0, GIB).large_rows == 0
    assert Layout.of_shards(DEFAULT_RATIO, 0, GIB + MIB).large_rows == 1


# Files


@settings(max_examples=50, deadline=None)
@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_checksums_join(first: bytes, second: bytes) -> None:
    assert joined_crc(crc32c(first), crc32c(second), len(second)) == crc32c(first + second)


def sidecar(**changes: Any) -> Sidecar:
    sums = ShardSums(MIB, (7,))
    fields = {"shards": (sums,) * 5, "ratio": Ratio(3, 2), "layout_block": MIB, "uuid": bytes(16)} | changes
    return Sidecar(**fields)


def test_a_sidecar_round_trip() -> None:
    long = ShardSums(33 * MIB, (1, 2, 0xFFFFFFFF))
    assert decode_sidecar(encode_sidecar(sidecar(shards=(long,) * 5))) == sidecar(shards=(long,) * 5)
    nothing_said = sidecar(ratio=None, layout_block=0)
    assert decode_sidecar(encode_sidecar(nothing_said)) == nothing_said


@pytest.mark.parametrize(
    "content",
    [
        b"", b"ECSU", b"XCSU" + encode_sidecar(sidecar())[4:], encode_sidecar(sidecar())[:-1],
        encode_sidecar(sidecar()) + b"\0", encode_sidecar(sidecar()).replace(b"\0\1\0\0", b"\0\2\0\0", 1),
        encode_sidecar(sidecar())[:-1] + b"\1", encode_sidecar(sidecar(checksum_block=MIB // 2)),
        encode_sidecar(sidecar(checksum_block=3 * MIB)), encode_sidecar(sidecar(checksum_block=128 * MIB)),
        encode_sidecar(sidecar(shards=(ShardSums(MIB, (7,)),) * 4)),
        encode_sidecar(sidecar(shards=(ShardSums(MIB, (7,)),) * 6)),
        encode_sidecar(sidecar(shards=(ShardSums(0, ()),) * 5)),
        encode_sidecar(sidecar(shards=(ShardSums(17 * MIB, (7,)),) * 5)),
    ],
    ids=[
        "empty", "header_short", "magic", "payload_short", "payload_long", "version", "checksum", "block_small",
        "block_odd", "block_large", "shard_lacking", "shard_too_many", "shard_empty", "checksum_lacking",
    ],
)  # fmt: skip
def test_bad_sidecars(content: bytes) -> None:
    with pytest.raises(BadSidecar):
        decode_sidecar(content)


def test_journals() -> None:
    content = encode_journal([5, 2**64 - 1, 5])
    assert decode_journal(content + b"\0\0\0") == decode_whole_journal(content) == [5, 2**64 - 1, 5]
    assert news([4, 1], decode_journal(encode_journal([2, 1, 2, 9]))) == [2, 9]
    with pytest.raises(BadEcIndex, match="rebuild: read ecj: unexpected EOF"):
        decode_whole_journal(content + b"\0")


def test_names() -> None:
    assert shard_extension(3) == ".ec03"
    assert parse_ec_name("pics_9.ec31") == EcName("pics", 9, ".ec31", 31, 0, "")
    assert parse_ec_name("9.ec07.v12") == EcName("", 9, ".ec07", 7, 12, "")
    assert parse_ec_name(f"a_b_9.ec07{ENCODING}") == EcName("a_b", 9, ".ec07", 7, 0, ENCODING)
    assert parse_ec_name("9.ecsum") == EcName("", 9, ".ecsum", None, 0, "")
    assert [parse_ec_name(name) for name in ("9", "x.ec00", "049.ec00", ".ec00", "9.ec00.v0")] == [None] * 5
    for extension in (".ec32", ".ec100", ".ec1", ".dat"):
        found = parse_ec_name("9" + extension)
        assert found is not None
        assert found.shard_id is None


# Geometry


def vif(config: EcShardConfig | None, **fields: Any) -> FoundFile:
    return FoundFile("d/9.vif", encode_vif(VolumeInfo(version=3, ec_shard_config=config, **fields)))


def ecsum(item: Sidecar) -> FoundFile:
    return FoundFile("d/9.ecsum", encode_sidecar(item))


def test_geometry_comes_from_the_vif_then_the_sidecar_then_defaults() -> None:
    told = vif(EcShardConfig(6, 3, 77, 2 * MIB), dat_file_size=5, expire_at_sec=9)
    assert resolve_geometry(told, ecsum(sidecar())) == Geometry(Ratio(6, 3), 2 * MIB, 77, 5, 9)
    assert resolve_geometry(vif(None, dat_file_size=5), ecsum(sidecar())) == Geometry(Ratio(3, 2), MIB, 0, 5)
    assert resolve_geometry(None, ecsum(sidecar())) == Geometry(Ratio(3, 2), MIB)
    assert resolve_geometry(FoundFile("d/9.vif", b""), None) == Geometry(DEFAULT_RATIO, 0)


@pytest.mark.parametrize(
    ("files", "text"),
    [
        ((vif(EcShardConfig(0, 4)), None), "d/9.vif records invalid shard counts 0+4"),
        (
            (vif(EcShardConfig(10, 4, 0, 5)), None),
            "d/9.vif: invalid shard block size 5: expected 0 (legacy) or a multiple of 1048576",
        ),
        ((FoundFile("d/9.vif", b"{"), None), "load d/9.vif: invalid volume info"),
        (
            (None, ecsum(sidecar(generation=2))),
            "no .vif and the bitrot sidecar cannot establish the layout: "
            "d/9.ecsum records generation 2, not generation 0",
        ),
        (
            (vif(None), ecsum(sidecar(ratio=None))),
            "d/9.vif records no EC config and the bitrot sidecar cannot establish the layout: "
            "d/9.ecsum records no EC config",
        ),
        (
            (None, ecsum(sidecar(layout_block=7))),
            "no .vif and the bitrot sidecar cannot establish the layout: d/9.ecsum: invalid shard block size 7: "
            "expected 0 (legacy) or a multiple of 1048576",
        ),
    ],
    ids=["ratio", "block", "damaged", "generation", "no_config", "sidecar_block"],
)
def test_geometry_is_not_guessed(files: tuple[FoundFile | None, FoundFile | None], text: str) -> None:
    with pytest.raises(BadEcConfig) as failure:
        resolve_geometry(*files)
    assert failure.value.text == text


def test_what_a_sidecar_is_worth() -> None:
    mounted = Geometry(Ratio(3, 2), MIB)
    assert judge_sidecar(mounted, ecsum(sidecar())) == (SidecarState.ON, sidecar())
    assert judge_sidecar(mounted, FoundFile("d/9.ecsum", b"?")) == (SidecarState.INVALID, None)
    for nothing in (None, ecsum(sidecar(generation=1)), ecsum(sidecar(ratio=None, layout_block=0))):
        assert judge_sidecar(mounted, nothing) == (SidecarState.OFF, None)
    with pytest.raises(BadEcConfig) as failure:
        judge_sidecar(mounted, ecsum(sidecar(layout_block=2 * MIB)))
    assert failure.value.text == (
        "generation 0: d/9.ecsum records layout 3+2 block 2097152 but the volume is mounted as 3+2 block 1048576; "
        "refusing to serve one of the two layouts"
    )


def test_fencing() -> None:
    assert [accepts(0, 5), accepts(5, 5), accepts(5, 0), accepts(5, 6)] == [True, True, False, False]
    assert [is_older(0, 5), is_older(4, 5), is_older(5, 5)] == [False, True, False]
