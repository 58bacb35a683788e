"""HTTPS beside the reference under the same security.toml: answers, replication and reads in both directions."""

from __future__ import annotations

import itertools
import json
import os
import random
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import NamedTuple

import boto3
import pytest
from boto3.s3.transfer import TransferConfig
from botocore import UNSIGNED
from botocore.client import Config

from tests.cluster import Master, VolumeServer, fid_on
from tests.fake_s3 import FakeS3
from tests.grpc_kit import Call, Node
from tests.https_kit import (
    Authority,
    HttpsFiler,
    HttpsS3,
    HttpsVolumed,
    HttpsWeedVolume,
    curl,
    plain_bytes,
    secure_request,
)
from tests.processes import HOST
from tests.shell_kit import TRUST
from tests.web import Response, get, get_json, request
from volumed.formats.checksum import crc32c
from volumed.wire import remote_pb2
from volumed.wire import volume_server_pb2 as pb

pytestmark = pytest.mark.interop

MIB = 1 << 20
LARGE = bytes(range(256)) * 12_000
CHANGING = ("date", "x-amz-request-id", "last-modified")
keys = itertools.count(0x100)


class Cluster(NamedTuple):
    authority: Authority
    master: Master
    reference: HttpsWeedVolume
    ours: HttpsVolumed

    def ask(self, method: str, server: VolumeServer, path: str, **options: object) -> Response:
        return secure_request(self.authority, method, server.address, path, **options)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Clients of both servers need a certificate; the servers know each other by theirs."""
    home = tmp_path_factory.mktemp("https")
    authority = Authority(home / "ca")
    toml = authority.toml()
    with (
        Master(home / "m") as master,
        HttpsWeedVolume(home / "w", toml, master=master, flags=TRUST) as reference,
        HttpsVolumed(home / "v", toml, master=master, flags=TRUST) as ours,
    ):
        yield Cluster(authority, master, reference, ours)


@pytest.fixture(params=["through us", "through the reference"])
def servers(request: pytest.FixtureRequest, cluster: Cluster) -> tuple[VolumeServer, VolumeServer]:
    """(the one that is asked, the other)."""
    pair = (cluster.ours, cluster.reference)
    return pair if request.param == "through us" else pair[::-1]


def replicated_fid(cluster: Cluster) -> str:
    """An unused file id in a volume that both servers have."""
    volume_id = get_json(cluster.master.address, "/dir/assign?replication=001")["fid"].partition(",")[0]
    return f"{volume_id},{next(keys):04x}aabbccdd"


def is_served(cluster: Cluster, server: VolumeServer) -> bool:
    """Whether a client without a certificate gets an answer. With TLS 1.3 it learns that after its handshake."""
    try:
        return cluster.ask("GET", server, "/healthz").status == 200
    except (OSError, HTTPException):
        return False


@pytest.mark.parametrize(
    "start", ["GET /x", "HEAD /", "PUT /1,2", "POST /", "OPTIONS *", "DELETE /x", "PUT x", "FOO /"]
)
def test_plain_requests_are_refused_as_the_reference_does(cluster: Cluster, start: str) -> None:
    data = f"{start} HTTP/1.1\r\nHost: a\r\n\r\n".encode()
    expected = plain_bytes((HOST, cluster.reference.port), data)
    assert plain_bytes((HOST, cluster.ours.port), data) == expected


def test_the_public_port_is_plain(cluster: Cluster) -> None:
    for server in (cluster.ours, cluster.reference):
        assert get(server.public_address, "/999,0123456789").status == 404


@pytest.mark.parametrize("version", ["--http1.1", "--http2"])
def test_answers_are_those_of_the_reference(cluster: Cluster, version: str, tmp_path: Path) -> None:
    both = {server: replicated_fid(cluster) for server in (cluster.ours, cluster.reference)}
    file = tmp_path / "large"
    file.write_bytes(random.Random(1).randbytes(3 * MIB))
    for asked, arguments in (
        ("/FID?ts=1700000000", ["-F", f"file=@{file};type=video/mp4;filename=a.mp4"]),
        ("/FID", []),
        ("/FID", ["-I"]),
        ("/FID", ["-r", "5-9"]),
        ("/FID", ["-H", "If-None-Match: W/\"x\""]),
        ("/FID", ["-H", "Accept-Encoding: gzip"]),
        ("/1,ffffffffffffffffff", []),
        ("//a/../b", []),
        ("/FID", ["-X", "DELETE"]),
        ("/FID", []),
    ):
        ours, theirs = (
            curl(cluster.authority, server.address, asked.replace("FID", fid), version, *arguments)
            for server, fid in both.items()
        )
        assert ours[0] == theirs[0], (asked, arguments)
        for name in CHANGING:
            assert (ours[1].pop(name, None) is None) is (theirs[1].pop(name, None) is None), name
        assert ours == theirs, (asked, arguments)


def test_replicated_writes_and_deletes(cluster: Cluster, servers: tuple[VolumeServer, VolumeServer]) -> None:
    fid = replicated_fid(cluster)
    assert cluster.ask("PUT", servers[0], f"/{fid}", body=LARGE).status == 201
    assert [cluster.ask("GET", server, f"/{fid}").body == LARGE for server in servers] == [True, True]
    assert cluster.ask("DELETE", servers[0], f"/{fid}").status == 202
    assert [cluster.ask("GET", server, f"/{fid}").status for server in servers] == [404, 404]


def test_foreign_objects_are_stored_on_both(cluster: Cluster, servers: tuple[VolumeServer, VolumeServer]) -> None:
    asked, other = servers
    fid, data = replicated_fid(cluster), os.urandom(5000)
    volume, _, key_cookie = fid.partition(",")
    with FakeS3() as store, Node(asked) as node:
        store.objects["bucket/object"] = data
        message = pb.FetchAndWriteNeedleRequest(
            volume_id=int(volume), needle_id=int(key_cookie[:-8], 16), cookie=int(key_cookie[-8:], 16), size=len(data),
            replicas=[pb.FetchAndWriteNeedleRequest.Replica(url=other.address)],
            remote_conf=remote_pb2.RemoteConf(
                type="s3", name="far", s3_endpoint=store.endpoint, s3_access_key="k", s3_secret_key="s",
                s3_force_path_style=True, s3_region="us-east-1",
            ),
            remote_location=remote_pb2.RemoteStorageLocation(name="far", bucket="bucket", path="/object"),
        )  # fmt: skip
        assert node.run(Call("FetchAndWriteNeedle", message)) == {"eTag": f"{crc32c(data):08x}"}
    assert [cluster.ask("GET", server, f"/{fid}").body for server in servers] == [data, data]


def test_reads_are_proxied_and_writes_forwarded(
    cluster: Cluster, servers: tuple[VolumeServer, VolumeServer]
) -> None:
    asked, holder = servers
    fid = fid_on(cluster.master, holder)
    assert cluster.ask("PUT", asked, f"/{fid}", body=LARGE).status == 201
    part = cluster.ask("GET", asked, f"/{fid}", headers={"Range": "bytes=257-259"})
    assert (part.status, part.body) == (206, b"\x01\x02\x03")
    assert cluster.ask("GET", asked, f"/{fid}").body == LARGE
    version, head, body = curl(cluster.authority, asked.address, f"/{fid}?dl=1", "--http2", "-r", "1-2")
    assert (version, head["content-range"], body) == ("HTTP/2 206", f"bytes 1-2/{len(LARGE)}", b"\x01\x02")


def test_chunks_are_fetched_from_the_other_server(cluster: Cluster) -> None:
    chunk = fid_on(cluster.master, cluster.reference)
    assert cluster.ask("PUT", cluster.reference, f"/{chunk}", body=b"0123456789").status == 201
    fid = fid_on(cluster.master, cluster.ours)
    manifest = json.dumps({"chunks": [{"fid": chunk, "offset": 0, "size": 10}], "size": 10}).encode()
    assert cluster.ask("PUT", cluster.ours, f"/{fid}?cm=true", body=manifest).status == 201
    assert cluster.ask("GET", cluster.ours, f"/{fid}").body == b"0123456789"


def test_s3_over_https_volume_servers(cluster: Cluster, tmp_path: Path) -> None:
    """Filer and gateway reach both servers over HTTPS; their own listeners are plain."""
    data = LARGE * 4
    with (
        HttpsFiler(tmp_path / "f", cluster.authority, master=cluster.master) as filer,
        HttpsS3(tmp_path / "s", cluster.authority, filer=filer) as gateway,
    ):
        client = boto3.client(
            "s3", endpoint_url=f"http://{gateway.address}", region_name="us-east-1",
            config=Config(signature_version=UNSIGNED, retries={"max_attempts": 0}, s3={"addressing_style": "path"}),
        )  # fmt: skip
        client.create_bucket(Bucket="bucket")
        source, copy = tmp_path / "source", tmp_path / "copy"
        source.write_bytes(data)
        parts = TransferConfig(multipart_threshold=5 * MIB, multipart_chunksize=5 * MIB)
        client.upload_file(str(source), "bucket", "large", Config=parts)
        for n in range(8):
            client.put_object(Bucket="bucket", Key=f"small-{n}", Body=b"%d" % n)
        client.download_file("bucket", "large", str(copy), Config=parts)
        assert copy.read_bytes() == data
        bodies = [client.get_object(Bucket="bucket", Key=f"small-{n}")["Body"].read() for n in range(8)]
        assert bodies == [b"%d" % n for n in range(8)]
        for listed in client.list_objects_v2(Bucket="bucket")["Contents"]:
            client.delete_object(Bucket="bucket", Key=listed["Key"])
        client.close()
        assert request("GET", filer.address, "/buckets/bucket/large").status == 404


def test_both_servers_ask_their_clients_for_certificates(cluster: Cluster) -> None:
    toml = cluster.authority.toml(mutual=True)
    for server in (cluster.ours, cluster.reference):
        server.stop()
        server.set_security(toml)
        server.start()
        assert not is_served(cluster, server)
        assert cluster.ask("GET", server, "/healthz", known=True).status == 200
    fid = replicated_fid(cluster)
    assert cluster.ask("PUT", cluster.ours, f"/{fid}", body=LARGE, known=True).status == 201
    assert cluster.ask("GET", cluster.reference, f"/{fid}", known=True).body == LARGE
    assert cluster.ask("DELETE", cluster.reference, f"/{fid}", known=True).status == 202
    assert cluster.ask("GET", cluster.ours, f"/{fid}", known=True).status == 404
