"""The same HTTP requests, byte for byte, to the reference server and to volumed: the answers must be equal.

All requests are sent in the order of the table, so later ones see what earlier ones stored. Compared are status line,
header names (spelling included), their values and the body; not what differs by its nature (`VARYING`).
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import re
import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.cluster import Master, Volumed, WeedVolume
from tests.processes import HOST
from tests.web import assign, get

pytestmark = pytest.mark.interop

VARYING = {"Date", "X-Amz-Request-Id"}
TIME = "ts=1700000000"
LARGE = bytes(range(256)) * 9000
"""Over 1 MiB: read page by page; compressible only if it were text."""
TEXT = b"All work and no play makes Jack a dull boy.\n" * 40
ZIPPED = gzip.compress(TEXT, mtime=0)
MANIFEST = json.dumps(
    {
        "name": "whole.txt",
        "mime": "text/csv",
        "size": 30,
        "chunks": [
            {"fid": "1,0caaaaaaaa", "offset": 10, "size": 20},
            {"fid": "1,0baaaaaaaa", "offset": 0, "size": 10},
        ],
    }
).encode()
BROKEN_MANIFEST = json.dumps({"chunks": [{"fid": "1,99aaaaaaaa", "offset": 0, "size": 4}]}).encode()


class Answer(NamedTuple):
    """One response."""

    status: str
    headers: dict[str, str]
    body: bytes


class Case(NamedTuple):
    """One request."""

    name: str
    data: bytes
    ignored: frozenset[str] = frozenset()
    """Further headers that may differ."""


def plain(name: str, method: str, target: str, *headers: str, body: bytes = b"", ignored: str = "") -> Case:
    lines = [f"{method} {target} HTTP/1.1", "Host: a", *headers]
    if body or method in ("PUT", "POST"):
        lines.append(f"Content-Length: {len(body)}")
    return Case(name, "\r\n".join(lines).encode() + b"\r\n\r\n" + body, frozenset(ignored.split()))


def form(name: str, target: str, part_headers: str, data: bytes, *headers: str) -> Case:
    body = f"--b\r\n{part_headers}\r\n\r\n".encode() + data + b"\r\n--b--\r\n"
    return plain(name, "POST", target, "Content-Type: multipart/form-data; boundary=b", *headers, body=body)


def zipped(case: Case) -> Case:
    """One about compressed data: its Etag is of the compressed bytes, which differ between implementations."""
    return case._replace(ignored=case.ignored | {"Etag"})


MD5 = base64.b64encode(hashlib.md5(TEXT).digest()).decode()
FILE = 'Content-Disposition: form-data; name="file"; filename="{}"'

CASES = [
    # Writes
    plain("put", "PUT", f"/1,01aaaaaaaa?{TIME}", body=b"needle"),
    plain("put unchanged", "PUT", f"/1,01aaaaaaaa?{TIME}", body=b"needle"),
    plain("put with another cookie", "PUT", "/1,01aaaaaaab", body=b"needle"),
    plain("put octet-stream", "PUT", f"/1,02aaaaaaaa?{TIME}", "Content-Type: application/octet-stream", body=b"n2"),
    plain("put empty", "PUT", f"/1,03aaaaaaaa?{TIME}"),
    zipped(plain("post raw", "POST", f"/1,04aaaaaaaa?{TIME}", "Content-Type: text/x", "Seaweed-a-PAIR: v", body=TEXT)),
    zipped(form("post form", f"/1,05aaaaaaaa?{TIME}", FILE.format("na\u00efve a.txt"), TEXT)),
    zipped(form("post form with md5", f"/1,06aaaaaaaa?{TIME}", FILE.format("a.html"), TEXT, f"Content-MD5: {MD5}")),
    form("post form with wrong md5", "/1,07aaaaaaaa", FILE.format("a.html"), TEXT[:-1], f"Content-MD5: {MD5}"),
    plain("put gzipped", "PUT", f"/1,08aaaaaaaa?{TIME}", "Content-Encoding: gzip", body=ZIPPED),
    plain("put large", "PUT", f"/1,09aaaaaaaa?{TIME}", body=LARGE),
    plain("put large with ttl", "PUT", f"/1,0aaaaaaaaa?{TIME}&ttl=7d", "Content-Type: image/png", body=LARGE[:200000]),
    form("post large form", f"/1,0eaaaaaaaa?{TIME}", FILE.format("a.bin"), LARGE),
    plain("put chunk 1", "PUT", f"/1,0baaaaaaaa?{TIME}", body=b"0123456789"),
    plain("put chunk 2", "PUT", f"/1,0caaaaaaaa?{TIME}", body=b"abcdefghijklmnopqrst"),
    zipped(plain("put manifest", "PUT", f"/1,0daaaaaaaa?cm=true&{TIME}", body=MANIFEST)),
    zipped(plain("put broken manifest", "PUT", f"/1,0faaaaaaaa?cm=true&{TIME}", body=BROKEN_MANIFEST)),
    plain("put to an unknown volume", "PUT", "/99,01aaaaaaaa?type=replicate", body=b"x"),
    plain("put with a bad volume id", "PUT", "/x,01aaaaaaaa", body=b"x"),
    plain("put with a bad file id", "PUT", "/1,zz", body=b"x"),
    plain("put by slashes", "PUT", "/1/01aaaaaaaa", body=b"x"),
    plain("put with a bad query", "PUT", "/1,01aaaaaaaa?a=%zz", body=b"x"),
    plain("put with a bad query, pretty", "PUT", "/1,01aaaaaaaa?pretty=1&a;b", body=b"x"),
    plain("post nothing", "POST", "/1,01aaaaaaaa"),
    plain("post a form without boundary", "POST", "/1,01aaaaaaaa", "Content-Type: multipart/form-data", body=b"x"),
    plain("post an urlencoded form", "POST", f"/1,10aaaaaaaa?{TIME}",
          "Content-Type: application/x-www-form-urlencoded", body=b"a=b"),
    plain("put over the limit", "PUT", "/1,11aaaaaaaa", body=bytes((3 << 20) + 1)),
    plain("put far over the limit", "PUT", "/1,11aaaaaaaa", body=bytes(5 << 20)),
    # Reads
    plain("get", "GET", "/1,01aaaaaaaa"),
    plain("get by slashes", "GET", "/1/01aaaaaaaa.txt"),
    plain("get with a file name", "GET", "/1/01aaaaaaaa/some name.pdf".replace(" ", "%20")),
    plain("get as a download", "GET", "/1,01aaaaaaaa?dl=true"),
    plain("get with overrides", "GET", "/1,01aaaaaaaa?response-content-type=a/b&response-expires=never"),
    plain("get with an origin", "GET", "/1,01aaaaaaaa", "Origin: http://x"),
    plain("head", "HEAD", "/1,01aaaaaaaa"),
    plain("get octet-stream", "GET", "/1,02aaaaaaaa"),
    plain("get empty", "GET", "/1,03aaaaaaaa"),
    zipped(plain("get with pairs, plain", "GET", "/1,04aaaaaaaa")),
    zipped(plain("get a form's file, plain", "GET", "/1,05aaaaaaaa")),
    zipped(plain("head compressed, plain", "HEAD", "/1,05aaaaaaaa")),
    plain("get gzipped by the client", "GET", "/1,08aaaaaaaa", "Accept-Encoding: br, gzip;q=0"),
    plain("get large", "GET", "/1,09aaaaaaaa"),
    plain("head large", "HEAD", "/1,09aaaaaaaa"),
    plain("get a range of large", "GET", "/1,09aaaaaaaa", "Range: bytes=1048570-1048600"),
    plain("get the end of large", "GET", "/1,09aaaaaaaa", "Range: bytes=-5"),
    plain("get large form", "GET", "/1,0eaaaaaaaa"),
    plain("get with ttl", "GET", "/1,0aaaaaaaaa"),
    plain("get a range", "GET", "/1,01aaaaaaaa", "Range: bytes=1-2"),
    plain("get a range behind the end", "GET", "/1,01aaaaaaaa", "Range: bytes=6-"),
    plain("get a bad range", "GET", "/1,01aaaaaaaa", "Range: bytes=x"),
    plain("get no range", "GET", "/1,01aaaaaaaa", "Range: bytes="),
    plain("get several ranges", "GET", "/1,01aaaaaaaa", "Range: bytes=0-1,4-5", ignored="Content-Type"),
    plain("get if modified", "GET", "/1,01aaaaaaaa", "If-Modified-Since: Tue, 14 Nov 2023 22:13:20 GMT"),
    plain("get if no match", "GET", "/1,01aaaaaaaa", 'If-None-Match: "2c1b9b9c"'),
    zipped(plain("get an expanded manifest", "GET", "/1,0daaaaaaaa")),
    zipped(plain("get a range of a manifest", "GET", "/1,0daaaaaaaa", "Range: bytes=8-12")),
    zipped(plain("head a manifest", "HEAD", "/1,0daaaaaaaa")),
    zipped(plain("get a manifest itself", "GET", "/1,0daaaaaaaa?cm=false")),
    zipped(plain("get a broken manifest", "GET", "/1,0faaaaaaaa")),
    plain("get with another cookie", "GET", "/1,01aaaaaaab"),
    plain("head unknown", "HEAD", "/1,77aaaaaaaa"),
    plain("head empty", "HEAD", "/1,03aaaaaaaa"),
    plain("head bad", "HEAD", "/1,zz"),
    plain("get unknown", "GET", "/1,77aaaaaaaa"),
    plain("get from an unknown volume", "GET", "/99,01aaaaaaaa"),
    plain("get with a bad volume id", "GET", "/x,01aaaaaaaa"),
    plain("get with a bad file id", "GET", "/1,zz"),
    plain("get the root", "GET", "/"),
    plain("get stats", "GET", "/stats/counter"),
    # Deletes
    plain("delete with another cookie", "DELETE", "/1,01aaaaaaab"),
    plain("delete", "DELETE", "/1,01aaaaaaaa"),
    plain("delete again", "DELETE", "/1,01aaaaaaaa"),
    plain("get deleted", "GET", "/1,01aaaaaaaa"),
    plain("get deleted anyway", "GET", "/1,01aaaaaaaa?readDeleted=true"),
    plain("put deleted again", "PUT", f"/1,01aaaaaaaa?{TIME}", body=b"again"),
    plain("get it again", "GET", "/1,01aaaaaaaa"),
    plain("delete a manifest", "DELETE", "/1,0daaaaaaaa"),
    plain("get its chunk", "GET", "/1,0baaaaaaaa"),
    plain("delete a bad file id", "DELETE", "/1,zz?pretty=y"),
    plain("delete a bad volume id", "DELETE", "/x,01aaaaaaaa"),
    plain("delete empty", "DELETE", "/1,03aaaaaaaa"),
    # Methods and protocol
    plain("options", "OPTIONS", "/1,01aaaaaaaa", "Origin: http://x"),
    plain("options of the server", "OPTIONS", "*"),
    plain("patch", "PATCH", "/1,01aaaaaaaa"),
    plain("an unknown method", "FOO", "/1,01aaaaaaaa?pretty=y"),
    plain("an unclean path", "GET", "//1,01aaaaaaaa?a=b"),
    plain("an unclean path, put", "PUT", "/a/../1,01aaaaaaaa", body=b"x"),
    plain("health", "GET", "/healthz"),
    plain("readiness", "HEAD", "/readyz", ignored="Content-Length"),
    plain("missing static file", "GET", "/seaweedfsstatic/nothing.js"),
    plain("static directory without slash", "GET", "/seaweedfsstatic"),
    Case("http 1.0", b"GET /1,01aaaaaaaa HTTP/1.0\r\n\r\n"),
    Case("http 1.0, keep alive", b"GET /1,01aaaaaaaa HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"),
    Case("no host", b"GET /1,01aaaaaaaa HTTP/1.1\r\n\r\n"),
    Case("no http", b"hello\r\n\r\n"),
    Case("http 2", b"GET / HTTP/2.0\r\nHost: a\r\n\r\n"),
    Case("bad escape", b"GET /%zz HTTP/1.1\r\nHost: a\r\n\r\n"),
    plain("connection close", "GET", "/1,01aaaaaaaa", "Connection: close"),
    Case(
        "chunked put",
        b"PUT /1,12aaaaaaaa?ts=1700000000 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3\r\nabc\r\n0\r\n\r\n",
    ),
    plain("get what came in chunks", "GET", "/1,12aaaaaaaa"),
]


def exchange(address: str, data: bytes) -> Answer:
    """Send raw bytes on a new connection and read one response."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=20) as client:
        client.sendall(data)
        reader = client.makefile("rb")
        status = reader.readline().decode().rstrip()
        headers: dict[str, str] = {}
        while line := reader.readline().decode("latin-1").rstrip("\r\n"):
            name, _, value = line.partition(":")
            assert name not in headers, f"{name} twice"
            headers[name] = value.strip()
        if data.startswith(b"HEAD") or " 204 " in status or " 304 " in status:
            body = b""
        elif "Content-Length" in headers:
            body = reader.read(int(headers["Content-Length"]))
        else:
            assert headers.get("Connection") == "close" or status.startswith("HTTP/1.0"), "no end of the body"
            body = reader.read()
    return Answer(status, headers, body)


