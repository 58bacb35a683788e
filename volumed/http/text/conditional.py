"""ETag, Last-Modified and the 304 decision (http.md 3.4)."""

from __future__ import annotations

import calendar
import re
import time
from functools import lru_cache

__all__ = ["format_etag", "format_http_date", "not_modified", "parse_http_date"]

_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_MONTH_NUMBERS = {name.lower(): number for number, name in enumerate(_MONTHS, 1)}
_DAY_S = 86400

# COMPAT: the reference accepts names in any letter case, more blanks, one-digit hours and fractions of a second.
_HTTP_DATE = re.compile(
    rf"(?i:{'|'.join(_DAYS)}), +([0-9]{{2}}) +((?i:{'|'.join(_MONTHS)})) +([0-9]{{4}}) +"
    r"([0-9]{1,2}):([0-9]{2}):([0-9]{2})(?:[.,][0-9]+)? +GMT"
)


def format_etag(checksum: int) -> bytes:
    """The quoted ETag of a stored CRC-32C."""
    return b'"%08x"' % checksum


def format_http_date(seconds: int) -> bytes:
    """Unix seconds as `Mon, 02 Jan 2006 15:04:05 GMT`."""
    day, second = divmod(seconds, _DAY_S)
    return b"%b %02d:%02d:%02d GMT" % (_format_day(day), second // 3600, second // 60 % 60, second % 60)


@lru_cache(maxsize=4096)
def _format_day(day: int) -> bytes:
    moment = time.gmtime(day * _DAY_S)
    weekday, month = _DAYS[moment.tm_wday], _MONTHS[moment.tm_mon - 1]
    return f"{weekday}, {moment.tm_mday:02d} {month} {moment.tm_year:04d}".encode()


def parse_http_date(raw: bytes) -> int | None:
    """Unix seconds of a date in the one accepted format, None for anything else.

    The weekday need not fit the date.
    """
    match = _HTTP_DATE.fullmatch(raw.decode("latin-1"))
    if not match:
        return None
    day, year, hour, minute, second = map(int, match.group(1, 3, 4, 5, 6))
    month = _MONTH_NUMBERS[match[2].lower()]
    if year < 1 or hour > 23 or minute > 59 or second > 59:
        return None
    if not 1 <= day <= calendar.monthrange(year, month)[1]:
        return None
    return calendar.timegm((year, month, day, hour, minute, second))


def not_modified(headers: dict[bytes, bytes], etag: bytes, last_modified: int) -> bool:
    """Whether to answer 304; `last_modified` 0 means unknown.

    COMPAT: `If-Modified-Since` decides first, even when `If-None-Match` differs; lists, `*` and weak tags
    never match.
    """
    since = headers.get(b"if-modified-since")
    if since and last_modified:
        moment = parse_http_date(since)
        if moment is not None and moment >= last_modified:
            return True
    return headers.get(b"if-none-match") == etag
