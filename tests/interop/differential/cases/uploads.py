"""Writes of raw bodies: fields, parameters, limits, checksums, answers (http.md 4)."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

from tests.interop.differential.kit import TEXT, TS, ZIPPED, Case, delete, fid, form, get, post, put, zipped
from tests.interop.differential.servers import PLAIN, REPLICATED, SIZE_LIMIT

MD5 = base64.b64encode(hashlib.md5(TEXT, usedforsecurity=False).digest()).decode()
MD5_ZIPPED = base64.b64encode(hashlib.md5(ZIPPED, usedforsecurity=False).digest()).decode()
PART = ['Content-Disposition: form-data; name="f"; filename="a.bin"']
TTLS = (
    "3d", "7d", "90m", "60m", "24h", "4w", "12M", "2y", "5", "0", "256m", "300d", "-1m", "x", "3x", "m", "1.5h", "3D",
    " 3d", "", "255y", "256y", "52w",
)  # fmt: skip
TIMES = (
    "1", "0", "-1", "x", "1.5", "+5", "01700000000", "1099511627775", "1099511627776", "18446744073709551615",
    "253402300800",
)  # fmt: skip
TYPES = (
    "text/css", "TEXT/CSS", "a", "a/", "/", "a/b/c", "a/b;", "a/b; c", "a/b; c=d", 'a/b; c="d e"', "a/b; c=d; c=e",
    "a/b; c=d; c=d", "a b/c", "a/b c", "a/b;=", ";", "multipart/mixed", "text/html; charset=utf-8",
    "application/octet-stream", "application/octet-stream;a=b", "x/" + "y" * 250, "x/" + "y" * 260,
)  # fmt: skip
DISPOSITIONS = (
    "attachment; filename=a.css", 'attachment; filename="a b.css"', "inline; filename=a.css", "filename=a.css",
    "name=a.css", 'form-data; name="a"; filename="b.css"', "attachment; filename*=utf-8''na%C3%AFve.css",
    "attachment; filename=a; filename*=utf-8''b.css", "attachment; filename=a/b.css",
    r'attachment; filename="a\\b.css"', "attachment; filename=", 'attachment; filename=""; name=c.css', "attachment",
    "attachment; filename=a b", "inline; name=x.css", "Attachment; filename=a.css", "attachment; filename=..",
    "attachment; filename=/", "attachment;filename=a.css;", "attachment; FILENAME=a.css",
)  # fmt: skip


def stored(key: int, name: str, target: str, *headers: str, data: bytes = b"needle") -> Iterator[Case]:
    """Write, and read what is told of it."""
    yield put(name, target.format(fid(key)), data, *headers)
    yield get(f"{name}, stored", f"{fid(key)}?readDeleted=true")


def each(key: int, values: tuple[str, ...], label: str, target: str, header: str = "") -> Iterator[Case]:
    for number, value in enumerate(values):
        headers = [header.format(value)] if header else []
        encoded = value.replace("+", "%2B").replace(" ", "%20")
        yield from stored(
            key + number,
            f"{label} {value[:40]!r} of {len(value)}" if len(value) > 40 else f"{label} {value!r}",
            target.replace("VALUE", encoded),
            *headers,
        )


CASES = [
    # what is stored
    *stored(0x0C01, "nothing said", f"{{}}?{TS}"),
    *stored(0x0C02, "extension in the path", f"{{}}.css?{TS}"),
    *stored(0x0C03, "extension in the path and its type", f"{{}}.css?{TS}", "Content-Type: text/css; charset=utf-8"),
    *stored(
        0x0C04, "extension in the path and an octet-stream", f"{{}}.PNG?{TS}", "Content-Type: application/octet-stream"
    ),
    *each(0x0C10, TYPES, "type", f"{{}}?{TS}", "Content-Type: {}"),
    *each(0x0C30, DISPOSITIONS, "disposition", f"{{}}?{TS}", "Content-Disposition: {}"),
    *each(0x0C50, TTLS, "ttl", f"{{}}?{TS}&ttl=VALUE"),
    *each(0x0C70, TIMES, "ts", "{}?ts=VALUE"),
    *[delete(f"size with ttl {value}", fid(0x0C50 + number)) for number, value in enumerate(TTLS)],
    put("post raw", f"{fid(0x0C80)}?{TS}", b"x", "Content-Type: a/b"),
    post(
        "post raw, mixed",
        f"{fid(0x0C81)}?{TS}",
        b"--b\r\n\r\nx\r\n--b--\r\n",
        "Content-Type: multipart/mixed; boundary=b",
    ),
    get("post raw, mixed, stored", fid(0x0C81)),
    put(
        "put a form",
        f"{fid(0x0C82)}?{TS}",
        b"--b\r\n\r\nx\r\n--b--\r\n",
        "Content-Type: multipart/form-data; boundary=b",
    ),
    get("put a form, stored", fid(0x0C82)),
    put("name of 255 bytes", f"{fid(0x0C83)}?{TS}", b"x", f"Content-Disposition: inline; filename={'n' * 255}"),
    get("name of 255 bytes, stored", fid(0x0C83)),
    put("name of 256 bytes", f"{fid(0x0C84)}?{TS}", b"x", f"Content-Disposition: inline; filename={'n' * 256}"),
    get("name of 256 bytes, stored", fid(0x0C84)),
    # parameters without effect, or with one that does not show
    put("fsync", f"{fid(0x0C85)}?{TS}&fsync=true", b"x"),
    put("other parameters", f"{fid(0x0C86)}?{TS}&collection=a&replication=002&dataCenter=b&jwt=x", b"x"),
    put("no replicas wanted", f"{fid(0x0C87)}?{TS}&type=replicate", b"x"),
    put("10000 parameters", f"{fid(0x0C99)}?{TS}" + "&a" * 9_999, b"x"),
    put("10001 parameters", f"{fid(0x0C99)}?{TS}" + "&a" * 10_000, b"x"),
    get("10000 parameters, read", f"{fid(0x0C99)}?dl=1" + "&a" * 9_999),
    get("10001 parameters, read", f"{fid(0x0C99)}?dl=1" + "&a" * 10_000),
    put("query with a bad escape", f"{fid(0x0C88)}?a=%zz", b"x"),
    put("query with half an escape", f"{fid(0x0C88)}?a=%4", b"x"),
    put("query with a semicolon", f"{fid(0x0C88)}?a;b", b"x"),
    put("query with both", f"{fid(0x0C88)}?a=%zz&b;c", b"x"),
    put("query with two bad escapes", f"{fid(0x0C88)}?%f&a=%zz", b"x"),
    put("bad query comes before a bad volume", "/x,0c88aaaaaaaa?a=%zz", b"x"),
    put("bad type comes before a bad query", f"{fid(0x0C88)}?a=%zz", b"x", "Content-Type: /"),
    put("bad volume comes before a bad form", "/x,zz", b"x", "Content-Type: a/b"),
    post("bad form comes before a bad id", "/1,zz", b"x", "Content-Type: multipart/form-data"),
    put("wrong checksum comes before a bad id", "/1,zz", b"x", "Content-MD5: x"),
    # unchanged
    put("unchanged, first", f"{fid(0x0C89)}?{TS}", b"same", "Content-Type: text/a", "Seaweed-A: b"),
    put("unchanged", f"{fid(0x0C89)}?ts=1", b"same", "Content-Type: text/b", "Seaweed-A: c"),
    put("unchanged with a checksum", f"{fid(0x0C89)}?ts=1", b"same", "Content-MD5: Uc4QgMSNlFT5HchLSjxIAg=="),
    get("unchanged, stored", fid(0x0C89)),
    put("changed", f"{fid(0x0C89)}?{TS}", b"diff"),
    get("changed, stored", fid(0x0C89)),
    post("unchanged, by a post without a type", f"{fid(0x0C89)}?{TS}", b"diff"),
    # checksums
    zipped(put("right MD5", f"{fid(0x0C8A)}?{TS}", TEXT, f"Content-MD5: {MD5}")),
    put("wrong MD5", f"{fid(0x0C8B)}?{TS}", TEXT[1:], f"Content-MD5: {MD5}"),
    put("bad MD5", f"{fid(0x0C8B)}?{TS}", b"x", "Content-MD5: <&>\u00c3\u00af"),
    put("empty MD5", f"{fid(0x0C8B)}?{TS}", b"x", "Content-MD5:"),
    put("MD5 of what is packed", f"{fid(0x0C8C)}?{TS}", ZIPPED, "Content-Encoding: gzip", f"Content-MD5: {MD5}"),
    put("MD5 of the packing", f"{fid(0x0C8C)}?{TS}", ZIPPED, "Content-Encoding: gzip", f"Content-MD5: {MD5_ZIPPED}"),
    put("MD5 of a broken gzip", f"{fid(0x0C8C)}?{TS}", b"\x1f\x8bx", "Content-Encoding: gzip", f"Content-MD5: {MD5}"),
    zipped(form("MD5 of a part", f"{fid(0x0C8D)}?{TS}", [*PART, f"Content-MD5: {MD5}"], TEXT)),
    form("wrong MD5 of a part", f"{fid(0x0C8E)}?{TS}", [*PART, "Content-MD5: x"], TEXT),
    zipped(
        form(
            "MD5 of the request beats the part's",
            f"{fid(0x0C8F)}?{TS}",
            [*PART, "Content-MD5: x"],
            TEXT,
            f"Content-MD5: {MD5}",
        )
    ),
    put("MD5 and pretty", f"{fid(0x0C90)}?{TS}&pretty=1", b"x", "Content-MD5: nU5EYMUdozLFXO3AAAAAAA=="),
    # sizes
    put("exactly the limit", f"{fid(0x0C91)}?{TS}", bytes(SIZE_LIMIT)),
    get("exactly the limit, the end", fid(0x0C91), "Range: bytes=-2"),
    put("over the limit", f"{fid(0x0C92)}?{TS}", bytes(SIZE_LIMIT + 1)),
    put("far over the limit", f"{fid(0x0C92)}?{TS}", bytes(SIZE_LIMIT + (2 << 20))),
    put("over the limit, replicated", f"{fid(0x0C92)}?{TS}&type=replicate", bytes(SIZE_LIMIT + 1)),
    form("form of exactly the limit", f"{fid(0x0C93)}?{TS}", PART, bytes(SIZE_LIMIT)),
    form("form over the limit", f"{fid(0x0C94)}?{TS}", PART, bytes(SIZE_LIMIT + 1)),
    put("over the limit comes before a bad id", "/1,zz", bytes(SIZE_LIMIT + 1)),
    get("over the limit, not stored", fid(0x0C92)),
    # replicas
    put("too few copies", f"{fid(0x0C95, REPLICATED)}?{TS}", b"x"),
    put("too few copies, replicated", f"{fid(0x0C95, REPLICATED)}?{TS}&type=replicate", b"x"),
    get("too few copies, stored by replication", fid(0x0C95, REPLICATED)),
    delete("too few copies, delete", fid(0x0C95, REPLICATED)),
    delete("too few copies, delete replicated", f"{fid(0x0C95, REPLICATED)}?type=replicate"),
    put("odd escapes in the name of the URL", f"/a%5Cb%20%3C,0c96aaaaaaaa?{TS}", b"x"),
    put(
        "type in the form values alone",
        f"{fid(0x0C97)}?{TS}",
        b"type=replicate&ts=5",
        "Content-Type: application/x-www-form-urlencoded",
    ),
    get("type in the form values alone, stored", fid(0x0C97)),
    put("still fine", f"{fid(0x0C98, PLAIN)}?{TS}", b"x"),
]
