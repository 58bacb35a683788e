"""The one table of differences that are meant: what differs, why, and the cases that show it.

The first four columns are the table in docs/compatibility.md; a test compares the two. The cases are asserted exactly:
a difference that changes or disappears is a failure like any other. Names are `topic: case`; those of `test_elsewhere`
are `elsewhere, mode: case`.
"""

from __future__ import annotations

from typing import NamedTuple

from tests.interop.differential.wire import Differences

__all__ = ["EXPECTED", "INTENDED", "Intended"]


class Intended(NamedTuple):
    """One row."""

    where: str
    reference: str
    ours: str
    why: str
    cases: dict[str, Differences]


OK, PARTIAL, CREATED, REFUSED = (
    "HTTP/1.1 200 OK",
    "HTTP/1.1 206 Partial Content",
    "HTTP/1.1 201 Created",
    "HTTP/1.1 400 Bad Request",
)
NOT_FOUND, UNSATISFIABLE, FAILED = (
    "HTTP/1.1 404 Not Found",
    "HTTP/1.1 416 Requested Range Not Satisfiable",
    "HTTP/1.1 500 Internal Server Error",
)
UNSUPPORTED = "HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version"
TOO_LARGE = "HTTP/1.1 431 Request Header Fields Too Large"

DROPPED: Differences = {"status": ("", REFUSED)}
REFUSED_LINE: Differences = {"status": (OK, REFUSED), "body": (b"needle", b"400 Bad Request")}
CLOSES: Differences = {"Connection": (None, "close")}
BAD_CHUNK = "invalid byte in chunk length"
UNREADABLE: Differences = {
    "status": ("", FAILED), "body": (b"", b"Read chunk needle error: [404] http://ADDRESS/1,0a99aaaaaaaa\n"),
}  # fmt: skip


def not_sent(header: str, value: str) -> Differences:
    return {header: (value, None)}


def worded(reference: str, ours: str) -> Differences:
    return {"body": (f'{{"error":"{reference}"}}'.encode(), f'{{"error":"{ours}"}}'.encode())}


TWICE: Differences = {"X-Amz-Request-Id": ("VARIES | VARIES", "VARIES")}
RELAYED = (
    "plain", "extension", "slashes", "slashes and extension", "name", "escaped", "query", "repeated query", "bad query",
    "collection", "range", "bad range", "range behind the end", "several ranges", "modified since", "gzipped",
    "gzipped, another encoding", "empty", "large", "large, range", "deleted", "deleted, asked for", "unknown",
    "another cookie", "head", "head, range", "head, gzipped", "head, large", "public", "public, head",
    "without an encoding", "gzipped, without an encoding", "what was put", "not deleted",
)  # fmt: skip
"""Cases of `test_elsewhere` that end at the other server, and do so without more to say."""

