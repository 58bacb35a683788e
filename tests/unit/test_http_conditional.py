"""Dates, ETags and the 304 decision (http.md 3.4)."""

import calendar
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volumed.http.text.conditional import format_etag, format_http_date, not_modified, parse_http_date

STORED = 1700000000
STORED_TEXT = b"Tue, 14 Nov 2023 22:13:20 GMT"
ETAG = b'"42d3119e"'


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (STORED, STORED_TEXT),
        (5, b"Thu, 01 Jan 1970 00:00:05 GMT"),
        (253402300800, b"Sat, 01 Jan 10000 00:00:00 GMT"),
        (1099511627775, b"Mon, 20 Feb 36812 00:36:15 GMT"),
    ],
)
def test_format(seconds: int, text: bytes) -> None:
    assert format_http_date(seconds) == text


@given(st.integers(0, 253402300799))
def test_dates_of_four_digit_years_round_trip(seconds: int) -> None:
    text = format_http_date(seconds)
    assert parse_http_date(text) == seconds
    assert calendar.timegm(time.strptime(text.decode(), "%a, %d %b %Y %H:%M:%S GMT")) == seconds


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (b"Mon, 14 Nov 2023 22:13:20 GMT", STORED),
        (b"tue, 14 nov 2023 22:13:20 GMT", STORED),
        (b"Tue, 14 Nov 2023 2:13:20 GMT", STORED - 20 * 3600),
        (b"Tue, 14 Nov 2023 22:13:20.9 GMT", STORED),
        (b"Thu, 29 Feb 2024 00:00:00 GMT", 1709164800),
        (b"Thu, 29 Feb 2023 00:00:00 GMT", None),
        (b"Tue, 31 Nov 2023 22:13:20 GMT", None),
        (b"Tue, 00 Nov 2023 22:13:20 GMT", None),
        (b"Tue, 14 Nov 2023 24:13:20 GMT", None),
        (b"Tue, 14 Nov 2023 22:60:20 GMT", None),
        (b"Tue, 14 Nov 2023 22:13:60 GMT", None),
        (b"Tue, 14 Nov 0000 22:13:20 GMT", None),
        (b"Tue, 4 Nov 2023 22:13:20 GMT", None),
        (b"Tue, 14 Nov 2023 22:13:20 gmt", None),
        (b"Tue, 14 Nov 2023 22:13:20 UTC", None),
        (b"Tuesday, 14-Nov-23 22:13:20 GMT", None),
        (b"Tue Nov 14 22:13:20 2023", None),
        (b" Tue, 14 Nov 2023 22:13:20 GMT", None),
        (b"\xff", None),
        (b"", None),
    ],
)
def test_parse(text: bytes, seconds: int | None) -> None:
    assert parse_http_date(text) == seconds


@given(st.binary(max_size=40))
def test_parse_never_raises(raw: bytes) -> None:
    parse_http_date(raw)


def test_etag_keeps_leading_zeros() -> None:
    assert format_etag(0x1F) == b'"0000001f"'


AFTER = b"Tue, 14 Nov 2023 22:13:21 GMT"
BEFORE = b"Tue, 14 Nov 2023 22:13:19 GMT"


@pytest.mark.parametrize(
    ("since", "none_match", "expected"),
    [
        (None, None, False),
        (STORED_TEXT, None, True),
        (AFTER, None, True),
        (BEFORE, None, False),
        (b"garbage", None, False),
        (AFTER, b'"00000000"', True),
        (BEFORE, ETAG, True),
        (None, ETAG, True),
        (None, ETAG.strip(b'"'), False),
        (None, b"W/" + ETAG, False),
        (None, b"*", False),
        (None, ETAG + b", " + ETAG, False),
    ],
)
def test_not_modified(since: bytes | None, none_match: bytes | None, expected: bool) -> None:
    headers = {b"if-modified-since": since, b"if-none-match": none_match}
    present = {name: value for name, value in headers.items() if value is not None}
    assert not_modified(present, ETAG, STORED) is expected


def test_an_unknown_time_is_never_unmodified() -> None:
    assert not not_modified({b"if-modified-since": AFTER}, ETAG, 0)
