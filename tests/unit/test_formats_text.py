"""Numbers, file ids, TTL, replication and names in text."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volumed.errors import FormatError
from volumed.formats.fileid import (
    FileId,
    format_file_id,
    format_key_cookie,
    parse_batch_file_id,
    parse_key_cookie,
    parse_volume_id,
)
from volumed.formats.numbers import atoi, go_text, parse_uint, quote
from volumed.formats.replication import ReplicaPlacement
from volumed.formats.ttl import NO_TTL, Ttl, parse_ttl
from volumed.formats.volumename import (
    check_collection,
    display_disk_type,
    format_base_name,
    normalize_disk_type,
    parse_base_name,
)

property_test = settings(deadline=None)
u32 = st.integers(0, 2**32 - 1)
u64 = st.integers(0, 2**64 - 1)


def refusal(parse: Callable[[str], object], text: str) -> str:
    with pytest.raises(FormatError) as failure:
        parse(text)
    return failure.value.text


@pytest.mark.parametrize(
    ("text", "quoted"),
    [
        ("abc", '"abc"'),
        ('a"b\\', r'"a\"b\\"'),
        ("\a\b\f\n\r\t\v", r'"\a\b\f\n\r\t\v"'),
        ("\x00\x1f\x7f", r'"\x00\x1f\x7f"'),
        ("é世", '"é世"'),
        ("\u200b\ue000", r'"\u200b\ue000"'),
        ("\U000e0001", r'"\U000e0001"'),
        (go_text(b"3\xc2"), r'"3\xc2"'),
    ],
)
def test_quote(text: str, quoted: str) -> None:
    assert quote(text) == quoted


@pytest.mark.parametrize("text", ["0", "7", "007", str(2**64 - 1), "0" * 40 + "1"])
def test_parse_uint(text: str) -> None:
    assert parse_uint(text) == int(text)


@pytest.mark.parametrize("text", ["", " 1", "1 ", "+1", "-1", "1_0", "0x1", "a", "１"])
def test_parse_uint_syntax(text: str) -> None:
    assert refusal(parse_uint, text) == f'strconv.ParseUint: parsing "{text}": invalid syntax'


@pytest.mark.parametrize("text", [str(2**64), "9" * 30, "9" * 30 + "x", "9" * 6000])
def test_parse_uint_range(text: str) -> None:
    assert refusal(parse_uint, text) == f'strconv.ParseUint: parsing "{text}": value out of range'


@pytest.mark.parametrize("text", ["0", "-0", "+5", "-5", str(2**63 - 1), str(-(2**63))])
def test_atoi(text: str) -> None:
    assert atoi(text) == int(text)


@pytest.mark.parametrize("text", ["", "-", "+", "--1", "1.5", "0x5"])
def test_atoi_syntax(text: str) -> None:
    assert refusal(atoi, text) == f'strconv.Atoi: parsing "{text}": invalid syntax'


@pytest.mark.parametrize("text", [str(2**63), str(-(2**63) - 1), "99999999999999999999x"])
def test_atoi_range(text: str) -> None:
    assert refusal(atoi, text) == f'strconv.Atoi: parsing "{text}": value out of range'


@pytest.mark.parametrize(
    ("text", "volume_id"),
    [("0", 0), ("51", 51), ("049", 49), ("4294967295", 4294967295), ("4294967297", 1)],
)
def test_volume_id(text: str, volume_id: int) -> None:
    assert parse_volume_id(text) == volume_id


def test_volume_id_refused() -> None:
    assert refusal(parse_volume_id, "x") == 'strconv.ParseUint: parsing "x": invalid syntax'


@pytest.mark.parametrize(
    ("text", "key", "cookie"),
    [
        ("01637037d6", 1, 0x637037D6),
        ("1637037d6", 1, 0x637037D6),
        ("01637037D6", 1, 0x637037D6),
        ("01637037d6_2", 3, 0x637037D6),
        ("01637037d6_", 1, 0x637037D6),
        ("0000000000000000ffffffff", 0, 0xFFFFFFFF),
        ("ffffffffffffffff00000000", 2**64 - 1, 0),
        ("fffffffffffffffe00000000_1", 2**64 - 1, 0),
    ],
)
def test_key_cookie(text: str, key: int, cookie: int) -> None:
    assert parse_key_cookie(text) == (key, cookie)


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", "Invalid fid: "),
        ("12345678", "Invalid fid: 12345678"),
        ("1234567_", "Invalid fid: 1234567_"),
        ("1234567_1", "KeyHash is too short."),
        ("0" * 25, "KeyHash is too long."),
        (
            "xy637037d6",
            'Parse needleId error: needle id xy format error: strconv.ParseUint: parsing "xy": invalid syntax',
        ),
        (
            "0x1637037d6",
            'Parse needleId error: needle id 0x1 format error: strconv.ParseUint: parsing "0x1": invalid syntax',
        ),
        (
            "_1637037d6",
            'Parse needleId error: needle id _1 format error: strconv.ParseUint: parsing "_1": invalid syntax',
        ),
        (
            "01637037dx",
            "Parse cookie error: needle cookie 637037dx format error: "
            'strconv.ParseUint: parsing "637037dx": invalid syntax',
        ),
        ("01637037d6_x", 'strconv.ParseUint: parsing "x": invalid syntax'),
        ("01637037d6_-1", 'strconv.ParseUint: parsing "-1": invalid syntax'),
        (
            "01637037d6_18446744073709551616",
            'strconv.ParseUint: parsing "18446744073709551616": value out of range',
        ),
        ("01637037d6_18446744073709551615", "delta 18446744073709551615 overflows needle id 31"),
        ("ffffffffffffffff637037d6_1", f"delta 1 overflows needle id {'66' * 16}"),
    ],
)
def test_key_cookie_refused(text: str, error: str) -> None:
    assert refusal(parse_key_cookie, text) == error


def test_without_delta_the_suffix_is_part_of_the_id() -> None:
    def parse(text: str) -> object:
        return parse_key_cookie(text, with_delta=False)

    assert parse("01637037d6") == (1, 0x637037D6)
    assert refusal(parse, "1234") == "KeyHash is too short."
    assert refusal(parse, "01637037d6_2") == (
        'Parse cookie error: needle cookie 7037d6_2 format error: strconv.ParseUint: parsing "7037d6_2": invalid syntax'
    )


@pytest.mark.parametrize(
    ("key", "cookie", "text"),
    [(1, 0x637037D6, "01637037d6"), (0x100, 1, "010000000001"), (0, 0xAB, "000000ab"), (0xFFF, 0, "0fff00000000")],
)
def test_format_key_cookie(key: int, cookie: int, text: str) -> None:
    assert format_key_cookie(key, cookie) == text
    assert format_file_id(3, key, cookie) == str(FileId(3, key, cookie)) == f"3,{text}"


@property_test
@given(u32, st.integers(1, 2**64 - 1), u32)
def test_file_id_round_trip(volume_id: int, key: int, cookie: int) -> None:
    file_id = FileId(volume_id, key, cookie)
    assert parse_batch_file_id(str(file_id)) == file_id


@pytest.mark.parametrize("text", ["", "3", "301637037d6", ",01637037d6"])
def test_batch_file_id_without_comma(text: str) -> None:
    assert refusal(parse_batch_file_id, text) == "Wrong fid format."


def test_batch_file_id_splits_at_the_first_comma_and_forgives_the_volume() -> None:
    assert parse_batch_file_id("x,01637037d6") == FileId(0, 1, 0x637037D6)
    assert refusal(parse_batch_file_id, "1,2,01637037d6").startswith("Parse needleId error: needle id 2,01 ")


def test_ttl_values() -> None:
    assert Ttl(3, 2).minutes == 180
    assert Ttl(3, 2).seconds == 10800
    assert Ttl(1, 6).minutes == 525600
    assert Ttl.from_bytes(b"\x03\x02") == Ttl(3, 2) == Ttl.from_u32(0x302)
    assert Ttl(3, 2)
    assert not NO_TTL


def test_ttl_of_an_unknown_unit_is_kept_but_means_nothing() -> None:
    odd = Ttl.from_bytes(b"\x05\x09")
    assert odd.to_bytes() == b"\x05\x09"
    assert (odd.minutes, str(odd), bool(odd)) == (0, "", False)
    assert odd.to_u32() == 0x509


def test_ttl_without_count_travels_as_zero() -> None:
    assert Ttl(0, 2).to_u32() == 0
    assert Ttl.from_u32(0xFFFF0302) == Ttl(3, 2)


def test_ttl_text_ends_in_the_middle_of_a_character() -> None:
    assert refusal(parse_ttl, "3µ") == r'strconv.Atoi: parsing "3\xc2": invalid syntax'


@property_test
@given(st.integers(1, 255), st.sampled_from("mhdwMy"))
def test_ttl_text_is_stable_once_normalised(count: int, letter: str) -> None:
    ttl = parse_ttl(f"{count}{letter}")
    assert ttl.minutes == Ttl(count, "mhdwMy".index(letter) + 1).minutes
    assert parse_ttl(str(ttl)) == ttl


@pytest.mark.parametrize("byte", range(256))
def test_replication_bytes(byte: int) -> None:
    placement = ReplicaPlacement.from_byte(byte)
    assert placement.byte == byte
    assert ReplicaPlacement.parse(str(placement)) == placement


def test_replication_copies() -> None:
    assert ReplicaPlacement.parse("012").copies == 4
    assert ReplicaPlacement.from_byte(0xFF).copies == 13
    assert str(ReplicaPlacement.from_byte(0xFF)) == "255"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("/", "unknown replication type: 00/"),
        ("3-", "unknown replication type: 03-"),
        ("000/", "unknown replication type: 000/"),
        ("é", "unexpected replication type: 0é"),
        ("00:", "unexpected replication type: 00:"),
        ("256", "unexpected replication type: 256"),
    ],
)
def test_replication_refused(text: str, error: str) -> None:
    assert refusal(ReplicaPlacement.parse, text) == error


@pytest.mark.parametrize(
    ("name", "parsed"),
    [
        ("51", ("", 51)),
        ("pics_51", ("pics", 51)),
        ("a_b_9", ("a_b", 9)),
        ("__9", ("_", 9)),
        ("4294967295", ("", 4294967295)),
        ("_51", None),
        ("abc", None),
        ("", None),
        ("pics_", None),
        ("049", None),
        ("pics_049", None),
        ("4294967297", None),
        ("pics_+1", None),
    ],
)
def test_base_name(name: str, parsed: tuple[str, int] | None) -> None:
    assert parse_base_name(name) == parsed
    if parsed:
        assert format_base_name(*parsed) == name


@pytest.mark.parametrize("name", ["..", ".", "../x", "a/b", "a\\b", "a\0"])
def test_collection_refused(name: str) -> None:
    assert refusal(check_collection, name) == f"invalid collection {quote(name)}"


@pytest.mark.parametrize("name", ["", "pics", "a_b", "...", "ünï"])
def test_collection_accepted(name: str) -> None:
    check_collection(name)


@pytest.mark.parametrize(
    ("text", "disk_type", "shown"),
    [("", "", "hdd"), ("hdd", "", "hdd"), ("HDD", "", "hdd"), ("SSD", "ssd", "ssd"), ("x", "x", "x")],
)
def test_disk_type(text: str, disk_type: str, shown: str) -> None:
    assert normalize_disk_type(text) == disk_type
    assert display_disk_type(disk_type) == shown


@property_test
@given(st.binary(max_size=40))
def test_nothing_but_format_errors_escapes(raw: bytes) -> None:
    text = go_text(raw)
    for parse in (
        parse_uint,
        atoi,
        parse_volume_id,
        parse_key_cookie,
        parse_batch_file_id,
        parse_ttl,
        ReplicaPlacement.parse,
        check_collection,
    ):
        with contextlib.suppress(FormatError):
            parse(text)
    parse_base_name(text)
    normalize_disk_type(text)
