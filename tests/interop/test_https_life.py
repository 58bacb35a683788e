"""HTTPS while things change: certificates are renewed, the node stops, clients that never finish a handshake."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import Event, InformationalResponseReceived
from hyperframe.frame import DataFrame

from tests.https_kit import Authority, HttpsVolumed, secure_request
from tests.processes import HOST, wait_until
from tests.pss import roles

pytestmark = pytest.mark.interop

HALF_OPEN = 50


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def node(authority: Authority, tmp_path: Path) -> Iterator[HttpsVolumed]:
    with HttpsVolumed(tmp_path / "v", authority.toml(), master=None, flags=["-pprof"]) as started:
        yield started


def healthy(authority: Authority, node: HttpsVolumed) -> bool:
    return secure_request(authority, "GET", node.address, "/healthz").status == 200


def shown_certificates(authority: Authority, node: HttpsVolumed) -> set[bytes | None]:
    """What all fronts show: they renew independently. Connections that stay open are shared out among them."""
    fronts, shown = roles(node)["http front"], {}
    with contextlib.ExitStack() as held:
        while not shown.keys() >= set(fronts):
            connection = held.enter_context(authority.connect(node))
            shown[answering_process(connection)] = connection.getpeercert(binary_form=True)
    return set(shown.values())


def answering_process(connection: ssl.SSLSocket) -> int:
    connection.sendall(b"GET /debug/pprof/trace?seconds=0.001 HTTP/1.1\r\nHost: a\r\n\r\n")
    answer = b""
    while not (found := re.search(rb"# process (\d+)\n", answer)):
        part = connection.recv(4096)
        if not part:
            raise ConnectionError(answer)
        answer += part
    return int(found[1])


def test_a_certificate_is_renewed_without_losing_connections(authority: Authority, node: HttpsVolumed) -> None:
    wait_until(lambda: len(roles(node)["http front"]) == 2, timeout_s=60, what="both fronts")
    before = shown_certificates(authority, node)
    with authority.connect(node) as kept:
        authority.issue(authority.cert, authority.key)
        new = {ssl.PEM_cert_to_DER_cert(authority.cert.read_text())}
        assert before != new
        wait_until(lambda: shown_certificates(authority, node) == new, timeout_s=60, what="the new certificate")
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    authority.key.write_text("nonsense")
    wait_until(lambda: "certificates stay as they are" in node.log_path.read_text(), timeout_s=60, what="a complaint")
    assert shown_certificates(authority, node) == new
    # A front that starts now has what the arbiter began with.
    fronts = roles(node)["http front"]
    os.kill(fronts[0], signal.SIGKILL)
    wait_until(lambda: len({*roles(node)["http front"]} - {*fronts}) == 1, timeout_s=60, what="another front")
    wait_until(lambda: shown_certificates(authority, node) == before | new, timeout_s=60, what="both certificates")


def test_standalone_greets_with_a_url_that_works(authority: Authority, node: HttpsVolumed) -> None:
    greeting = f"volumed is ready on https://{node.address}"
    wait_until(lambda: greeting in node.log_path.read_text(), timeout_s=60, what="the greeting")
    assigned = secure_request(authority, "GET", node.address, "/dir/assign").json()
    path = f"/{assigned['fid']}"
    assert secure_request(authority, "PUT", node.address, path, body=b"hello").status == 201
    assert secure_request(authority, "GET", node.address, path).body == b"hello"


def test_a_stop_ends_open_connections_in_good_order(authority: Authority, node: HttpsVolumed) -> None:
    with authority.connect(node) as idle, authority.connect(node) as used:
        used.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert used.recv(1000)
        node.stop()
        # An end of file that is not announced would raise.
        assert (idle.recv(1), used.recv(1)) == (b"", b"")


def half_sent(connection: ssl.SSLSocket, path: str) -> Callable[[], bytes]:
    """Begin an upload over HTTP/1.1 and wait for leave to go on. Call what comes back to finish it."""
    head = f"PUT {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"
    connection.sendall(head.encode())
    assert connection.recv(1000).startswith(b"HTTP/1.1 100 Continue")

    def finish() -> bytes:
        connection.sendall(b"halfwhole")
        return connection.recv(1000)

    return finish


def half_sent_http2(connection: ssl.SSLSocket, path: str) -> Callable[[], bytes]:
    """The same over HTTP/2."""
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    fields = [(":method", "PUT"), (":scheme", "https"), (":authority", "a"), (":path", path)]
    client.send_headers(1, [*fields, ("content-length", "9"), ("expect", "100-continue")])

    def until(kind: type[Event]) -> Event:
        while True:
            connection.sendall(client.data_to_send())
            found = [event for event in client.receive_data(connection.recv(10_000)) if isinstance(event, kind)]
            if found:
                return found[0]

    until(InformationalResponseReceived)

    def finish() -> bytes:
        # Behind the server's goodbye the library would not let us send: the last frame is made by hand.
        connection.sendall(DataFrame(1, b"halfwhole", flags=["END_STREAM"]).serialize())
        answer = b""
        while part := connection.recv(10_000):
            answer += part
        return answer

    return finish


@pytest.mark.parametrize(("protocol", "begin"), [("http/1.1", half_sent), ("h2", half_sent_http2)])
def test_a_stop_lets_an_upload_finish(
    authority: Authority,
    node: HttpsVolumed,
    protocol: str,
    begin: Callable[[ssl.SSLSocket, str], Callable[[], bytes]],
) -> None:
    fid = secure_request(authority, "GET", node.address, "/dir/assign").json()["fid"]
    with authority.connect(node, protocols=[protocol]) as connection:
        finish = begin(connection, f"/{fid}")
        node.signal(signal.SIGTERM)
        wait_until(lambda: "SIGTERM: stopping" in node.log_tail(), timeout_s=60, what="the stop")
        assert b'"size":9' in finish()
    node.wait_exit(expected=0)


def test_unfinished_handshakes_hold_up_nobody(authority: Authority, node: HttpsVolumed) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(HALF_OPEN):
            half = stack.enter_context(socket.create_connection((HOST, node.port)))
            half.sendall(b"\x16\x03\x01\x02\x00"[: number % 6])
        assert healthy(authority, node)
        node.stop()
