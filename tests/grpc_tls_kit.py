"""gRPC with mutual TLS: an authority whose certificates name no host, `security.toml` files, servers and clients."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import grpc
import trustme

from tests.cluster import Filer, Master, Volumed, VolumeServer, WeedVolume
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

__all__ = ["GrpcAuthority", "Identity", "TlsFiler", "TlsMaster", "TlsVolumed", "TlsWeedVolume", "call_as"]

TIMEOUT_S = 20.0
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


class _WithToml:
    """A server with this ``security.toml`` in its working directory."""

    toml = ""
    home: Path

    def secured(self, toml: str) -> None:
        """Takes effect with the next start."""
        (self.home / "security.toml").write_text(toml)


class TlsMaster(_WithToml, Master):
    pass


class TlsWeedVolume(_WithToml, WeedVolume):
    pass


class TlsVolumed(_WithToml, Volumed):
    pass


class TlsFiler(_WithToml, Filer):
    pass


def call_as(
    server: VolumeServer, authority: Path | None, identity: Identity | None
) -> tuple[grpc.StatusCode, str]:
    """What `Ping` of the server says to a client with these files; without an authority it speaks plain text."""
    if authority is None:
        channel = grpc.insecure_channel(server.grpc_address)
    else:
        channel = grpc.secure_channel(
            server.grpc_address,
            grpc.ssl_channel_credentials(
                authority.read_bytes(),
                identity.key.read_bytes() if identity else None,
                identity.cert.read_bytes() if identity else None,
            ),
            options=[("grpc.ssl_target_name_override", HOST_NAME)],
        )
    with channel:
        try:
            VolumeServerStub(channel).Ping(pb.PingRequest(), timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""
