"""Chunk manifests: files stored as several objects (http.md 3.8)."""

from __future__ import annotations

import gzip
from collections.abc import Iterator

from tests.interop.differential.kit import TEXT, TS, WHEN, ZIPPED, Case, fid, form, get, head, manifest, put, zipped

ONE, TWO, PACKED, BIG, EMPTY = (f"1,{key:04x}aaaaaaaa" for key in range(0x0A01, 0x0A06))
GONE = "1,0a99aaaaaaaa"
PLAIN, NAMED, MIXED, LARGE, NESTED, BROKEN, SECOND_BROKEN = (fid(0x0A10 + number) for number in range(7))
TARGETS = {
    "plain": PLAIN,
    "named": NAMED,
    "mixed": MIXED,
    "large": LARGE,
    "nested": NESTED,
    "broken": BROKEN,
    "second broken": SECOND_BROKEN,
}
RANGES = (
    "bytes=0-3", "bytes=8-12", "bytes=10-", "bytes=9-9", "bytes=-1", "bytes=29-40", "bytes=30-", "bytes=x", "bytes=",
    "bytes=0-1,9-11", "bytes=0-29",
)  # fmt: skip
LONG = bytes(range(256)) * 6000


def stored(name: str, target: str, content: bytes, *headers: str, query: str = "cm=true") -> Case:
    return zipped(put(f"store {name}", f"{target}?{TS}&{query}", content, *headers))


def odd(key: int, name: str, content: bytes) -> Iterator[Case]:
    """A manifest that is not as it should be, and what is read of it."""
    yield stored(name, fid(key), content)
    yield zipped(get(name, fid(key)))


