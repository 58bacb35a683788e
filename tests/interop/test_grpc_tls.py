"""gRPC with mutual TLS: master, filer, shell, the reference and volumed under one security.toml."""

from __future__ import annotations

import json
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import grpc
import pytest

from tests.cluster import VolumeServer, fid_on, weed_shell
from tests.grpc_tls_kit import (
    GrpcAuthority,
    Identity,
    TlsFiler,
    TlsMaster,
    TlsVolumed,
    TlsWeedVolume,
    channel_as,
    ping_as,
)
from tests.processes import HOST, wait_until
from tests.web import delete, get, get_json, request, upload
from volumed.wire import volume_server_pb2 as pb
from volumed.wire.volume_server_pb2_grpc import VolumeServerStub

pytestmark = pytest.mark.interop

WAIT_S = 60.0
TRUST = ["-volume.allowUntrustedRemoteEndpoints"]
NAMES = 'allowed_commonNames = "master,volume,filer,client"'
REFUSED = grpc.StatusCode.UNAVAILABLE


class Cluster(NamedTuple):
    authority: GrpcAuthority
    stranger: GrpcAuthority
    master: TlsMaster
    reference: TlsWeedVolume
    ours: TlsVolumed

    @property
    def pair(self) -> tuple[VolumeServer, VolumeServer]:
        return self.reference, self.ours


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """The volume servers let in who has one of four common names or a name of the domain."""
    home = tmp_path_factory.mktemp("grpc-tls")
    authority = GrpcAuthority(home / "ca")
    everybody = authority.toml()
    listed = authority.toml(
        grpc_lines='allowed_wildcard_domain = ".cluster.example"',
        volume_lines=NAMES,
        extra='[tls]\ncipher_suites = "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"',
    )
    master = TlsMaster(home / "m").secured(everybody)
    reference = TlsWeedVolume(home / "w", master=master, flags=TRUST).secured(listed)
    ours = TlsVolumed(home / "v", master=master, flags=TRUST).secured(listed)
    with master, reference, ours:
        yield Cluster(authority, GrpcAuthority(home / "other"), master, reference, ours)


def test_servers_know_each_other(cluster: Cluster) -> None:
    """Heartbeats of both have come, and what they say of volumes, too."""
    for server in cluster.pair:
        fid = fid_on(cluster.master, server)
        assert upload(server.address, fid, b"x").status == 201
        found = get_json(cluster.master.address, f"/dir/lookup?volumeId={fid}")
        assert [location["url"] for location in found["locations"]] == [server.address]


@pytest.mark.parametrize("holder", [0, 1], ids=["chunks here", "chunks there"])
def test_chunks_are_deleted_at_other_servers(cluster: Cluster, holder: int) -> None:
    """`BatchDelete` from the server of a manifest to the one that has its chunk."""
    there, here = cluster.pair[holder], cluster.pair[1 - holder]
    chunk, fid = fid_on(cluster.master, there), fid_on(cluster.master, here)
    assert upload(there.address, chunk, b"0123456789").status == 201
    manifest = json.dumps({"chunks": [{"fid": chunk, "offset": 0, "size": 10}], "size": 10}).encode()
    assert request("PUT", here.address, f"/{fid}?cm=true", body=manifest).status == 201
    assert delete(here.address, fid).status == 202
    wait_until(lambda: get(there.address, f"/{chunk}").status == 404, timeout_s=WAIT_S, what="chunk deleted")


def test_filer_and_shell(cluster: Cluster, tmp_path: Path) -> None:
    with TlsFiler(tmp_path / "f", master=cluster.master).secured(cluster.authority.toml()) as filer:
        body = bytes(range(256)) * 512
        for n in range(8):
            assert request("PUT", filer.address, f"/files/{n}", body=body).status == 201
        assert get(filer.address, "/files/3").body == body
        listing = weed_shell(cluster.master, "volume.list", "cluster.ps", filer=filer)
        assert all(server.address in listing for server in cluster.pair)
        assert request("DELETE", filer.address, "/files?recursive=true").status == 204


