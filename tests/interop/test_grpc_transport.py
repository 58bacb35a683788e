"""Limits of gRPC connections beside the reference: settings, pings, long messages (docs/spec/grpc.md 7.1)."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from typing import Any

import grpc
import h2.config
import h2.connection
import h2.events
import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.processes import HOST
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

MIB = 1 << 20
TIMEOUT_S = 30.0
PINGS = 8
LONG = 24 * MIB
"""More than any window."""


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[VolumeServer, VolumeServer]]:
    home = tmp_path_factory.mktemp("transport")
    with (
        Master(home / "m") as master,
        WeedVolume(home / "w", master=master) as weed,
        Volumed(home / "v", master=master) as ours,
    ):
        yield weed, ours


class RawClient:
    """Frames of HTTP/2 by hand. A context manager."""

    def __init__(self, server: VolumeServer) -> None:
        self.http = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self.http.initiate_connection()
        self._socket = socket.create_connection((HOST, server.grpc_port), timeout=TIMEOUT_S)
        self._waiting: list[h2.events.Event] = []

    def __enter__(self) -> RawClient:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def send(self) -> None:
        self._socket.sendall(self.http.data_to_send())

    def await_one(self, *kinds: type[h2.events.Event]) -> Any:
        """The next event of one of these kinds; the others are dropped."""
        while True:
            while self._waiting:
                event = self._waiting.pop(0)
                if isinstance(event, kinds):
                    return event
            data = self._socket.recv(64 << 10)
            assert data, "the connection was closed"
            self._waiting += self.http.receive_data(data)


def settings(server: VolumeServer) -> dict[int, int]:
    """What the server allows: streams, window, headers; and the window of the whole connection under 0."""
    with RawClient(server) as client:
        client.send()
        told = client.await_one(h2.events.RemoteSettingsChanged).changed_settings
        window = client.await_one(h2.events.WindowUpdated)
    return {0: window.delta} | {code: told[code].new_value for code in (3, 4, 6)}


def test_settings(servers: tuple[VolumeServer, VolumeServer]) -> None:
    weed, ours = map(settings, servers)
    assert ours == weed == {0: 16 * MIB - 65_535, 3: 1000, 4: 16 * MIB, 6: 8 * MIB}


def end_after_pings(server: VolumeServer) -> tuple[int, bytes]:
    """How the connection ends after pings in a row."""
    with RawClient(server) as client:
        for _ in range(PINGS):
            client.http.ping(b"12345678")
        client.send()
        end = client.await_one(h2.events.ConnectionTerminated)
    return end.error_code, end.additional_data


def test_pings_in_quick_succession(servers: tuple[VolumeServer, VolumeServer]) -> None:
    """Without a call under way; clients that keep to 20 s stay connected."""
    weed, ours = map(end_after_pings, servers)
    assert ours == weed == (11, b"too_many_pings")


def batch_delete(server: VolumeServer, request: pb.BatchDeleteRequest) -> list[tuple[str, int]]:
    options = [("grpc.max_receive_message_length", -1)]
    with grpc.insecure_channel(server.grpc_address, options=options) as channel:
        call = channel.unary_unary(
            "/volume_server_pb.VolumeServer/BatchDelete",
            pb.BatchDeleteRequest.SerializeToString,
            pb.BatchDeleteResponse.FromString,
        )
        return [(result.file_id, result.status) for result in call(request, timeout=TIMEOUT_S).results]


def test_long_messages_in_both_directions(servers: tuple[VolumeServer, VolumeServer]) -> None:
    """File ids that are none come back as they are."""
    request = pb.BatchDeleteRequest(file_ids=["x" * (LONG // 4)] * 4)
    weed, ours = (batch_delete(server, request) for server in servers)
    assert ours == weed
    assert len(ours) == 4
