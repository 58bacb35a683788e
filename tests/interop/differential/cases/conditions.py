"""ETag, Last-Modified and conditional requests (http.md 3.4)."""

from __future__ import annotations

from tests.interop.differential.kit import TS, WHEN, Case, fid, get, head, put

FILE, EMPTY, EARLY = fid(0x0401), fid(0x0402), fid(0x0403)
TAG = '"4426bf4e"'


def since(name: str, value: str, *headers: str) -> Case:
    return get(f"modified since {name}", FILE, f"If-Modified-Since: {value}", *headers)


CASES = [
    put("store", f"{FILE}?{TS}", b"needle"),
    put("store empty", f"{EMPTY}?{TS}", b""),
    put("store early", f"{EARLY}?ts=1", b"early"),
    get("the tag", FILE),
    get("an early time", EARLY),
    since("then", WHEN),
    since("a second before", "Tue, 14 Nov 2023 22:13:19 GMT"),
    since("later", "Wed, 15 Nov 2023 00:00:00 GMT"),
    since("another weekday", WHEN.replace("Tue", "Mon")),
    since("no weekday", "14 Nov 2023 22:13:20 GMT"),
    since("unknown weekday", WHEN.replace("Tue", "Foo")),
    since("long weekday", "Tuesday, 14-Nov-23 22:13:20 GMT"),
    since("asctime", "Tue Nov 14 22:13:20 2023"),
    since("iso", "2023-11-14T22:13:20Z"),
    since("seconds", "1700000000"),
    since("lower case", WHEN.lower()),
    since("upper case", WHEN.upper()),
    since("mixed case", "tUE, 14 nOV 2023 22:13:20 GMT"),
    since("UTC", WHEN.replace("GMT", "UTC")),
    since("an offset", WHEN.replace("GMT", "+0000")),
    since("one-digit day", "Tue, 5 Dec 2023 22:13:20 GMT"),
    since("one-digit hour", "Wed, 15 Nov 2023 2:13:20 GMT"),
    since("one-digit minute", "Wed, 15 Nov 2023 22:3:20 GMT"),
    since("day 0", "Wed, 00 Dec 2023 22:13:20 GMT"),
    since("day 31 of November", "Thu, 31 Nov 2023 22:13:20 GMT"),
    since("a leap day", "Thu, 29 Feb 2024 22:13:20 GMT"),
    since("no leap day", "Thu, 29 Feb 2025 22:13:20 GMT"),
    since("hour 24", "Wed, 15 Nov 2023 24:00:00 GMT"),
    since("second 60", "Wed, 15 Nov 2023 22:13:60 GMT"),
    since("a fraction", "Wed, 15 Nov 2023 22:13:20.5 GMT"),
    since("year 0", "Wed, 15 Nov 0000 22:13:20 GMT"),
    since("year 9999", "Wed, 15 Nov 9999 22:13:20 GMT"),
    since("two-digit year", "Wed, 15 Nov 24 22:13:20 GMT"),
    since("two blanks", WHEN.replace(", ", ",  ")),
    since("blanks around", f"  {WHEN}  "),
    since("something behind", f"{WHEN} x"),
    since("nothing", ""),
    since("then, on head", WHEN, "X: y"),
    head("head, modified since", FILE, f"If-Modified-Since: {WHEN}"),
    get("twice, the first counts", FILE, f"If-Modified-Since: {WHEN}", "If-Modified-Since: x"),
    get("both, time fits", FILE, f"If-Modified-Since: {WHEN}", 'If-None-Match: "other"'),
    get("both, tag fits", FILE, "If-Modified-Since: Tue, 14 Nov 2023 22:13:19 GMT", f"If-None-Match: {TAG}"),
    get("tag", FILE, f"If-None-Match: {TAG}"),
    head("tag, head", FILE, f"If-None-Match: {TAG}"),
    get("tag and range", FILE, f"If-None-Match: {TAG}", "Range: bytes=0-1"),
    get("tag without quotes", FILE, f"If-None-Match: {TAG[1:-1]}"),
    get("tag in upper case", FILE, f"If-None-Match: {TAG.upper()}"),
    get("weak tag", FILE, f"If-None-Match: W/{TAG}"),
    get("list of tags", FILE, f'If-None-Match: "x", {TAG}'),
    get("star", FILE, "If-None-Match: *"),
    get("two headers, first fits", FILE, f"If-None-Match: {TAG}", 'If-None-Match: "x"'),
    get("two headers, second fits", FILE, 'If-None-Match: "x"', f"If-None-Match: {TAG}"),
    get("if match", FILE, 'If-Match: "x"'),
    get("if unmodified since", FILE, "If-Unmodified-Since: Thu, 01 Jan 1970 00:00:00 GMT"),
    get("if range", FILE, 'If-Range: "x"', "Range: bytes=0-1"),
    get("empty, tag", EMPTY, 'If-None-Match: "00000000"'),
    get("empty, time", EMPTY, f"If-Modified-Since: {WHEN}"),
    get("another cookie, tag", FILE.replace("aaaaaaaa", "aaaaaaab"), f"If-None-Match: {TAG}"),
    get("conditional with overrides", f"{FILE}?response-content-type=a/b&dl=1", f"If-None-Match: {TAG}"),
]
