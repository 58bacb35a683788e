"""Contexts from settings, certificates that are renewed, and handshakes on real sockets."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path

import pytest
import uvloop

from tests.https_kit import Authority
from volumed.config.disks import ConfigError
from volumed.http.objects.peer import PeerClient, PeerError
from volumed.http.protocol import tls_accept
from volumed.http.protocol.tls_accept import TlsAdopter
from volumed.security.followed import refresh_interval_s
from volumed.security.settings import HttpsClient, HttpsServer, SecuritySettings, TlsLimits
from volumed.security.tls import TlsContext, client_tls, load_tls, server_tls

HOST = "127.0.0.1"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def settings(authority: Authority, *, ca: bool = False, **limits: str | tuple[str, ...]) -> SecuritySettings:
    own = HttpsServer(str(authority.cert), str(authority.key), str(authority.ca) if ca else "")
    return SecuritySettings(https_server=own, tls=TlsLimits(**limits))  # type: ignore[arg-type]


def server_context(authority: Authority, **limits: str | tuple[str, ...]) -> ssl.SSLContext:
    tls = server_tls(settings(authority, **limits))
    assert tls is not None
    return tls.current


class TestSettings:
    def test_nothing_set_is_plain(self) -> None:
        assert server_tls(SecuritySettings()) is None
        assert client_tls(HttpsClient(cert="ignored")) is None

    def test_versions(self, authority: Authority) -> None:
        assert server_context(authority).minimum_version == ssl.TLSVersion.TLSv1_2
        assert server_context(authority, min_version="TLS 1.0").minimum_version == ssl.TLSVersion.TLSv1_2
        assert server_context(authority, min_version="TLS 1.3").minimum_version == ssl.TLSVersion.TLSv1_3
        assert server_context(authority, max_version="TLS 1.2").maximum_version == ssl.TLSVersion.TLSv1_2

    def test_cipher_suites(self, authority: Authority) -> None:
        names = ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256")
        chosen = [
            cipher["name"]
            for cipher in server_context(authority, cipher_suites=names).get_ciphers()
            if cipher["protocol"] != "TLSv1.3"
        ]
        assert chosen == ["ECDHE-RSA-AES128-GCM-SHA256"]
        modern = server_context(authority, cipher_suites=names[1:])
        assert modern.minimum_version == ssl.TLSVersion.TLSv1_3

    def test_client_certificates_are_asked_for_when_there_is_an_authority(self, authority: Authority) -> None:
        tls = server_tls(settings(authority, ca=True))
        assert tls is not None
        assert tls.current.verify_mode == ssl.CERT_REQUIRED
        assert server_context(authority).verify_mode == ssl.CERT_NONE

    @pytest.mark.parametrize(
        ("section", "values", "complaint"),
        [
            ("server", {"cert": "CERT"}, 'https.volume: both cert and key must be set (got cert="CERT" key="")'),
            ("server", {"ca": "CA"}, "https.volume: both cert and key must be set"),
            ("server", {"cert": "CERT", "key": "gone"}, "open gone: No such file or directory"),
            ("server", {"cert": "CERT", "key": "CA"}, "cannot use certificate CERT with key CA: "),
            ("server", {"cert": "CERT", "key": "KEY", "ca": "KEY"}, "cannot use certificate authority KEY: "),
            ("client", {"key": "KEY"}, 'https.client: both cert and key must be set (got cert="" key="KEY")'),
            ("client", {"ca": "gone"}, "open gone: No such file or directory"),
            ("limits", {"min_version": "TLS1.2"}, "invalid tls version TLS1.2"),
            ("limits", {"max_version": "TLS 1.1"}, "tls.max_version TLS 1.1 is not spoken by this build"),
            ("limits", {"min_version": "TLS 1.3", "max_version": "TLS 1.2"}, "is below tls.min_version"),
            ("limits", {"cipher_suites": ("TLS_NULL",)}, "invalid tls cipher suite name TLS_NULL"),
        ],
    )
    def test_what_the_node_does_not_start_with(
        self, authority: Authority, section: str, values: dict[str, str], complaint: str
    ) -> None:
        paths = {"CERT": str(authority.cert), "KEY": str(authority.key), "CA": str(authority.ca)}
        own = {name: paths.get(value, value) for name, value in values.items()}
        if section == "server":
            given = SecuritySettings(https_server=HttpsServer(**own))
        elif section == "client":
            given = SecuritySettings(https_client=HttpsClient(enabled=True, **own))
        else:
            given = settings(authority, **own)
        with pytest.raises(ConfigError) as failure:
            load_tls(given)
        text = str(failure.value)
        for name, path in paths.items():
            text = text.replace(path, name)
        assert complaint in text

    @pytest.mark.parametrize(("text", "seconds"), [("", 18_000), ("90s", 90), ("0s", 18_000), ("often", 18_000)])
    def test_interval(self, text: str, seconds: float) -> None:
        assert refresh_interval_s({"WEED_TLS_CERT_REFRESH_INTERVAL": text}) == seconds


class TestRefresh:
    def test_only_changed_files_are_read(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        own = Authority(tmp_path)
        tls = server_tls(settings(own))
        assert tls is not None
        first = tls.current
        assert tls.refresh()
        assert tls.current is first
        own.issue(own.cert, own.key)
        tls.refresh()
        second = tls.current
        assert second is not first
        with caplog.at_level(logging.ERROR):
            own.key.write_text("nonsense")
            assert not tls.refresh()
            own.key.unlink()
            assert not tls.refresh()
        assert tls.current is second
        assert len(caplog.records) == 2
        own.issue(own.cert, own.key)
        tls.refresh()
        assert tls.current is not second


class Echo(asyncio.Protocol):
    """Says what was agreed on."""

    def __init__(self, name: bytes) -> None:
        self._name = name

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.write(self._name)  # type: ignore[attr-defined]


@contextlib.asynccontextmanager
async def adopting(tls: TlsContext) -> AsyncIterator[tuple[str, int]]:
    """A listener whose connections are adopted."""
    loop = asyncio.get_running_loop()
    adopter = TlsAdopter(loop, tls, partial(Echo, b"http/1.1"), partial(Echo, b"h2"))
    tasks: set[asyncio.Task[None]] = set()
    with socket.create_server((HOST, 0)) as listener:
        listener.setblocking(False)

        async def accept() -> None:
            while True:
                connection, _ = await loop.sock_accept(listener)
                tasks.add(loop.create_task(adopter.adopt(connection)))

        accepting = loop.create_task(accept())
        yield listener.getsockname()
        accepting.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.gather(accepting, *tasks, return_exceptions=True)


def run(test: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(test())  # type: ignore[arg-type]


class TestHandshakes:
    def test_the_protocol_that_was_agreed_on(self, authority: Authority) -> None:
        async def test() -> None:
            tls = server_tls(settings(authority))
            assert tls is not None
            async with adopting(tls) as address:
                for offered, expected in (([], b"http/1.1"), (["http/1.1"], b"http/1.1"), (["h2", "http/1.1"], b"h2")):
                    context = authority.context(protocols=offered)
                    reader, writer = await asyncio.open_connection(*address, ssl=context)
                    assert await reader.readexactly(len(expected)) == expected
                    writer.close()

        run(test)

    def test_a_handshake_that_does_not_come_ends(
        self, authority: Authority, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        monkeypatch.setattr(tls_accept, "HANDSHAKE_S", 0.1)

        async def test() -> None:
            tls = server_tls(settings(authority))
            assert tls is not None
            async with adopting(tls) as address:
                for start in (b"", b"G", b"\x16", b"\x16\x03\x01\x02\x00\x01"):
                    reader, writer = await asyncio.open_connection(*address)
                    writer.write(start)
                    with contextlib.suppress(ConnectionError):
                        assert await reader.read() == b""
                    writer.close()

        with caplog.at_level(logging.INFO):
            run(test)
        assert len([record for record in caplog.records if record.name == tls_accept.__name__]) == 1

    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            ({"ca": True}, None),
            ({"insecure_skip_verify": True}, None),
            ({}, "certificate verify failed"),
            ({"ca": True, "host": "localhost"}, "Hostname mismatch"),
        ],
    )
    def test_other_servers_are_verified(
        self, authority: Authority, options: dict[str, bool | str], complaint: str | None
    ) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
                await reader.readuntil(b"\r\n\r\n")
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            writer.close()

        async def test() -> None:
            tls = client_tls(
                HttpsClient(
                    enabled=True,
                    ca=str(authority.ca) if options.get("ca") else "",
                    insecure_skip_verify=bool(options.get("insecure_skip_verify")),
                )
            )
            client = PeerClient(tls=tls)
            assert client.scheme == "https"
            server = await asyncio.start_server(answer, HOST, 0, ssl=server_context(authority))
            async with server:
                address = f"{options.get('host', HOST)}:{server.sockets[0].getsockname()[1]}"
                if complaint is None:
                    response = await client.request("GET", address, b"/")
                    assert await response.read(10) == b"ok"
                else:
                    with pytest.raises(PeerError, match=complaint):
                        await client.request("GET", address, b"/")
            client.close()

        run(test)
