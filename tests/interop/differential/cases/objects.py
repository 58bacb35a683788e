"""Objects that are empty, deleted, large, or with a TTL (http.md 3.3)."""

from __future__ import annotations

from tests.interop.differential.kit import TS, delete, fid, get, head, put
from tests.interop.differential.servers import PLAIN, READ_ONLY, WITH_TTL

EMPTY, DELETED, LARGE, TTL = (fid(0x0B01 + number) for number in range(4))
OTHER = "aaaaaaab"
LONG = bytes(range(256)) * 9000

CASES = [
    put("store empty", f"{EMPTY}?{TS}", b"", "Content-Type: text/css", "Seaweed-A: b"),
    get("empty", EMPTY),
    get("empty, another cookie", fid(0x0B01, PLAIN, OTHER)),
    get("empty, by name", EMPTY.replace(",", "/") + "/a.css?dl=1"),
    get("empty, overrides", f"{EMPTY}?response-content-type=a/b"),
    head("empty, head", EMPTY),
    get("empty, compressed wanted", EMPTY, "Accept-Encoding: gzip"),
    put("empty, unchanged", f"{EMPTY}?{TS}", b""),
    put("empty, another cookie, put", f"{fid(0x0B01, PLAIN, OTHER)}?{TS}", b""),
    put("empty, filled", f"{EMPTY}?{TS}", b"x"),
    get("no longer empty", EMPTY),
    put("emptied", f"{EMPTY}?{TS}", b""),
    get("emptied, read", EMPTY),
    delete("empty, delete with another cookie", fid(0x0B01, PLAIN, OTHER)),
    get("empty, deleted", EMPTY),
    # deleted
    put("store", f"{DELETED}?{TS}", b"deleted", "Content-Type: text/x", "Seaweed-A: b"),
    get("not deleted yet, asked for", f"{DELETED}?readDeleted=true"),
    delete("delete", DELETED),
    get("deleted", DELETED),
    head("deleted, head", DELETED),
    *[get(f"readDeleted={value}", f"{DELETED}?readDeleted={value}") for value in ("true", "True", "1", "")],
    get("readdeleted in other letters", f"{DELETED}?readdeleted=true"),
    head("readDeleted, head", f"{DELETED}?readDeleted=true"),
    get("readDeleted, another cookie", f"{fid(0x0B02, PLAIN, OTHER)}?readDeleted=true"),
    get("readDeleted, range", f"{DELETED}?readDeleted=true", "Range: bytes=1-2"),
    get("readDeleted, never there", f"{fid(0x0B99)}?readDeleted=true"),
    put("another cookie after the delete", f"{fid(0x0B02, PLAIN, OTHER)}?{TS}", b"other"),
    put("the same again", f"{DELETED}?{TS}", b"deleted"),
    get("there again", DELETED),
    # cookies
    get("another cookie", fid(0x0B02, PLAIN, OTHER)),
    head("another cookie, head", fid(0x0B02, PLAIN, OTHER)),
    put("another cookie, put", fid(0x0B02, PLAIN, OTHER), b"deleted"),
    put("another cookie with zeros, put", fid(0x0B02, PLAIN, "00000012"), b"deleted"),
    put("cookie of zeros, put", f"{fid(0x0B08, PLAIN, '00000000')}?{TS}", b"zero"),
    get("cookie of zeros", fid(0x0B08, PLAIN, "00000000")),
    put("cookie in upper case, put", f"{fid(0x0B02, PLAIN, 'AAAAAAAA')}?{TS}", b"deleted"),
    # large
    put("store large", f"{LARGE}?{TS}", LONG, "Content-Type: image/x", "Seaweed-A: b"),
    get("large", LARGE),
    head("large, head", LARGE),
    get("large, by name", LARGE.replace(",", "/") + "/a%20b.css?dl=1"),
    get("large, another cookie", fid(0x0B03, PLAIN, OTHER)),
    get("large, modified since", LARGE, "If-Modified-Since: Wed, 15 Nov 2023 00:00:00 GMT"),
    put("large, unchanged", f"{LARGE}?{TS}", LONG),
    put("large, changed", f"{LARGE}?{TS}", LONG[:-1]),
    get("large, changed, read", LARGE, "Range: bytes=-3"),
    delete("large, delete", LARGE),
    get("large, readDeleted", f"{LARGE}?readDeleted=true"),
    # TTL
    put("store with a TTL", f"{TTL}?{TS}&ttl=7d", b"ttl"),
    get("with a TTL", TTL),
    put("with a TTL, unchanged", f"{TTL}?{TS}&ttl=7d", b"ttl"),
    delete("with a TTL, delete", TTL),
    get("with a TTL, readDeleted", f"{TTL}?readDeleted=true"),
    put("volume with a TTL", f"{fid(0x0B10, WITH_TTL)}?{TS}", b"ttl"),
    put("volume with a TTL, the same again", f"{fid(0x0B10, WITH_TTL)}?{TS}", b"ttl"),
    get("volume with a TTL, read", fid(0x0B10, WITH_TTL)),
    put("volume with a TTL, own TTL", f"{fid(0x0B11, WITH_TTL)}?{TS}&ttl=1m", b"ttl"),
    delete("volume with a TTL, size", fid(0x0B10, WITH_TTL)),
    # read-only
    get("read-only", fid(1, READ_ONLY)),
    put("read-only, put", f"{fid(1, READ_ONLY)}?{TS}", b"other"),
    put("read-only, unchanged", f"{fid(1, READ_ONLY)}?{TS}", b"kept"),
    put("read-only, new", f"{fid(0x0B20, READ_ONLY)}?{TS}", b"new"),
    put("read-only, another cookie", f"{fid(1, READ_ONLY, OTHER)}?{TS}", b"other"),
    put("read-only, replicated", f"{fid(1, READ_ONLY)}?type=replicate", b"other"),
    put("read-only, pretty", f"{fid(1, READ_ONLY)}?pretty=y", b"other"),
    delete("read-only, delete", fid(1, READ_ONLY)),
    delete("read-only, delete pretty", f"{fid(1, READ_ONLY)}?pretty=y"),
    delete("read-only, delete empty", fid(2, READ_ONLY)),
    delete("read-only, delete unknown", fid(0x0B20, READ_ONLY)),
    delete("read-only, delete with another cookie", fid(1, READ_ONLY, OTHER)),
    get("read-only, still there", fid(1, READ_ONLY)),
]
