"""Servers behind HTTPS: an authority of the tests, `security.toml` files, and a client that trusts them."""

from __future__ import annotations

import http.client
import socket
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import trustme

from tests.cluster import S3, Filer, Master, Volumed, VolumeServer, WeedVolume
from tests.processes import HOST, free_port
from tests.web import Response

__all__ = [
    "Authority", "HttpsFiler", "HttpsS3", "HttpsVolumed", "HttpsWeedVolume", "curl", "plain_bytes", "secure_request",
]  # fmt: skip

TIMEOUT_S = 60.0
SILENCE_S = 30.0


class Authority:
    """A certificate authority with one identity for servers and one for clients, as PEM files."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._ca = trustme.CA()
        self.ca = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca))
        self.cert, self.key = folder / "node.pem", folder / "node.key"
        self.issue(self.cert, self.key)
        self.client_cert, self.client_key = folder / "client.pem", folder / "client.key"
        self.issue(self.client_cert, self.client_key)

    def issue(self, cert: Path, key: Path) -> None:
        """Write a fresh identity of this host."""
        identity = self._ca.issue_cert(HOST)
        cert.write_bytes(identity.cert_chain_pems[0].bytes())
        key.write_bytes(identity.private_key_pem.bytes())

    def toml(self, *, mutual: bool = False, peers: bool = True, extra: str = "") -> str:
        """``security.toml`` of a volume server. ``mutual``: clients need a certificate."""
        lines = ["[https.volume]", f'cert = "{self.cert}"', f'key = "{self.key}"']
        if mutual:
            lines.append(f'ca = "{self.ca}"')
        return "\n".join([*lines, self.client_toml() if peers else "", extra])

    def client_toml(self) -> str:
        """The part of ``security.toml`` that a client needs."""
        return "\n".join(
            ["[https.client]", "enabled = true", f'ca = "{self.ca}"', f'cert = "{self.client_cert}"',
             f'key = "{self.client_key}"', ""]
        )  # fmt: skip

    def context(self, *, known: bool = False, protocols: Sequence[str] = ()) -> ssl.SSLContext:
        """What a client connects with. ``known``: with its certificate."""
        context = ssl.create_default_context(cafile=str(self.ca))
        if known:
            context.load_cert_chain(self.client_cert, self.client_key)
        if protocols:
            context.set_alpn_protocols(list(protocols))
        return context

    def connect(self, server: VolumeServer, *, known: bool = False, protocols: Sequence[str] = ()) -> ssl.SSLSocket:
        """A connection after its handshake."""
        plain = socket.create_connection((HOST, server.port), timeout=TIMEOUT_S)
        return self.context(known=known, protocols=protocols).wrap_socket(plain, server_hostname=HOST)


class _Secure(VolumeServer):
    """A volume server with a ``security.toml`` in its working directory and a public port."""

    def __init__(self, home: Path, toml: str, *, master: Master | None, flags: Sequence[str] = ()) -> None:
        self.public_port = free_port()
        super().__init__(home, master=master, flags=[f"-port.public={self.public_port}", *flags])
        self.set_security(toml)

    @property
    def public_address(self) -> str:
        return f"{HOST}:{self.public_port}"

    def set_security(self, toml: str) -> None:
        """Takes effect with the next start."""
        (self.home / "security.toml").write_text(toml)

    def ready(self) -> bool:
        """Its port is open and its master knows it."""
        with socket.create_connection((HOST, self.port), timeout=1):
            return self.master is None or self.address in self.master.node_addresses()


class HttpsVolumed(_Secure, Volumed):
    """``volumed`` behind HTTPS; certificates are looked at often."""

    refresh = "100ms"

    def environment(self) -> dict[str, str]:
        return super().environment() | {"WEED_TLS_CERT_REFRESH_INTERVAL": self.refresh}


class HttpsWeedVolume(_Secure, WeedVolume):
    """The reference behind HTTPS."""


class HttpsFiler(Filer):
    """A filer that reaches volume servers over HTTPS; itself it is plain."""

    def __init__(self, home: Path, authority: Authority, *, master: Master) -> None:
        super().__init__(home, master=master)
        (home / "security.toml").write_text(authority.client_toml())


class HttpsS3(S3):
    """A gateway that reaches volume servers over HTTPS; itself it is plain."""

    def __init__(self, home: Path, authority: Authority, *, filer: Filer) -> None:
        super().__init__(home, filer=filer)
        (home / "security.toml").write_text(authority.client_toml())


def secure_request(
    authority: Authority,
    method: str,
    address: str,
    path: str,
    *,
    body: bytes | None = None,
    headers: Mapping[str, str] | None = None,
    known: bool = False,
) -> Response:
    """One request over HTTP/1.1 and TLS."""
    context = authority.context(known=known)
    connection = http.client.HTTPSConnection(address, timeout=TIMEOUT_S, context=context)
    try:
        connection.request(method, path, body=body, headers=dict(headers or {}))
        answer = connection.getresponse()
        return Response(answer.status, answer.headers, answer.read())
    finally:
        connection.close()


def curl(authority: Authority, address: str, path: str, *arguments: str) -> tuple[str, dict[str, str], bytes]:
    """(version and status, headers by lower-case name, body) as curl got them."""
    command = ["curl", "-si", "--cacert", str(authority.ca), *arguments, f"https://{address}{path}"]
    output = subprocess.run(command, stdout=subprocess.PIPE, timeout=TIMEOUT_S, check=True).stdout
    head, _, body = output.partition(b"\r\n\r\n")
    while head.split(b" ")[1] == b"100":
        head, _, body = body.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    fields = [line.split(": ", 1) for line in lines]
    return " ".join(first.split(" ")[:2]), {name.lower(): value for name, value in fields}, body


def plain_bytes(address: tuple[str, int], data: bytes) -> bytes:
    """All that a server answers to these bytes before it closes the connection."""
    with socket.create_connection(address, timeout=SILENCE_S) as connection:
        connection.sendall(data)
        answer = b""
        while part := connection.recv(4096):
            answer += part
        return answer
