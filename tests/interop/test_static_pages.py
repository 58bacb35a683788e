"""Static files, raw, from the reference server and from volumed: what is no content of the files must be equal."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.processes import HOST, free_port
from tests.web import get

pytestmark = pytest.mark.interop

IMAGE = "/seaweedfsstatic/seaweed50x50.png"
ICON = "/favicon.ico"
DATE = "Sat, 21 Nov 2026 07:04:51 GMT"

# A directory DIR is one that exists on the server in question; of files only what any PNG starts with is compared.
CASES = [
    f"HEAD {IMAGE}",
    f"HEAD {ICON}",
    f"HEAD {ICON}?x=1",
    f"DELETE {ICON} | Range: bytes=0-3",
    f"GET {ICON}/",
    f"GET {IMAGE}/",
    f"GET {IMAGE} | Range: bytes=0-7",
    f"GET {IMAGE} | Range: bytes=0-0,1-3",
    f"HEAD {IMAGE} | Range: bytes=0-1,4-5",
    f"GET {IMAGE} | Range: bytes=0-1,99999999-",
    f"GET {IMAGE} | Range: bytes=99999999-",
    f"HEAD {IMAGE} | Range: bytes=99999999-",
    f"GET {IMAGE} | Range: bytes=x",
    f"GET {IMAGE} | Range: lines=0-1",
    f"GET {IMAGE} | Range: bytes=5-3",
    f"HEAD {IMAGE} | Range: bytes=",
    f"HEAD {IMAGE} | Range: bytes=0-,0-",
    f"HEAD {IMAGE} | If-Modified-Since: {DATE}",
    f"HEAD {IMAGE} | If-None-Match: *",
    f"GET {IMAGE} | If-None-Match: \"a\", *",
    f"POST {IMAGE} | If-None-Match: *",
    f"GET {IMAGE} | If-None-Match: \"a\" | Range: bytes=0-3",
    f"GET {IMAGE} | If-Match: \"a\"",
    f"GET {IMAGE} | If-Match: * | Range: bytes=0-3",
    f"GET {IMAGE} | If-Unmodified-Since: {DATE} | Range: bytes=0-3",
    f"HEAD {IMAGE} | If-Range: \"a\" | Range: bytes=0-3",
    f"HEAD {IMAGE} | If-Range: {DATE} | Range: bytes=0-3",
    f"POST {IMAGE} | If-Range: \"a\" | Range: bytes=0-3",
    f"OPTIONS {IMAGE} | Range: bytes=0-3 | Origin: http://a",
    "HEAD /seaweedfsstatic/seaweed50x50%2epng",
    "HEAD /seaweedfsstatic/DIR/%2e%2e/favicon.ico",
    "HEAD /seaweedfsstatic/%2Ffavicon.ico",
    "GET /seaweedfsstatic",
    "GET /seaweedfsstatic?x=1",
    "POST /seaweedfsstatic?x=1",
    "GET /seaweedfsstatic/index.html?x",
    "GET /seaweedfsstatic/nope/index.html",
    "GET /seaweedfsstatic/DIR",
    "HEAD /seaweedfsstatic/DIR?x=1&b=%20",
    "POST /seaweedfsstatic/DIR",
    "GET /seaweedfsstatic/DIR/%2e%2e",
    "GET /seaweedfsstatic/nope",
    "HEAD /seaweedfsstatic/nope",
    "POST /seaweedfsstatic/nope",
    "GET /seaweedfsstatic/nope/",
    "GET /seaweedfsstatic/%2e%2e/status",
    "GET /seaweedfsstatic/..%2f..%2f..%2fetc/passwd",
    "GET /seaweedfsstatic/%00",
    "GET /seaweedfsstatic/a%5cb",
    "GET /seaweedfsstatic/%ff",
    "GET /seaweedfsstatic//favicon.ico",
    "GET /ui/",
]


class Site(NamedTuple):
    """One server, and what is different by its nature."""

    admin: str
    public: str
    directory: str
    sizes: tuple[bytes, bytes]

    def ask(self, case: str, *, public: bool = False) -> tuple[list[bytes], bytes]:
        """Sorted lines of the head, and the body, with sizes and boundaries named instead of told."""
        target, *headers = case.replace("DIR", self.directory).split(" | ")
        lines = [f"{target} HTTP/1.1", "Host: a", "Connection: close", "Content-Length: 0", *headers]
        raw = exchange(self.public if public else self.admin, "\r\n".join(lines).encode() + b"\r\n\r\n")
        for size, name in zip(self.sizes, (b"IMAGE-SIZE", b"ICON-SIZE"), strict=True):
            raw = raw.replace(b"Content-Length: %b\r\n" % size, b"Content-Length: %b\r\n" % name)
            raw = raw.replace(b"/" + size, b"/" + name)
        raw = raw.replace(self.directory.encode(), b"DIR")
        head, _, body = raw.partition(b"\r\n\r\n")
        if (at := head.find(b"boundary=")) >= 0:
            boundary = head[at + 9 :].partition(b"\r\n")[0]
            head, body = head.replace(boundary, b"BOUNDARY"), body.replace(boundary, b"BOUNDARY")
            # Its length depends on the digits of the size, too.
            head = b"\r\n".join(line for line in head.split(b"\r\n") if not line.startswith(b"Content-Length"))
        status, *fields = head.split(b"\r\n")
        kept = [line for line in fields if not line.startswith((b"Date: ", b"X-Amz-Request-Id: "))]
        if b"Content-Length: IMAGE-SIZE" in kept or b"Content-Length: ICON-SIZE" in kept:
            body = body[:8]
        return [status, *sorted(kept)], body


def exchange(address: str, data: bytes) -> bytes:
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def site(server: VolumeServer, public_port: int, directory: str) -> Site:
    sizes = [str(len(get(server.address, path).body)).encode() for path in (IMAGE, ICON)]
    return Site(server.address, f"{HOST}:{public_port}", directory, (sizes[0], sizes[1]))


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Site, Site]]:
    home = tmp_path_factory.mktemp("static")
    ports = free_port(), free_port()
    with (
        Master(home / "m") as master,
        WeedVolume(home / "weed", master=master, flags=[f"-port.public={ports[0]}"]) as weed,
        Volumed(home / "own", master=master, flags=[f"-port.public={ports[1]}"]) as own,
    ):
        yield site(weed, ports[0], "bootstrap"), site(own, ports[1], "volumed")


@pytest.mark.parametrize("case", CASES)
def test_static_answers_are_the_reference_s(sites: tuple[Site, Site], case: str) -> None:
    reference, own = sites
    assert own.ask(case) == reference.ask(case)


def test_the_public_port_serves_the_same_files(sites: tuple[Site, Site]) -> None:
    reference, own = sites
    for case in (f"HEAD {IMAGE}", f"HEAD {ICON}", "GET /seaweedfsstatic/nope"):
        assert own.ask(case, public=True) == reference.ask(case, public=True) == own.ask(case)


@pytest.mark.parametrize("directory", ["", "DIR/"])
def test_directories_are_listed(sites: tuple[Site, Site], directory: str) -> None:
    """The names are our own; everything around them is the reference's."""
    answers = [each.ask(f"GET /seaweedfsstatic/{directory}") for each in sites]
    heads = [[line for line in head if not line.startswith(b"Content-Length")] for head, _ in answers]
    assert heads[0] == heads[1]
    frames = [[line for line in body.split(b"\n") if not line.startswith(b"<a href=")] for _, body in answers]
    assert frames[0] == frames[1]
    assert b'<a href="favicon.ico">favicon.ico</a>' in sites[1].ask("GET /seaweedfsstatic/")[1]


