"""Range requests (http.md 3.10)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.http.text.ranges import ByteRange, RangeKind, RangeSet, content_range, frame_ranges, parse_range

INVALID = RangeSet(RangeKind.INVALID)
NO_OVERLAP = RangeSet(RangeKind.NO_OVERLAP)
EMPTY = RangeSet(RangeKind.EMPTY)


def partial(*ranges: tuple[int, int]) -> RangeSet:
    return RangeSet(RangeKind.PARTIAL, tuple(ByteRange(*item) for item in ranges))


SIXTEEN_BYTES = [
    ("bytes=0-3", partial((0, 4))),
    ("bytes=5-", partial((5, 11))),
    ("bytes=15-", partial((15, 1))),
    ("bytes=0-15", partial((0, 16))),
    ("bytes=0-99", partial((0, 16))),
    ("bytes=-3", partial((13, 3))),
    ("bytes=-99", partial((0, 16))),
    ("bytes=-0", partial((16, 0))),
    ("bytes=-0,0-1", partial((16, 0), (0, 2))),
    ("bytes=+1-+3", partial((1, 3))),
    ("bytes=-+3", partial((13, 3))),
    ("bytes= 1 - 3 ", partial((1, 3))),
    ("bytes=\t1-2", partial((1, 2))),
    ("bytes=,,1-2,", partial((1, 2))),
    ("bytes=0-1,4-5", partial((0, 2), (4, 2))),
    ("bytes=0-0,0-0", partial((0, 1), (0, 1))),
    ("bytes=0-1,99-", partial((0, 2))),
    ("bytes=", EMPTY),
    ("bytes=,", EMPTY),
    ("bytes=0-10,5-15", EMPTY),
    ("bytes=-99,-99", EMPTY),
    ("bytes=16-", NO_OVERLAP),
    ("bytes=99-zz", NO_OVERLAP),
    ("bytes=99-5", NO_OVERLAP),
    ("bytes=-", INVALID),
    ("bytes=--5", INVALID),
    ("bytes=1", INVALID),
    ("bytes=1-0", INVALID),
    ("bytes=0-0,zz", INVALID),
    ("bytes=99-,zz", INVALID),
    ("bytes=0x1-", INVALID),
    ("bytes=1_0-", INVALID),
    ("bytes=0-99999999999999999999", INVALID),
    ("bytes=99999999999999999999-", INVALID),
    ("bytes=\u0661-", INVALID),
    ("bytes =0-1", INVALID),
    ("Bytes=0-1", INVALID),
    ("items=0-1", INVALID),
    ("bytes", INVALID),
]


@pytest.mark.parametrize(("header", "expected"), SIXTEEN_BYTES)
def test_parse(header: str, expected: RangeSet) -> None:
    assert parse_range(header.encode(), 16) == expected


def test_an_empty_file_overlaps_with_nothing_but_a_suffix() -> None:
    assert parse_range(b"bytes=0-", 0) == NO_OVERLAP
    assert parse_range(b"bytes=-1", 0) == partial((0, 0))


NUMBER = st.one_of(st.just(""), st.integers(-5, 40).map(str), st.text(max_size=3))
HEADER = st.lists(st.builds("{}-{}".format, NUMBER, NUMBER), max_size=4).map(lambda items: "bytes=" + ",".join(items))


@given(HEADER, st.integers(0, 30))
def test_parts_lie_inside_the_whole_and_do_not_exceed_it(header: str, size: int) -> None:
    parsed = parse_range(header.encode("utf-8", "surrogatepass"), size)
    assert (parsed.kind is RangeKind.PARTIAL) == bool(parsed.ranges)
    assert sum(item.length for item in parsed.ranges) <= size
    for item in parsed.ranges:
        assert 0 <= item.start <= item.start + item.length <= size


@given(st.binary(max_size=30))
def test_parse_never_raises(raw: bytes) -> None:
    parse_range(raw, 100)


def test_a_head_cannot_ask_for_very_many_parts() -> None:
    assert parse_range(b"bytes=" + b",".join([b"0-0"] * 1000), 1 << 20).kind is RangeKind.PARTIAL
    assert parse_range(b"bytes=" + b",".join([b"0-0"] * 1001), 1 << 20) == INVALID


def test_content_range() -> None:
    assert content_range(ByteRange(1, 3), 16) == b"bytes 1-3/16"
    assert content_range(ByteRange(16, 0), 16) == b"bytes 16-15/16"


def test_multipart_framing_is_that_of_the_specification() -> None:
    boundary = b"0123456789" * 6
    framed = frame_ranges((ByteRange(0, 2), ByteRange(4, 2)), 16, b"", boundary)
    data = b"0123456789abcdef"
    body = b"".join(
        part if isinstance(part, bytes) else data[part.start : part.start + part.length] for part in framed.segments
    )
    assert body == (
        b"--%b\r\nContent-Range: bytes 0-1/16\r\nContent-Type: \r\n\r\n01\r\n"
        b"--%b\r\nContent-Range: bytes 4-5/16\r\nContent-Type: \r\n\r\n45\r\n--%b--\r\n"
    ) % (boundary, boundary, boundary)
    assert framed.length == len(body) == 296
    assert framed.content_type == b"multipart/byteranges; boundary=" + boundary
