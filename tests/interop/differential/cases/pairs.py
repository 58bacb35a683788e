"""Stored pairs: request headers `Seaweed-…` that come back as headers (http.md 3.5 and 4.3)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.interop.differential.kit import TS, Case, fid, form, get, head, put

FRAMING = ("Connection: close", "Content-Length: 3", "Keep-Alive: x", "Te: x", "Trailer: x", "Upgrade: x")


def stored(key: int, name: str, *headers: str) -> Iterator[Case]:
    """Write an object with pairs; read it."""
    yield put(f"{name}, put", f"{fid(key)}?{TS}", b"needle", *[f"Seaweed-{header}" for header in headers])
    yield get(name, fid(key))


CASES = [
    *stored(0x0501, "one", "Mood: dull"),
    *stored(0x0502, "several", "B: 2", "a: 1", "C-d-E: 3"),
    *stored(0x0503, "spelling", "x-AMZ-meta_fOO: Bar", "x--y-: z"),
    *stored(0x0504, "repeated, the first counts", "A: 1", "A: 2", "a: 3"),
    *stored(0x0505, "empty value", "A:"),
    *stored(0x0506, "blanks around", "A:   x   "),
    *stored(0x0507, "bytes above 7e", "A: na\u00c3\u00afve"),
    *stored(0x0508, "bytes that are no UTF-8", "A: \u00ff\u00fe"),
    *stored(0x0509, "quotes, markup, backslashes", 'A: "a" <b> & \\ \t c'),
    *stored(0x050A, "Etag", 'Etag: "mine"'),
    *stored(0x050B, "Last-Modified", "Last-Modified: never"),
    *stored(0x050C, "Content-Type", "Content-Type: my/type"),
    *stored(0x050D, "Content-Disposition", "Content-Disposition: inline"),
    *stored(0x050E, "empty Content-Disposition", "Content-Disposition:"),
    *stored(0x050F, "Content-Encoding", "Content-Encoding: br"),
    *stored(0x0510, "Accept-Ranges", "Accept-Ranges: none"),
    *stored(0x0511, "Server", "Server: mine"),
    *stored(0x0512, "Date", "Date: mine"),
    *stored(0x0513, "X-Amz-Request-Id", "X-Amz-Request-Id: mine"),
    *stored(0x0514, "cross-origin headers", "Access-Control-Allow-Origin: mine"),
    *stored(0x0515, "Cache-Control", "Cache-Control: no-store"),
    *stored(0x0516, "Set-Cookie", "Set-Cookie: a=b"),
    *stored(0x0517, "name with signs", "a!b$c: x"),
    *stored(0x0518, "name that is empty", ": x"),
    *stored(0x0519, "Host", "Host: x"),
    *stored(0x051A, "Content-Range", "Content-Range: x"),
    *stored(0x051B, "X-Content-Type-Options", "X-Content-Type-Options: x"),
    *[case for number, header in enumerate(FRAMING) for case in stored(0x0520 + number, header, header)],
    *stored(0x0530, "just under the limit", "A: " + "x" * (65_536 - 9)),
    *stored(0x0531, "at the limit", "A: " + "x" * (65_536 - 8)),
    *stored(0x0532, "markup counts escaped", "A: " + "<" * 12_000),
    put(
        "in a prefix of other case, put", f"{fid(0x0533)}?{TS}", b"needle", "sEAWEED-a: 1", "SeaweedX: 2", "Seaweed: 3"
    ),
    get("in a prefix of other case", fid(0x0533)),
    form(
        "in a part, put",
        f"{fid(0x0534)}?{TS}",
        ['Content-Disposition: form-data; name="a"; filename="a"', "Seaweed-A: b"],
        b"x",
    ),
    get("in a part", fid(0x0534)),
    put("empty object, put", f"{fid(0x0535)}?{TS}", b"", "Seaweed-A: b"),
    get("empty object", fid(0x0535)),
    head("head", fid(0x0502)),
    get("range", fid(0x0502), "Range: bytes=1-2"),
    get("bad range and a type", fid(0x050C), "Range: bytes=x"),
    get("several ranges and a type", fid(0x050C), "Range: bytes=0-1,3-4"),
    get("conditional with a stored tag", fid(0x050A), 'If-None-Match: "mine"'),
    get("overrides beat pairs", f"{fid(0x050C)}?response-content-type=a/b"),
    get("override of an empty disposition", f"{fid(0x050E)}?response-content-disposition=x"),
    get("stored origin and a request with one", fid(0x0514), "Origin: http://x"),
    get("stored encoding, compressed wanted", fid(0x050F), "Accept-Encoding: gzip"),
]
