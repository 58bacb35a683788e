"""Protocol: versions, hosts, framing, pipelining, interim answers (http.md 1.1 and 1.5)."""

from __future__ import annotations

from tests.interop.differential.kit import TS, Case, closing, fid, get, head, pipeline, post, public, put, raw, request

FILE = fid(0x0201)
HOST = b"Host: a\r\n"


def chunked(name: str, target: str, body: bytes, method: bytes = b"PUT", coding: bytes = b"chunked") -> Case:
    lines = (method, b" ", target.encode(), b" HTTP/1.1\r\n", HOST, b"Transfer-Encoding: ", coding, b"\r\n\r\n")
    return raw(name, b"".join(lines) + body)


def expecting(case: Case) -> Case:
    """The same, but the body is sent when it is asked for."""
    head, blank, body = case.data.partition(b"\r\n\r\n")
    return case._replace(data=head + b"\r\nExpect: 100-continue" + blank, later=body)


CASES = [
    put("store", f"{FILE}?{TS}", b"needle"),
    # versions and the end of the connection
    raw("1.0", f"GET {FILE} HTTP/1.0\r\n\r\n".encode()),
    raw("1.0, keep alive", f"GET {FILE} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode()),
    raw("1.0, head", f"HEAD {FILE} HTTP/1.0\r\n\r\n".encode()),
    raw("1.0, put", f"PUT {fid(0x0202)}?{TS} HTTP/1.0\r\nContent-Length: 3\r\n\r\nabc".encode()),
    raw("1.0, range", f"GET {FILE} HTTP/1.0\r\nRange: bytes=1-2\r\n\r\n".encode()),
    raw("1.0, unknown", b"GET /1,0299aaaaaaaa HTTP/1.0\r\n\r\n"),
    raw("1.0, health", b"GET /healthz HTTP/1.0\r\n\r\n"),
    closing(get("connection close", FILE, "Connection: close")),
    closing(get("connection close among others", FILE, "Connection: x, Close")),
    closing(head("connection close, head", FILE, "Connection: close")),
    closing(put("connection close, put", f"{fid(0x0203)}?{TS}", b"abc", "Connection: close")),
    get("connection keep-alive", FILE, "Connection: keep-alive"),
    closing(raw("2.0", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n")),
    closing(raw("1.2", b"GET / HTTP/1.2\r\nHost: a\r\n\r\n")),
    closing(raw("0.9", b"GET / HTTP/0.9\r\nHost: a\r\n\r\n")),
    closing(raw("no version", b"GET /\r\n\r\n")),
    closing(raw("no http", b"hello\r\n\r\n")),
    closing(raw("lower-case version", b"GET / http/1.1\r\nHost: a\r\n\r\n")),
    # hosts and targets
    closing(raw("no host", f"GET {FILE} HTTP/1.1\r\n\r\n".encode())),
    get("two hosts", FILE, "Host: b"),
    raw("empty host", f"GET {FILE} HTTP/1.1\r\nHost:\r\n\r\n".encode()),
    raw("other host", f"GET {FILE} HTTP/1.1\r\nHost: example.com:1\r\n\r\n".encode()),
    get("absolute form", f"http://example.com{FILE}"),
    get("absolute form without a path", "http://example.com"),
    closing(get("relative target", "1,0201aaaaaaaa")),
    request("options of the server", "OPTIONS", "*"),
    public(request("options of the server, public", "OPTIONS", "*")),
    closing(get("a star with another method", "*")),
    get("https in the absolute form", f"https://example.com{FILE}"),
    # framing
    chunked("chunked put", f"{fid(0x0204)}?{TS}", b"3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\n\r\n"),
    get("what came in chunks", fid(0x0204)),
    chunked("chunked put with a trailer", f"{fid(0x0205)}?{TS}", b"1\r\na\r\n0\r\nA: b\r\n\r\n"),
    chunked("chunked put, upper case", f"{fid(0x0206)}?{TS}", b"A\r\n0123456789\r\n0\r\n\r\n", coding=b"CHUNKED"),
    chunked("chunked put, empty", f"{fid(0x0207)}?{TS}", b"0\r\n\r\n"),
    closing(chunked("unknown coding", FILE, b"", coding=b"gzip")),
    closing(chunked("two codings", FILE, b"", coding=b"gzip, chunked")),
    chunked("get with chunks", FILE, b"3\r\nabc\r\n0\r\n\r\n", method=b"GET"),
    closing(chunked("length beside chunks", fid(0x020E), b"0\r\n\r\n", coding=b"chunked\r\nContent-Length: 3")),
    closing(get("bad length", FILE, "Content-Length: x")),
    closing(get("negative length", FILE, "Content-Length: -1")),
    closing(get("two lengths", FILE, "Content-Length: 1", "Content-Length: 2")),
    pipeline("get with a body", request("", "GET", FILE, body=b"ignored"), get("", FILE)),
    pipeline("delete with a body", request("", "DELETE", "/1,0299aaaaaaaa", body=b"ignored"), get("", FILE)),
    closing(raw("header without a colon", b"GET / HTTP/1.1\r\nHost: a\r\nnonsense\r\n\r\n")),
    closing(raw("blank before the colon", b"GET / HTTP/1.1\r\nHost: a\r\nName : x\r\n\r\n")),
    closing(raw("folded header", f"GET {FILE} HTTP/1.1\r\nHost: a\r\nA: b\r\n c\r\n\r\n".encode())),
    closing(raw("bad method", b"G@T / HTTP/1.1\r\nHost: a\r\n\r\n")),
    closing(raw("blanks in the target", b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n")),
    closing(raw("control character in a value", b"GET / HTTP/1.1\r\nHost: a\r\nA: \x01\r\n\r\n")),
    raw("line feeds alone", f"GET {FILE} HTTP/1.1\nHost: a\n\n".encode()),
    raw("empty line first", f"\r\nGET {FILE} HTTP/1.1\r\nHost: a\r\n\r\n".encode(), "GET"),
    get("many headers", FILE, *[f"X-{number}: y" for number in range(90)]),
    get("600 header lines", FILE, *[f"X-{number}: y" for number in range(600)]),
    get("long header", FILE, "X-Long: " + "y" * 20_000),
    get("long query", f"{FILE}?a={'b' * 20_000}"),
    # pipelining
    pipeline("pipelined reads", get("", FILE), head("", FILE), get("", "/1,zz"), get("", "/healthz"), get("", FILE)),
    pipeline(
        "pipelined writes",
        put("", f"{fid(0x0208)}?{TS}", b"one"),
        put("", f"{fid(0x0208)}?{TS}", b"two"),
        get("", fid(0x0208)),
        request("", "DELETE", fid(0x0208)),
        get("", fid(0x0208)),
    ),
    closing(pipeline("nothing behind a close", get("", FILE, "Connection: close"))),
    # interim answers
    expecting(put("continue", f"{fid(0x0209)}?{TS}", b"abc")),
    closing(expecting(put("rejected before the body", "/x,0209aaaaaaaa", b"abc"))),
    closing(expecting(put("unclean with an expectation", "//a", b"abc"))),
    closing(expecting(post("continue on a form error", f"{fid(0x020C)}?{TS}", b"abc"))),
    expecting(put("continue without a body", f"{fid(0x020A)}?{TS}", b"")),
    expecting(put("continue with a long body", f"{fid(0x020F)}?{TS}", b"\0" * 200_000)),
    put("body before it is asked for", f"{fid(0x0209)}?{TS}", b"abcd", "Expect: 100-continue"),
    put("continue in other letters", f"{fid(0x0209)}?{TS}", b"abcde", "Expect: 100-CONTINUE"),
    closing(put("unknown expectation", f"{fid(0x020B)}?{TS}", b"abc", "Expect: nothing")),
    raw(
        "continue in 1.0",
        f"PUT {fid(0x020D)}?{TS} HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na".encode(),
    ),
]
