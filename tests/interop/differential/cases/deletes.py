"""DELETE (http.md 5)."""

from __future__ import annotations

from collections.abc import Iterator

from tests.interop.differential.kit import TS, ZIPPED, Case, delete, fid, get, manifest, put, zipped
from tests.interop.differential.servers import PLAIN

FILE = fid(0x0E01)
OTHER = "aaaaaaab"
CHUNKS = [f"1,{key:04x}aaaaaaaa" for key in range(0x0E80, 0x0E88)]
BROKEN = {
    "no JSON": b"nothing here", "nothing behind a blank": b" ", "cut off": b'{"name":"a',
    "comma at the end": b'{"name":"a",}', "list": b"[]", "string": b'"x"', "number": b"1", "true": b"true",
    "single quotes": b"{'name':1}", "name is a number": b'{"name":1}', "size is a string": b'{"size":"1"}',
    "size is a fraction": b'{"size":1.5}', "size is beyond 64 bits": b'{"size":9223372036854775808}',
    "chunks is an object": b'{"chunks":{}}', "chunk is a number": b'{"chunks":[1]}',
    "fid is a number": b'{"chunks":[{"fid":1}]}', "offset is a bool": b'{"chunks":[{"offset":true}]}',
    "something behind": b'{"name":"a.txt"} x', "no colon": b'{"name" 1}', "bad literal": b"nul",
    "bad escape": b'{"name":"\\x"}', "line break in a string": b'{"name":"a\nb"}', "no comma": b'{"size":1 "name":2}',
    "no comma in a list": b'{"chunks":[{} {}]}', "bad number": b'{"size":01}', "minus alone": b'{"size":-}',
    "bad unicode escape": b'{"name":"\\u12g4"}', "high byte": b"\xff", "character above 7e": "\u00e9".encode(),
    "byte order mark": b"\xef\xbb\xbf{}", "quote": b"{'", "backslash": b"\\", "tab first": b"\t\x01",
    "delete character": b"\x7f", "short unicode escape": b'{"name":"\\u12"}',
    "escaped quote at the end": b'{"name":"\\"', "blank in an escape": b'{"name":"\\ "}',
    "backtick in an escape": b'{"name":"\\`"}', "fraction without digits": b'{"size":1.}',
    "exponent": b'{"size":1e2}', "exponent without digits": b'{"size":1e}', "plus": b'{"size":+1}',
    "NaN": b'{"size":NaN}', "Infinity": b'{"size":Infinity}', "two values": b"{}{}", "comma alone": b",",
    "value without a key": b'{"a"}', "colon alone": b'{:1}', "list not closed": b"[1,2",
    "list with a comma at the end": b'{"chunks":[{},]}', "closed by the other": b'{"chunks":[}',
    "true cut": b'{"size":tru}', "second error counts not": b'{"name":1,"size":"x"}',
    "syntax before types": b'{"name":1,}', "nested type": b'{"chunks":[{},{"size":[]}]}',
    "chunks is a string": b'{"chunks":"x"}', "mime is a list": b'{"mime":["a"]}',
    "NAME in other letters": b'{"NAME":1}',
}  # fmt: skip


def broken(key: int, name: str, content: bytes) -> Iterator[Case]:
    """What cannot be read as a manifest; it stays."""
    yield put(f"store {name}", f"{fid(key)}?{TS}&cm=true", content, "Content-Type: application/octet-stream")
    yield delete(name, fid(key))
    yield get(f"{name}, still there", f"{fid(key)}?cm=false")


def chunked(key: int, name: str, *chunks: tuple[str, int, int], size: int = 30, check: str = "") -> Iterator[Case]:
    yield zipped(put(f"store {name}", f"{fid(key)}?{TS}&cm=true", manifest(*chunks, size=size)))
    yield zipped(delete(name, fid(key)))
    yield zipped(get(f"{name}, then", f"{fid(key)}?cm=false"))
    if check:
        yield get(f"{name}, its chunk", f"/{check}")


