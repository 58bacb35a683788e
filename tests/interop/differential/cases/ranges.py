"""Range requests (http.md 3.10)."""

from __future__ import annotations

from tests.interop.differential.kit import TS, fid, get, head, put

FILE, TYPED, EMPTY, LARGE = (fid(0x0901 + number) for number in range(4))
DATA = b"0123456789abcdef"
LONG = bytes(range(256)) * 6000
UNITS = (
    "bytes=0-3", "Bytes=0-3", "bytes =0-3", "bytes= 0-3", " bytes=0-3", "items=0-3", "bytes:0-3", "0-3", "bytes",
    "bytes0-3",
)  # fmt: skip
SINGLE = (
    "bytes=0-0", "bytes=15-15", "bytes=5-", "bytes=0-", "bytes=15-", "bytes=16-", "bytes=17-", "bytes=16-20",
    "bytes=14-100", "bytes=5-4", "bytes=20-10", "bytes=20-x", "bytes=0 - 3", "bytes=\t0-\t3", "bytes=0--3",
    "bytes=0-3-5", "bytes=+0-+3", "bytes=-0-3", "bytes=0x1-3", "bytes=1_0-12", "bytes=00-03", "bytes=1.5-3",
    "bytes=a-b", "bytes=0-b", "bytes=0-9223372036854775807", "bytes=0-9223372036854775808",
    "bytes=9223372036854775807-", "bytes=9223372036854775808-", "bytes=00000000000000000000003-4",
    "bytes=0-00000000000000000000003",
)  # fmt: skip
FROM_THE_END = (
    "bytes=-1", "bytes=-16", "bytes=-17", "bytes=-0", "bytes=-", "bytes=-x", "bytes=--5", "bytes=-+5", "bytes=- 5",
    "bytes=-9223372036854775808", "bytes= -5",
)  # fmt: skip
SEVERAL = (
    "bytes=", "bytes=,", "bytes= , ,", "bytes=0-1,4-5", "bytes=0-1, 4-5", "bytes=0-1,,4-5,", "bytes=4-5,0-1",
    "bytes=0-1,0-1", "bytes=0-10,5-15", "bytes=0-7,8-15", "bytes=0-7,7-15", "bytes=0-1,16-20", "bytes=16-20,30-",
    "bytes=0-1,x", "bytes=x,16-", "bytes=0-1,-0", "bytes=-0,-0", "bytes=-1,-2,-3", "bytes=0-1,20-10",
    "bytes=0-0,1-1,2-2,3-3,4-4,5-5,6-6,7-7", "bytes=0-1;4-5",
)  # fmt: skip
OF_LARGE = (
    "bytes=0-99", "bytes=1048570-1048600", "bytes=-5", "bytes=1500000-", "bytes=0-1,1048575-1048577,1535999-",
    "bytes=1536000-", "bytes=x", "bytes=1-1535998", "bytes=-0", "bytes=", "bytes=0-1000000,500000-1500000",
)  # fmt: skip
OF_NOTHING = ("bytes=0-", "bytes=0-0", "bytes=-1", "bytes=-0", "bytes=", "bytes=x")

CASES = [
    put("store", f"{FILE}?{TS}", DATA, "Content-Type: application/octet-stream"),
    put("store typed", f"{TYPED}?{TS}", DATA, "Content-Type: my/type"),
    put("store empty", f"{EMPTY}?{TS}", b""),
    put("store large", f"{LARGE}?{TS}", LONG),
    *[get(repr(value), FILE, f"Range: {value}") for value in UNITS + SINGLE + FROM_THE_END + SEVERAL],
    get("empty header", FILE, "Range:"),
    get("two headers", FILE, "Range: bytes=0-1", "Range: bytes=4-5"),
    head("head", FILE, "Range: bytes=0-1"),
    head("head, bad", FILE, "Range: bytes=x"),
    get("typed, one", TYPED, "Range: bytes=0-1"),
    get("typed, several", TYPED, "Range: bytes=0-1,4-5"),
    get("typed, none", TYPED, "Range: bytes="),
    get("typed, bad", TYPED, "Range: bytes=x"),
    get("typed, behind the end", TYPED, "Range: bytes=99-"),
    get("named, bad", TYPED.replace(",", "/") + "/a.css?dl=1", "Range: bytes=x"),
    *[get(f"of nothing {value}", EMPTY, f"Range: {value}") for value in OF_NOTHING],
    get("large, whole", LARGE),
    head("large, head", LARGE),
    *[get(f"large {value}", LARGE, f"Range: {value}") for value in OF_LARGE],
]
