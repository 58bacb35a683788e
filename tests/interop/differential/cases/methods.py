"""Methods on both ports, and what every answer of the store has (http.md 1.3 and 1.4)."""

from __future__ import annotations

from tests.interop.differential.kit import TS, delete, fid, get, head, post, public, put, request

FILE = fid(0x0301)
ORIGIN = "Origin: http://x"
TOKENS = ("PATCH", "TRACE", "PROPFIND", "FOO", "get", "M-SEARCH", "a!b")

CASES = [
    put("store", f"{FILE}?{TS}", b"needle"),
    *[request(f"{method} on the admin port", method, FILE) for method in TOKENS],
    *[public(request(f"{method} on the public port", method, FILE)) for method in TOKENS],
    request("unknown method, pretty", "FOO", f"{FILE}?pretty=y"),
    request("unknown method with a body", "PATCH", FILE, body=b"x"),
    request("unknown method with markup", "A&B", FILE),
    request("options", "OPTIONS", FILE),
    request("options of no file", "OPTIONS", "/"),
    public(request("options, public", "OPTIONS", FILE)),
    public(get("get, public", FILE)),
    public(head("head, public", FILE)),
    public(get("range, public", FILE, "Range: bytes=1-2")),
    public(put("put, public", fid(0x0302), b"x")),
    public(post("post, public", fid(0x0302), b"x")),
    public(put("put of nonsense, public", "/x", b"x")),
    public(delete("delete, public", FILE)),
    get("still there", FILE),
    public(get("unknown, public", fid(0x0302))),
    public(get("bad id, public", "/1,zz")),
    public(get("status, public", "/status")),
    public(get("health, public", "/healthz")),
    public(get("ready, public", "/readyz")),
    public(get("the root, public", "/")),
    # cross-origin
    get("origin, 200", FILE, ORIGIN),
    get("origin, empty", FILE, "Origin:"),
    head("origin, head", FILE, ORIGIN),
    get("origin, 206", FILE, ORIGIN, "Range: bytes=0-0"),
    get("origin, 304", FILE, ORIGIN, "If-Modified-Since: Wed, 15 Nov 2023 00:00:00 GMT"),
    get("origin, 400", "/1,zz", ORIGIN),
    get("origin, 404", fid(0x0399), ORIGIN),
    get("origin, 416", FILE, ORIGIN, "Range: bytes=x"),
    put("origin, 201", f"{fid(0x0303)}?{TS}", b"x", ORIGIN),
    put("origin, 204", f"{fid(0x0303)}?{TS}", b"x", ORIGIN),
    put("origin, put 400", "/1,zz", b"x", ORIGIN),
    put("origin, put 500", "/99,0303aaaaaaaa", b"x", ORIGIN),
    delete("origin, 202", fid(0x0303), ORIGIN),
    delete("origin, delete 404", fid(0x0303), ORIGIN),
    delete("origin, delete 400", "/1,zz", ORIGIN),
    request("origin, options", "OPTIONS", FILE, ORIGIN),
    request("origin, unknown method", "FOO", FILE, ORIGIN),
    public(get("origin, public", FILE, ORIGIN)),
    public(put("origin, put public", FILE, b"x", ORIGIN)),
    public(request("origin, options public", "OPTIONS", FILE, ORIGIN)),
    public(request("origin, unknown method public", "FOO", FILE, ORIGIN)),
    get("origin, health", "/healthz", ORIGIN),
    get("the client's request id", FILE, "X-Amz-Request-Id: MINE"),
    # JSON
    put("pretty error", "/1,zz?pretty=1", b"x"),
    put("pretty without a value", "/1,zz?pretty=", b"x"),
    put("pretty, any value", "/1,zz?pretty=no", b"x"),
    put("pretty result", f"{fid(0x0304)}?pretty=y&{TS}", b"x", "Content-Type: a/b"),
    delete("pretty size", f"{fid(0x0304)}?pretty=y"),
    delete("pretty, nothing there", f"{fid(0x0304)}?pretty=y"),
    delete("pretty, bad id", "/1,zz?pretty=y"),
    *[
        put(f"name {name} in a result", f"{fid(0x0305)}?{TS}", b"x", f"Content-Disposition: inline; filename={name}")
        for name in (
            '"<&>"',
            '"\u00e2\u0080\u00a8"',
            '"\u00ff"',
            '"a\tb"',
            "\u00c3\u00af",
            r'"a\"b"',
            "*=utf-8''%01%7f%e2%80%a9",
        )
    ],
    put("callback", "/1,zz?callback=f", b"x"),
    put("markup in an error", "/<&>%E2%80%A8,0101aaaaaaaa", b"x"),
    put("other letters in an error", "/1,%C3%AFzzzzzzzz", b"x"),
    put("bytes that are no UTF-8 in an error", "/1,%ff%fezzzzzzzz", b"x"),
    put("control characters in an error", "/1,%01%09%0a%7fzzzzzzzz", b"x"),
]