CASES = [
    put("store", f"{FILE}?{TS}", b"needle", "Content-Type: a/b", "Seaweed-A: b"),
    delete("another cookie", fid(0x0E01, PLAIN, OTHER)),
    delete("another cookie, pretty", f"{fid(0x0E01, PLAIN, OTHER)}?pretty=1"),
    delete("unknown", fid(0x0E99)),
    delete("by slashes and name", FILE.replace(",", "/") + "/a.txt"),
    delete("twice", FILE),
    get("gone", FILE),
    get("gone, asked for", f"{FILE}?readDeleted=true"),
    put("again", f"{FILE}?{TS}", b"needle"),
    *[
        case
        for value in ("5", "-5", "x", "", "99999999999999999999")
        for case in (
            delete(f"ts={value}", f"{FILE}?ts={value}"),
            get(f"ts={value}, asked for", f"{FILE}?readDeleted=true"),
            put(f"ts={value}, again", f"{FILE}?{TS}", b"needle"),
        )
    ],
    delete("type=replicate", f"{FILE}?type=replicate"),
    put("empty", f"{FILE}?{TS}", b""),
    delete("empty, another cookie", fid(0x0E01, PLAIN, OTHER)),
    delete("empty, twice", FILE),
    put("packed", f"{fid(0x0E02)}?{TS}", ZIPPED, "Content-Encoding: gzip"),
    delete("packed, delete", fid(0x0E02)),
    put("large", f"{fid(0x0E03)}?{TS}", bytes(range(256)) * 6000),
    delete("large, another cookie", fid(0x0E03, PLAIN, OTHER)),
    delete("large, delete", fid(0x0E03)),
    delete("bad query", f"{fid(0x0E04)}?a=%zz&b;c"),
    delete("bad volume", "/x,0e01aaaaaaaa"),
    delete("no volume", "/,0e01aaaaaaaa"),
    delete("the root", "/"),
    delete("four segments", "/a/b/c/d"),
    delete("four segments and a comma", "/a/b/c/1,0e01aaaaaaaa"),
    delete("a delta", "/1,0e01aaaaaaaa_1"),
    # manifests
    put("store a null", f"{fid(0x0E1D)}?{TS}&cm=true", b"null", "Content-Type: application/octet-stream"),
    delete("null", fid(0x0E1D)),
    put(
        "store a manifest to be a chunk", f"{fid(0x0E1E)}?{TS}&cm=true", b"{}", "Content-Type: application/octet-stream"
    ),
    *[put(f"chunk {number}", f"/{chunk}?{TS}", b"0123456789") for number, chunk in enumerate(CHUNKS)],
    *chunked(0x0E10, "manifest", (CHUNKS[0], 0, 10), (CHUNKS[1], 10, 10), check=CHUNKS[1]),
    *chunked(0x0E11, "chunk is gone", (CHUNKS[0], 0, 10), (CHUNKS[2], 10, 10), check=CHUNKS[2]),
    *chunked(0x0E12, "chunk with another cookie", (CHUNKS[3].replace("aaaaaaaa", "bbbbbbbb"), 0, 10), check=CHUNKS[3]),
    *chunked(0x0E13, "chunk in an unknown volume", (CHUNKS[4], 0, 10), ("777,0e01aaaaaaaa", 10, 10), check=CHUNKS[4]),
    *chunked(0x0E14, "bad chunk", (CHUNKS[5], 0, 10), ("nothing", 10, 10), check=CHUNKS[5]),
    *chunked(0x0E15, "bad key of a chunk", ("1,zz", 0, 10)),
    *chunked(0x0E16, "bad volume of a chunk", ("x,0e01aaaaaaaa", 0, 10)),
    *chunked(0x0E17, "chunk with a slash", (CHUNKS[6].replace(",", "/"), 0, 10), check=CHUNKS[6]),
    *chunked(0x0E18, "chunk in a read-only volume", ("3,0001aaaaaaaa", 0, 4), check="3,0001aaaaaaaa"),
    *chunked(0x0E19, "no chunks", size=-7),
    *chunked(0x0E1A, "chunk with a delta", ("1,0e86aaaaaaaa_1", 0, 4), check=CHUNKS[7]),
    *chunked(0x0E1B, "no file id", ("", 0, 4)),
    *chunked(0x0E1C, "volume 0", ("0,0e01aaaaaaaa", 0, 4)),
    *chunked(0x0E0D, "chunk is a manifest", ("1,0e1eaaaaaaaa", 0, 4)),
    put("store a broken gzip", f"{fid(0x0E0A)}?{TS}&cm=true", ZIPPED[:-20], "Content-Encoding: gzip"),
    delete("broken gzip", fid(0x0E0A)),
    put("store what is no gzip", f"{fid(0x0E0B)}?{TS}&cm=true", b"{}", "Content-Encoding: gzip"),
    delete("no gzip", fid(0x0E0B)),
    put("store empty", f"{fid(0x0E0C)}?{TS}&cm=true", b""),
    delete("empty manifest", fid(0x0E0C)),
    delete("manifest with cm=false", f"{fid(0x0E1D)}?cm=false"),
    *[case for number, name in enumerate(BROKEN) for case in broken(0x0E20 + number, name, BROKEN[name])],
]