INTENDED = [
    Intended(
        "File ids such as `/a/b/c/1,fid` and `/1.5,fid` (http 2)",
        "handler crashes, connection drops", "400", "a client must be told",
        {
            "paths: four segments and a comma at the end": DROPPED,
            "paths: dot before the comma": DROPPED,
            "paths: dot before the comma, put": DROPPED,
            "paths: four segments, put": DROPPED,
            "deletes: four segments and a comma": DROPPED,
        },
    ),
    Intended(
        "Versions other than 1.0, 1.1 and 2.0 (http 1.5)",
        "505; 1.2 is taken for 1.1", "400", "nothing is guessed about framing",
        {
            "protocol: 0.9": {"status": (UNSUPPORTED, REFUSED), "body": (UNSUPPORTED[9:].encode(), b"400 Bad Request")},
            "protocol: 1.2": {
                "body": (b"", b"400 Bad Request"), "Connection": (None, "close"), "Content-Length": ("0", None),
                "Content-Type": (None, "text/plain; charset=utf-8"), "Date": ("VARIES", None),
                "Server": ("SeaweedFS Volume 8000GB 4.48", None), "X-Amz-Request-Id": ("VARIES", None),
            },
        },
    ),
    Intended(
        "`Content-Length` beside `chunked` (http 1.5)",
        "length ignored", "400", "request smuggling",
        {
            "protocol: length beside chunks": {
                "status": (CREATED, REFUSED),
                "body": (b'{"name":"1,020eaaaaaaaa","eTag":"00000000"}', b"400 Bad Request"),
            },
        },
    ),
    Intended(
        "Folded header lines, request heads with LF alone (http 1.5)",
        "accepted", "400", "request smuggling",
        {"protocol: folded header": REFUSED_LINE, "protocol: line feeds alone": REFUSED_LINE},
    ),
    Intended(
        "Blank before the colon of a header (http 1.5)",
        "`400 Bad Request: invalid header name`", "`400 Bad Request`", "the parser does not tell more",
        {
            "protocol: blank before the colon": {
                "status": (f"{REFUSED}: invalid header name", REFUSED),
                "body": (b"400 Bad Request: invalid header name", b"400 Bad Request"),
            },
        },
    ),
    Intended(
        "Empty line before a request (http 1.5)",
        "400", "skipped", "RFC 9112 2.2",
        {"protocol: empty line first": {"status": (REFUSED, OK), "body": (b"400 Bad Request", b"needle")}},
    ),
    Intended(
        "More than about 500 header lines (http 1.5)",
        "431", "up to 10 000 lines, 1 MiB", "the bytes are what counts",
        {
            "protocol: 600 header lines": {
                "status": (TOO_LARGE, OK), "body": (b"431 Request Header Fields Too Large", b"needle"),
            },
        },
    ),
    Intended(
        "`Expect: 100-continue`, and the body has come already (http 1.5)",
        "`100 Continue` and the answer", "the answer", "RFC 9110 10.1.1; one segment less",
        {
            "protocol: body before it is asked for": {"answers": ("2", "1")},
            "protocol: continue in other letters": {"answers": ("2", "1")},
        },
    ),
    Intended(
        "Request heads that end early (http 1.5)",
        "400",
        "connection closes",
        "nobody asked anything",
        {
            "bodies: half a head": {"status": (REFUSED, ""), "body": (b"400 Bad Request", b"")},
            "bodies: half a request line": {"status": (REFUSED, ""), "body": (b"400 Bad Request", b"")},
        },
    ),
    Intended(
        "Bodies that end early (http 1.5)",
        "connection closes after the answer",
        "and the answer says so",
        "it is known",
        {
            "bodies: half a body": CLOSES,
            "bodies: no body": CLOSES,
            "bodies: half a form": CLOSES,
            "bodies: half an urlencoded form": CLOSES,
            "bodies: half a large body": CLOSES,
            "bodies: half a body, bad id": CLOSES,
        },
    ),
    Intended(
        "Badly framed chunks (http 1.5)",
        "400, five texts",
        "400, `invalid byte in chunk length` or `unexpected EOF`",
        "the parser does not tell more",
        {
            "bodies: bad chunks, blank": worded("empty hex number for chunk length", BAD_CHUNK),
            "bodies: bad chunks, beyond 64 bits": worded("http chunk length too large", BAD_CHUNK),
            "bodies: bad chunks, too short": worded("malformed chunked encoding", BAD_CHUNK),
            "bodies: chunks cut in the end": worded("http: unexpected EOF reading trailer", "unexpected EOF"),
        },
    ),
    Intended(
        "Proxied reads (http 3.2)",
        "request id and cross-origin headers twice; HEAD of nothing tells `Content-Length: 0`",
        "once; tells none, as without a proxy",
        "one answer, one id",
        {
            **{f"elsewhere, proxy: {name}": TWICE for name in RELAYED},
            "elsewhere, proxy: origin": TWICE
            | {
                "Access-Control-Allow-Credentials": ("true | true", "true"),
                "Access-Control-Allow-Origin": ("* | *", "*"),
            },
            "elsewhere, proxy: head, unknown": TWICE | {"Content-Length": ("0", None)},
        },
    ),
    Intended(
        "`proxied=true` and the volume is not here (http 3.2)",
        "asks on",
        "404",
        "two servers ask each other for ever",
        {
            "elsewhere, proxy: proxied already": {"status": (OK, NOT_FOUND), "body": (b"needle", b"")},
            "elsewhere, redirect: proxied already": {
                "status": ("HTTP/1.1 301 Moved Permanently", NOT_FOUND),
                "body": (
                    b'<a href="http://ADDRESS/VOLUME,0001aaaaaaaa?proxied=true">Moved Permanently</a>.\n\n',
                    b"",
                ),
            },
        },
    ),
    Intended(
        "Stored pairs named like framing headers (http 3.5)",
        "sent", "not sent", "they break the answer",
        {
            "pairs: Connection: close": not_sent("Connection", "close"),
            "pairs: Keep-Alive: x": not_sent("Keep-Alive", "x"),
            "pairs: Te: x": not_sent("Te", "x"),
            "pairs: Trailer: x": not_sent("Trailer", "x"),
            "pairs: Upgrade: x": not_sent("Upgrade", "x"),
        },
    ),
    Intended(
        "Range `--5` (http 3.10)",
        "206, `bytes 21-15/16`, no body", "416", "it is no range",
        {"ranges: 'bytes=--5'": {"status": (PARTIAL, UNSATISFIABLE), "body": (b"", b"invalid range\n")}},
    ),
    Intended(
        "Range of a manifest with a chunk that cannot be read (http 3.8)",
        "connection drops", "500 with the text", "as without a range",
        {
            "manifests: second broken, behind the gap": UNREADABLE,
            "manifests: broken, range": UNREADABLE,
            "manifests: broken, several ranges": UNREADABLE,
        },
    ),
    Intended(
        "Chunks longer than their manifest says (http 3.8)",
        "sent whole, what follows is shifted", "cut to their size", "no wrong bytes",
        {
            "manifests: nested one is longer": {
                "body": (b"0123456789abcdefghijklmnopqrst01234", b"012340123456789abcdefghijklmnopqrst"),
            },
            "manifests: nested one is longer, inside": {"body": (b"3456789abcdefgh", b"340123456789abc")},
        },
    ),
    Intended(
        "Manifest with a negative size or offset, or a null chunk (http 3.8)",
        "500, or the handler crashes", "served as a plain object", "like all that is no manifest",
        {
            "manifests: negative size": {
                "status": (FAILED, OK),
                "body": (b"Invalid range\n", b'{"chunks": [{"fid": "1,0a01aaaaaaaa", "offset": 0, "size": -1}]}'),
            },
            "manifests: negative offset": {
                "status": (FAILED, OK),
                "body": (b"EOF\n", b'{"chunks": [{"fid": "1,0a01aaaaaaaa", "offset": -5, "size": 10}]}'),
            },
            "manifests: null chunk": {"status": ("", OK), "body": (b"", b'{"chunks":[null]}')},
        },
    ),
    Intended(
        "Chunk ids with a query (http 3.8)",
        "fetched with it", "500", "ids are ids",
        {
            "manifests: file id with a query": {
                "status": (OK, FAILED),
                "body": (b"0123456789", b"Read chunk needle error: [400] http://ADDRESS/1,0a01aaaaaaaa?a=b\n"),
            },
        },
    ),
    Intended(
        "Headers of multipart parts (http 4.2)",
        "10 MiB", "64 KiB, `multipart: message too large`", "memory",
        {
            "forms: 70 KiB of headers": {
                "status": (CREATED, REFUSED),
                "body": (b'{"size":1,"eTag":"a93c5f93"}', b'{"error":"multipart: message too large"}'),
            },
            "forms: 70 KiB of headers, stored": {"status": (OK, NOT_FOUND), "body": (b"x", b"")},
        },
    ),
    Intended(
        "`ts`, `ttl`, `cm` … as form parts (http 4.2)",
        "not seen", "honoured after the query", "forms of browsers",
        {"forms: fields of the query as parts, stored": {"Last-Modified": ("NOW", "Sun, 13 Sep 2020 12:26:40 GMT")}},
    ),
    Intended(
        "HEAD of `/healthz` and `/readyz` (http 6.2)",
        "no `Content-Length`", "`Content-Length: 0`", "it is known",
        {
            "pages: health, head": {"Content-Length": (None, "0")},
            "pages: ready, head": {"Content-Length": (None, "0")},
        },
    ),
]  # fmt: skip

EXPECTED: dict[str, Differences] = {name: found for row in INTENDED for name, found in row.cases.items()}
