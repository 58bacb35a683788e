"""HTTPS while things change: certificates are renewed, the node stops, clients that never finish a handshake."""

from __future__ import annotations

import contextlib
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.https_kit import Authority, HttpsVolumed, secure_request
from tests.processes import HOST, wait_until

pytestmark = pytest.mark.interop

HALF_OPEN = 50


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path / "ca")


@pytest.fixture
def node(authority: Authority, tmp_path: Path) -> Iterator[HttpsVolumed]:
    with HttpsVolumed(tmp_path / "v", authority.toml(), master=None) as started:
        yield started


def healthy(authority: Authority, node: HttpsVolumed) -> bool:
    return secure_request(authority, "GET", node.address, "/healthz").status == 200


def shown_certificates(authority: Authority, node: HttpsVolumed) -> set[bytes | None]:
    """What several connections see: the fronts renew independently."""
    shown = set()
    for _ in range(8):
        with authority.connect(node) as connection:
            shown.add(connection.getpeercert(binary_form=True))
    return shown


def test_a_certificate_is_renewed_without_losing_connections(authority: Authority, node: HttpsVolumed) -> None:
    before = shown_certificates(authority, node)
    with authority.connect(node) as kept:
        authority.issue(authority.cert, authority.key)
        new = {ssl.PEM_cert_to_DER_cert(authority.cert.read_text())}
        assert before != new
        wait_until(lambda: shown_certificates(authority, node) == new, timeout_s=30, what="the new certificate")
        kept.sendall(b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n")
        assert kept.recv(100).startswith(b"HTTP/1.1 200 OK\r\n")
    authority.key.write_text("nonsense")
    wait_until(lambda: "certificates stay as they are" in node.log_path.read_text(), timeout_s=30, what="a complaint")
    assert shown_certificates(authority, node) == new


def test_standalone_greets_with_a_url_that_works(authority: Authority, node: HttpsVolumed) -> None:
    greeting = f"volumed is ready on https://{node.address}"
    wait_until(lambda: greeting in node.log_path.read_text(), timeout_s=20, what="the greeting")
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


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_a_stop_lets_an_upload_finish(authority: Authority, node: HttpsVolumed, version: str) -> None:
    fid = secure_request(authority, "GET", node.address, "/dir/assign").json()["fid"]
    command = [
        "curl", "-siN", version, "--cacert", str(authority.ca), "-H", "Expect: 100-continue", "-T", ".",
        f"https://{node.address}/{fid}",
    ]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as client:
        assert client.stdin is not None
        assert client.stdout is not None
        client.stdin.write(b"half")
        client.stdin.flush()
        # The request is in progress: its handler has asked for the body.
        assert b" 100" in client.stdout.readline()
        node.signal(signal.SIGTERM)
        wait_until(lambda: "SIGTERM: stopping" in node.log_tail(), timeout_s=30, what="the stop")
        client.stdin.write(b"whole")
        client.stdin.close()
        assert b'"size":9' in client.stdout.read()
    node.wait_exit(expected=0)


def test_unfinished_handshakes_hold_up_nobody(authority: Authority, node: HttpsVolumed) -> None:
    with contextlib.ExitStack() as stack:
        for number in range(HALF_OPEN):
            half = stack.enter_context(socket.create_connection((HOST, node.port)))
            half.sendall(b"\x16\x03\x01\x02\x00"[: number % 6])
        assert healthy(authority, node)
        node.stop()
