"""gRPC with mutual TLS: an authority whose certificates name no host, `security.toml` files, servers and clients."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple, Self

import grpc
import trustme

from tests.cluster import Filer, Master, Volumed, VolumeServer, WeedVolume
from tests.processes import Server
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

__all__ = [
    "GrpcAuthority", "Identity", "TlsFiler", "TlsMaster", "TlsVolumed", "TlsWeedVolume", "channel_as",
    "ping_as",
]  # fmt: skip

TIMEOUT_S = 60.0
HOST_NAME = "node.cluster.example"
"""The one alternative name of all certificates; nothing is reached by it."""
COMPONENTS = ("master", "volume", "filer", "client")


class Identity(NamedTuple):
    """A certificate and its key, PEM files."""

    cert: Path
    key: Path


class GrpcAuthority:
    """Signs the certificates of a cluster."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.ca = folder / "ca.pem"
        self._ca.cert_pem.write_to_path(str(self.ca))

    def issue(self, common_name: str) -> Identity:
        """A fresh certificate, for every kind of use."""
        issued = self._ca.issue_cert(HOST_NAME, common_name=common_name)
        identity = Identity(self._folder / f"{common_name}.pem", self._folder / f"{common_name}.key")
        identity.cert.write_bytes(issued.cert_chain_pems[0].bytes())
        identity.key.write_bytes(issued.private_key_pem.bytes())
        return identity

    def toml(self, *, grpc_lines: str = "", volume_lines: str = "", extra: str = "") -> str:
        """The ``security.toml`` of all servers and of the shell. Each shows a certificate with its own name."""
        parts = ["[grpc]", f'ca = "{self.ca}"', grpc_lines]
        for component in COMPONENTS:
            identity = self.issue(component)
            parts += [f"[grpc.{component}]", f'cert = "{identity.cert}"', f'key = "{identity.key}"']
            if component == "volume":
                parts.append(volume_lines)
        return "\n".join([*parts, extra, ""])


class _Secured(Server):
    """A server with a ``security.toml`` in its working directory. Certificates are looked at often."""

    def secured(self, toml: str) -> Self:
        """Takes effect with the next start."""
        (self.home / "security.toml").write_text(toml)
        return self

    def environment(self) -> dict[str, str]:
        return super().environment() | {"WEED_TLS_CERT_REFRESH_INTERVAL": "100ms"}


class TlsMaster(_Secured, Master):
    """``weed master``; its directory is also where the shell runs."""


class TlsWeedVolume(_Secured, WeedVolume):
    """The reference."""


class TlsVolumed(_Secured, Volumed):
    """``volumed``."""


class TlsFiler(_Secured, Filer):
    """``weed filer``."""


def channel_as(address: str, authority: Path | None, identity: Identity | None) -> grpc.Channel:
    """A client with these files; without an authority it speaks plain text."""
    if authority is None:
        return grpc.insecure_channel(address)
    key, cert = (identity.key.read_bytes(), identity.cert.read_bytes()) if identity else (None, None)
    credentials = grpc.ssl_channel_credentials(authority.read_bytes(), key, cert)
    return grpc.secure_channel(address, credentials, options=[("grpc.ssl_target_name_override", HOST_NAME)])


def ping_as(server: VolumeServer, authority: Path | None, identity: Identity | None) -> tuple[grpc.StatusCode, str]:
    """Status and text of `Ping` to such a client."""
    with channel_as(server.grpc_address, authority, identity) as channel:
        try:
            VolumeServerStub(channel).Ping(pb.PingRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""