def test_the_page_s_own_files_have_their_types(sites: tuple[Site, Site]) -> None:
    own = sites[1]
    types = {"page.css": "text/css; charset=utf-8", "page.js": "text/javascript; charset=utf-8"}
    for name, mime in types.items():
        assert get(own.admin, f"/seaweedfsstatic/volumed/{name}").headers["Content-Type"] == mime


@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS"])
def test_the_status_page_is_a_page_for_any_method(sites: tuple[Site, Site], method: str) -> None:
    bodies = []
    for each in sites:
        head, body = each.ask(f"{method} /ui/index.html")
        assert head[0] == b"HTTP/1.1 200 OK"
        assert {b"Content-Type: text/html; charset=utf-8", b"Transfer-Encoding: chunked"} < set(head)
        bodies.append(body)
    for word in (b"SeaweedFS ", b"8000GB 4.48", b"Disk Stats", b"System Stats", b"# ReadRequests", b"Volumes"):
        assert all(word in body for body in bodies)


def test_the_head_of_the_status_page_tells_no_length(sites: tuple[Site, Site]) -> None:
    for each in sites:
        head, body = each.ask("HEAD /ui/index.html")
        assert head[0] == b"HTTP/1.1 200 OK"
        assert not body
        assert not any(line.startswith((b"Content-Length", b"Transfer-Encoding")) for line in head)


def test_the_public_port_has_no_status_page(sites: tuple[Site, Site]) -> None:
    reference, own = sites
    assert own.ask("GET /ui/index.html", public=True) == reference.ask("GET /ui/index.html", public=True)