CASES = [
    put("first chunk", f"/{ONE}?{TS}", b"0123456789"),
    put("second chunk", f"/{TWO}?{TS}", b"abcdefghijklmnopqrst"),
    put("packed chunk", f"/{PACKED}?{TS}", ZIPPED, "Content-Encoding: gzip"),
    put("big chunk", f"/{BIG}?{TS}", LONG),
    put("empty chunk", f"/{EMPTY}?{TS}", b""),
    stored("plain", PLAIN, manifest((TWO, 10, 20), (ONE, 0, 10), size=30)),
    stored("named", NAMED, manifest((ONE, 0, 10), name="whole.csv", mime="text/x-mine", size=10), "Seaweed-Mood: dull"),
    stored(
        "mixed",
        MIXED,
        manifest((PACKED, 0, len(TEXT)), (EMPTY, len(TEXT), 0), (ONE, len(TEXT), 10), mime="application/octet-stream"),
    ),
    stored("large", LARGE, manifest((BIG, 0, len(LONG)), (TWO, len(LONG), 20))),
    stored("nested", NESTED, manifest((PLAIN[1:], 0, 30), (ONE, 30, 10))),
    stored("broken", BROKEN, manifest((GONE, 0, 4), (ONE, 4, 10))),
    stored("second broken", SECOND_BROKEN, manifest((ONE, 0, 10), (GONE, 10, 4))),
    *[zipped(get(name, target)) for name, target in TARGETS.items()],
    *[zipped(head(f"{name}, head", target)) for name, target in TARGETS.items()],
    *[zipped(get(f"plain, {value}", PLAIN, f"Range: {value}")) for value in RANGES],
    zipped(get("large, over the border", LARGE, "Range: bytes=1535990-1536009")),
    zipped(get("nested, inside", NESTED, "Range: bytes=28-32")),
    zipped(get("mixed, over the packed chunk", MIXED, f"Range: bytes={len(TEXT) - 4}-{len(TEXT) + 3}")),
    zipped(get("mixed, in the packed chunk", MIXED, "Range: bytes=4-12")),
    zipped(get("second broken, before the gap", SECOND_BROKEN, "Range: bytes=0-3")),
    zipped(get("second broken, behind the gap", SECOND_BROKEN, "Range: bytes=11-")),
    zipped(get("broken, with a name", f"{BROKEN.replace(',', '/')}/a.css?dl=1")),
    zipped(get("broken, range", BROKEN, "Range: bytes=0-1")),
    zipped(get("broken, several ranges", BROKEN, "Range: bytes=0-1,5-6")),
    zipped(get("compressed wanted", PLAIN, "Accept-Encoding: gzip")),
    zipped(get("modified since", PLAIN, f"If-Modified-Since: {WHEN}")),
    zipped(get("by another name", f"{NAMED.replace(',', '/')}/a.css")),
    zipped(get("as a download", f"{NAMED}?dl=1")),
    zipped(get("overrides", f"{NAMED}?response-content-type=a/b&response-expires=x")),
    zipped(get("with an origin", NAMED, "Origin: http://x")),
    *[zipped(get(f"cm={value}", f"{NAMED}?cm={value}")) for value in ("false", "False", "0", "true", "f", "")],
    zipped(head("cm=false, head", f"{NAMED}?cm=false")),
    zipped(get("cm=false, range", f"{NAMED}?cm=false", "Range: bytes=0-5")),
    stored("sniffed from two", fid(0x0A26), manifest((ONE, 0, 10), (BIG, 10, len(LONG)))),
    zipped(get("sniffed from two", fid(0x0A26), "Range: bytes=0-99")),
    zipped(get("sniffed from two, whole", fid(0x0A26))),
    stored("with a nested one that is longer", fid(0x0A29), manifest((PLAIN[1:], 0, 5), (PLAIN[1:], 5, 30))),
    zipped(get("nested one is longer", fid(0x0A29))),
    zipped(get("nested one is longer, inside", fid(0x0A29), "Range: bytes=3-17")),
    # odd ones
    *[
        case
        for number, (name, content) in enumerate(
            {
                "no JSON": b"nothing",
                "empty object": b"{}",
                "null": b"null",
                "list": b"[]",
                "string": b'"x"',
                "number": b"1",
                "nothing behind a blank": b" ",
                "no chunks": b'{"name":"a.txt","chunks":[]}',
                "null chunks": b'{"name":"a.txt","chunks":null}',
                "null chunk": b'{"chunks":[null]}',
                "unknown fields": b'{"x":{"y":[1]},"name":"a.txt"}',
                "name is a number": b'{"name":1}',
                "size is a string": b'{"size":"1"}',
                "size is a fraction": b'{"size":1.5}',
                "size is beyond 64 bits": b'{"size":9223372036854775808}',
                "chunks is an object": b'{"chunks":{}}',
                "chunk is a number": b'{"chunks":[1]}',
                "fid is a number": b'{"chunks":[{"fid":1}]}',
                "something behind": b'{"name":"a.txt"} x',
                "blanks around": b' {"name" : "a.txt"}\r\n',
                "comma at the end": b'{"name":"a.txt",}',
                "cut off": b'{"name":"a',
                "single quotes": b"{'name':'a'}",
                "repeated keys": b'{"name":"a.txt","name":"b.css"}',
                "null fields": b'{"name":null,"mime":null,"size":null}',
                "bytes that are no UTF-8": b'{"name":"\xff.txt"}',
                "escapes": b'{"name":"\\u00e9\\ud800.txt"}',
                "keys in other letters": b'{"NAME":"a.txt","Mime":"a/b"}',
                "bad file id": manifest(("nothing", 0, 4)),
                "no file id": b'{"chunks":[{"size":4}]}',
                "unknown volume": manifest(("99,0a01aaaaaaaa", 0, 4)),
                "bad volume id": manifest(("x,0a01aaaaaaaa", 0, 4)),
                "bad key": manifest(("1,zz", 0, 4)),
                "wrong cookie": manifest(("1,0a01aaaaaaab", 0, 10)),
                "file id with extension": manifest((f"{ONE}.txt", 0, 10)),
                "file id with a slash": manifest(("1/0a01aaaaaaaa", 0, 10)),
                "chunk is longer": manifest((ONE, 0, 4)),
                "chunk is shorter": manifest((ONE, 0, 12)),
                "chunks overlap": manifest((ONE, 0, 10), (TWO, 5, 20)),
                "chunks leave a gap": manifest((ONE, 0, 10), (TWO, 15, 20)),
                "same offset": manifest((ONE, 0, 10), (TWO, 0, 20)),
                "negative offset": manifest((ONE, -5, 10)),
                "size does not fit": manifest((ONE, 0, 10), size=99),
                "negative size": manifest((ONE, 0, -1)),
                "chunk of nothing": manifest((EMPTY, 0, 0)),
                "name with a path": manifest((ONE, 0, 10), name="a/b.txt"),
                "mime of an extension": manifest((ONE, 0, 10), name="a.css"),
                "name with line breaks": manifest((ONE, 0, 10), name="a\nb", mime="a/b\r\nX: y"),
                "character above 7e first": "\u00e9".encode(),
                "byte order mark": b"\xef\xbb\xbf{}",
                "file id with blanks": manifest(("1,0a01 aaaaaaaa", 0, 4)),
                "file id with two commas": manifest(("1,0a01aaaaaaaa,x", 0, 4)),
                "file id with a query": manifest((f"{ONE}?a=b", 0, 10)),
                "file id with a name": manifest((f"{ONE}/a", 0, 10)),
                "file id with a delta": manifest(("1,0a00aaaaaaaa_1", 0, 10)),
                "volume id with a zero": manifest(("01,0a01aaaaaaaa", 0, 10)),
                "offset behind the chunk": manifest((EMPTY, 0, 4), (ONE, 4, 10)),
                "deleted chunk": manifest(("1,0a06aaaaaaaa", 0, 1)),
            }.items()
        )
        for case in odd(0x0A40 + number, name, content)
    ],
    put(
        "store gzipped",
        f"{fid(0x0A20)}?{TS}&cm=true",
        gzip.compress(manifest((ONE, 0, 10)), mtime=0),
        "Content-Encoding: gzip",
    ),
    get("gzipped", fid(0x0A20)),
    get("gzipped, itself", f"{fid(0x0A20)}?cm=false", "Accept-Encoding: gzip"),
    put("store a broken gzip", f"{fid(0x0A21)}?{TS}&cm=true", ZIPPED[:-20], "Content-Encoding: gzip"),
    get("broken gzip", fid(0x0A21)),
    *[
        zipped(put(f"store with cm={value}", f"{fid(0x0A22)}?{TS}&cm={value}", manifest((ONE, 0, 10), name=value)))
        for value in ("1", "t", "yes", "")
    ],
    zipped(get("stored with another cm", fid(0x0A22))),
    zipped(
        form(
            "store a form",
            f"{fid(0x0A23)}?{TS}&cm=true",
            ['Content-Disposition: form-data; name="f"; filename="m.json"', "Content-Type: a/b"],
            manifest((ONE, 0, 10)),
        )
    ),
    zipped(get("form", fid(0x0A23))),
    zipped(get("form, itself", f"{fid(0x0A23)}?cm=false")),
    zipped(put("store with a type", f"{fid(0x0A24)}?{TS}&cm=true", manifest((ONE, 0, 10)), "Content-Type: x/y")),
    zipped(get("with a type, itself", f"{fid(0x0A24)}?cm=false")),
    put("store empty", f"{fid(0x0A25)}?{TS}&cm=true", b""),
    get("empty", fid(0x0A25)),
]