class WithoutLane(Volumed):
    """volumed with all requests going through the framework."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"VOLUMED_NEEDLE_LANE": "0"}


def ask_all(address: str) -> dict[str, Answer]:
    return {case.name: exchange(address, case.data) for case in CASES}


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Answer]]:
    flags = ["-fileSizeLimitMB=3", "-readMode=local"]
    home = tmp_path_factory.mktemp("reference")
    with Master(home / "m") as master, WeedVolume(home / "v", master=master, flags=flags) as server:
        assign(master.address)
        yield ask_all(server.address)


@pytest.fixture(scope="module", params=["lane", "framework"])
def ours(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Answer]]:
    flags = ["-fileSizeLimitMB=3", "-readMode=local"]
    kind = Volumed if request.param == "lane" else WithoutLane
    with kind(tmp_path_factory.mktemp("ours"), flags=flags) as server:
        assign(server.address)
        yield ask_all(server.address)


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_the_answers_are_equal(case: Case, reference: dict[str, Answer], ours: dict[str, Answer]) -> None:
    expected, found = _normal(case, reference[case.name]), _normal(case, ours[case.name])
    assert found.status == expected.status
    assert found.body[:2000] == expected.body[:2000]
    assert found.body == expected.body
    assert found.headers == expected.headers


def _normal(case: Case, answer: Answer) -> Answer:
    """Without what differs by its nature: times, ids, addresses, boundaries."""
    dropped = VARYING | case.ignored
    headers = {name: value for name, value in answer.headers.items() if name not in dropped}
    body = re.sub(rb"\b[0-9a-f]{60}\b", b"BOUNDARY", answer.body)
    if "Etag" in dropped:
        body = re.sub(rb'"eTag":"[0-9a-f]{8}"', b'"eTag":""', body)
    body = re.sub(HOST.encode() + rb":\d+", b"ADDRESS", body)
    if body != answer.body and "Content-Length" in headers:
        headers["Content-Length"] = "VARYING"
    return Answer(answer.status, headers, body)


def test_a_page_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> None:
    with Volumed(tmp_path_factory.mktemp("pages")) as server:
        status = get(server.address, "/status").json()
        assert status["Volumes"] is None
        assert set(status["DiskStatuses"][0]) == {"dir", "all", "used", "free", "percent_free", "percent_used"}
        assert get(server.address, "/favicon.ico").headers["Content-Type"] == "image/x-icon"