@pytest.mark.parametrize("origin", [0, 1], ids=["to us", "from us"])
def test_volumes_are_copied_and_followed(cluster: Cluster, origin: int) -> None:
    """The target reads the source's files and follows its tail."""
    source, target = cluster.pair[origin], cluster.pair[1 - origin]
    fid = fid_on(cluster.master, source)
    volume_id = int(fid.partition(",")[0])
    assert upload(source.address, fid, b"copied").status == 201
    with channel_as(target.grpc_address, cluster.authority.ca, cluster.authority.issue("client")) as channel:
        stub = VolumeServerStub(channel)
        copying = pb.VolumeCopyRequest(volume_id=volume_id, source_data_node=source.peer_address)
        *_, last = stub.VolumeCopy(copying, timeout=WAIT_S)
        assert upload(source.address, f"{volume_id},aa{fid[-8:]}", b"followed").status == 201
        following = pb.VolumeTailReceiverRequest(
            volume_id=volume_id,
            since_ns=last.last_append_at_ns,
            idle_timeout_seconds=1,
            source_volume_server=source.peer_address,
        )
        stub.VolumeTailReceiver(following, timeout=WAIT_S)
    assert get(target.address, f"/{fid}").body == b"copied"
    assert get(target.address, f"/{volume_id},aa{fid[-8:]}").body == b"followed"


@pytest.mark.parametrize("name", ["volume", "any.cluster.example", "Volume", "other", "cluster.example"])
def test_common_names(cluster: Cluster, name: str) -> None:
    """Who may come may come to both. The others fail at the handshake there, and at each call here (P15)."""
    identity = cluster.authority.issue(name)
    theirs, ours = (ping_as(server, cluster.authority.ca, identity) for server in cluster.pair)
    if name in ("volume", "any.cluster.example"):
        assert theirs == ours == (grpc.StatusCode.OK, "")
    else:
        assert theirs[0] is REFUSED
        assert ours == (grpc.StatusCode.UNAUTHENTICATED, f"Authenticate: invalid subject client common name: {name}")


def test_refused_names_reach_no_stream(cluster: Cluster) -> None:
    with channel_as(cluster.ours.grpc_address, cluster.authority.ca, cluster.authority.issue("other")) as channel:
        call = VolumeServerStub(channel).CopyFile(pb.CopyFileRequest(volume_id=1, ext=".dat"), timeout=WAIT_S)
        with pytest.raises(grpc.RpcError) as failure:
            next(call)
    assert failure.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize("kind", ["no certificate", "other authority", "plain text", "authority of another server"])
def test_strangers_fail_at_the_handshake(cluster: Cluster, kind: str) -> None:
    known, ca = cluster.authority.issue("volume"), cluster.authority.ca
    foreign: tuple[Path | None, Identity | None] = {
        "no certificate": (ca, None),
        "other authority": (ca, cluster.stranger.issue("volume")),
        "plain text": (None, None),
        "authority of another server": (cluster.stranger.ca, known),
    }[kind]
    assert [ping_as(server, *foreign)[0] for server in cluster.pair] == [REFUSED, REFUSED]


@pytest.mark.parametrize("suite", ["ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-GCM-SHA256"])
def test_cipher_suites_of_tls_1_2(cluster: Cluster, suite: str) -> None:
    """Both speak only the one that is configured."""
    context = ssl.create_default_context(cafile=str(cluster.authority.ca))
    identity = cluster.authority.issue("volume")
    context.load_cert_chain(identity.cert, identity.key)
    context.check_hostname = False
    context.set_alpn_protocols(["h2"])
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(suite)
    spoken = [greeted(server, context) for server in cluster.pair]
    assert spoken == ([suite] * 2 if "AES256" in suite else [""] * 2)


def greeted(server: VolumeServer, context: ssl.SSLContext) -> str:
    """The cipher suite, or nothing."""
    try:
        with context.wrap_socket(socket.create_connection((HOST, server.grpc_port), timeout=WAIT_S)) as secured:
            return (secured.cipher() or ("",))[0]
    except OSError:
        return ""


def test_certificates_are_renewed_while_the_cluster_runs(cluster: Cluster) -> None:
    """New files are shown to clients of the port, and to the master with the next connection."""
    before = serial_number(cluster)
    for component in ("master", "volume", "filer", "client"):
        cluster.authority.issue(component)
    wait_until(lambda: serial_number(cluster) != before, timeout_s=WAIT_S, what="new certificate shown")
    cluster.master.stop()
    cluster.master.start()
    wait_until(
        lambda: set(cluster.master.node_addresses()) == {server.address for server in cluster.pair},
        timeout_s=WAIT_S,
        what="both servers are back",
    )
    assert get_json(cluster.master.address, "/cluster/status")["IsLeader"]


def serial_number(cluster: Cluster) -> str:
    context = ssl.create_default_context(cafile=str(cluster.authority.ca))
    context.check_hostname = False
    with context.wrap_socket(socket.create_connection((HOST, cluster.ours.grpc_port), timeout=WAIT_S)) as secured:
        return str((secured.getpeercert() or {})["serialNumber"])
