"""Bodies that end early or are badly framed (http.md 1.5, 4.1, 4.2)."""

from __future__ import annotations

from tests.interop.differential.kit import TS, Case, closing, cut, fid, get, pipeline, post, put, raw

CHUNKED = "HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
FORM = "Content-Type: multipart/form-data; boundary=b"
BAD_CHUNKS = {
    "no number": b"x\r\nabc\r\n0\r\n\r\n",
    "blank": b"\r\nabc\r\n0\r\n\r\n",
    "negative": b"-1\r\nabc\r\n0\r\n\r\n",
    "beyond 64 bits": b"fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
    "too short": b"2\r\nabc\r\n0\r\n\r\n",
    "sign": b"+3\r\nabc\r\n0\r\n\r\n",
    "hex prefix": b"0x3\r\nabc\r\n0\r\n\r\n",
}
GOOD_CHUNKS = {
    "upper case": b"A\r\n0123456789\r\n0\r\n\r\n",
    "zeros before": b"0003\r\nabc\r\n000\r\n\r\n",
    "extension": b"3;a=b\r\nabc\r\n0;c\r\n\r\n",
    "quoted extension": b'3;a="b"\r\nabc\r\n0\r\n\r\n',
    "trailers": b"3\r\nabc\r\n0\r\nA: b\r\nC: d\r\n\r\n",
}


def shortened(case: Case, missing: int) -> Case:
    """The same without its last bytes, and closed."""
    return closing(cut(case._replace(data=case.data[:-missing])))


def chunks(name: str, key: int, body: bytes) -> Case:
    return raw(name, f"PUT {fid(key)}?{TS} {CHUNKED}".encode() + body)


CASES = [
    shortened(put("half a body", fid(0x0F01), b"needle"), 3),
    shortened(put("no body", fid(0x0F01), b"needle"), 6),
    shortened(post("half a form", fid(0x0F01), b"--b\r\nA: b\r\n\r\nneedle\r\n--b--\r\n", FORM), 10),
    shortened(
        post("half an urlencoded form", fid(0x0F01), b"a=b", "Content-Type: application/x-www-form-urlencoded"), 1
    ),
    shortened(put("half a large body", fid(0x0F01), bytes(1 << 20)), 1 << 19),
    shortened(put("half a body, bad volume", "/x,0f01aaaaaaaa", b"needle"), 3),
    shortened(put("half a body, bad id", "/1,zz", b"needle"), 3),
    shortened(put("half a body, bad query", f"{fid(0x0F01)}?a=%zz", b"needle"), 3),
    get("half a body, not stored", fid(0x0F01)),
    *[
        pipeline(f"chunks, {name}", chunks("", 0x0F10 + number, body), get("", fid(0x0F10 + number)))
        for number, (name, body) in enumerate(GOOD_CHUNKS.items())
    ],
    *[
        closing(chunks(f"bad chunks, {name}", 0x0F20 + number, body))
        for number, (name, body) in enumerate(BAD_CHUNKS.items())
    ],
    shortened(chunks("chunks cut in the data", 0x0F30, b"5\r\nabcde\r\n0\r\n\r\n"), 9),
    shortened(chunks("chunks cut in the size", 0x0F30, b"5\r\nabcde\r\n3"), 1),
    shortened(chunks("chunks cut before the last", 0x0F30, b"5\r\nabcde\r\n0\r\n\r\n"), 5),
    shortened(chunks("chunks cut in the end", 0x0F30, b"5\r\nabcde\r\n0\r\n\r\n"), 2),
    shortened(raw("half a head", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 2),
    shortened(raw("half a request line", b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"), 20),
    closing(cut(raw("nothing", b"", "GET"))),
    closing(cut(get("whole, and closed", "/healthz"))),
    closing(cut(put("whole body, and closed", f"{fid(0x0F31)}?{TS}", b"needle"))),
    chunks("many small chunks", 0x0F33, b"1\r\n\0\r\n" * 3_000 + b"0\r\n\r\n"),
    get("many small chunks, stored", fid(0x0F33), "Range: bytes=-3"),
    chunks(
        "chunks over the limit",
        0x0F34,
        b"100000\r\n" + bytes(1 << 20) + b"\r\n" + b"300000\r\n" + bytes(3 << 20) + b"\r\n0\r\n\r\n",
    ),
]
