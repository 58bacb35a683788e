"""A replicated volume on one reference server and one of ours, and reads and writes that meet the wrong server."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume, fid_on
from tests.web import delete, get, get_json, multipart, request, upload

pytestmark = pytest.mark.interop

LARGE = bytes(range(256)) * 6000
keys = itertools.count(0x100)


class Cluster(NamedTuple):
    master: Master
    reference: WeedVolume
    ours: Volumed


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("peers")
    with (
        Master(home / "m") as master,
        WeedVolume(home / "w", master=master) as reference,
        Volumed(home / "v", master=master) as ours,
    ):
        yield Cluster(master, reference, ours)


def replicated_fid(cluster: Cluster) -> str:
    """An unused file id in a volume that both servers have."""
    volume_id = get_json(cluster.master.address, "/dir/assign?replication=001")["fid"].partition(",")[0]
    return f"{volume_id},{next(keys):04x}aabbccdd"


@pytest.fixture(params=["through us", "through the reference"])
def servers(request: pytest.FixtureRequest, cluster: Cluster) -> tuple[VolumeServer, VolumeServer]:
    """(the one that is asked, the other)."""
    if request.param == "through us":
        return cluster.ours, cluster.reference
    return cluster.reference, cluster.ours


def test_a_form_is_stored_equally_on_both(cluster: Cluster, servers: tuple[VolumeServer, VolumeServer]) -> None:
    fid = replicated_fid(cluster)
    body, headers = multipart(b"All work and no play. " * 100, filename="jack.txt", mime="text/plain")
    target = f"/{fid}?ttl=3d&ts=1700000000"
    written = request("POST", servers[0].address, target, body=body, headers={**headers, "Seaweed-Mood": "dull"})
    assert written.status == 201
    first, second = (get(server.address, f"/{fid}", headers={"Accept-Encoding": "gzip"}) for server in servers)
    assert first.status == second.status == 200
    assert first.body == second.body
    for name in ("Etag", "Last-Modified", "Content-Type", "Content-Encoding", "Content-Disposition", "Mood"):
        assert first.headers[name] == second.headers[name] is not None, name


def test_large_objects_and_deletes(cluster: Cluster, servers: tuple[VolumeServer, VolumeServer]) -> None:
    fid = replicated_fid(cluster)
    assert upload(servers[0].address, fid, LARGE).status == 201
    assert get(servers[1].address, f"/{fid}").body == LARGE
    assert delete(servers[0].address, fid).status == 202
    assert [get(server.address, f"/{fid}").status for server in servers] == [404, 404]


def test_reads_are_proxied(cluster: Cluster, servers: tuple[VolumeServer, VolumeServer]) -> None:
    asked, holder = servers
    fid = fid_on(cluster.master, holder)
    assert upload(holder.address, fid, b"needle in a haystack").status == 201
    part = get(asked.address, f"/{fid}?dl=1&x=y%20z", headers={"Range": "bytes=1-3"})
    assert (part.status, part.body, part.headers["Content-Range"]) == (206, b"eed", "bytes 1-3/20")
    assert part.headers["Content-Disposition"].startswith("attachment")
    head = request("HEAD", asked.address, f"/{fid}")
    assert (head.status, head.headers["Content-Length"]) == (200, "20")


def test_writes_are_forwarded(cluster: Cluster, servers: tuple[VolumeServer, VolumeServer]) -> None:
    asked, holder = servers
    fid = fid_on(cluster.master, holder)
    assert upload(asked.address, fid, LARGE).status == 201
    assert get(holder.address, f"/{fid}").body == LARGE


def test_a_manifest_with_chunks_everywhere(cluster: Cluster, servers: tuple[VolumeServer, VolumeServer]) -> None:
    asked, holder = servers
    master = cluster.master
    chunks = [fid_on(master, holder), replicated_fid(cluster), fid_on(master, asked), fid_on(master, holder)]
    for server, chunk in zip((holder, holder, asked, holder), chunks, strict=True):
        assert upload(server.address, chunk, b"0123456789").status == 201
    fid = fid_on(cluster.master, asked)
    listed = [{"fid": chunk, "offset": 10 * number, "size": 10} for number, chunk in enumerate(chunks)]
    manifest = json.dumps({"chunks": listed, "size": 40}).encode()
    assert request("PUT", asked.address, f"/{fid}?cm=true", body=manifest).status == 201
    assert get(asked.address, f"/{fid}").body == b"0123456789" * 4
    assert get(asked.address, f"/{fid}", headers={"Range": "bytes=8-12"}).body == b"89012"
    assert delete(asked.address, fid).json() == {"size": 40}
    gone = {(chunk, server.name): get(server.address, f"/{chunk}").status for chunk in chunks for server in servers}
    assert set(gone.values()) == {404}, gone


def test_a_manifest_whose_chunk_elsewhere_cannot_be_deleted(
    cluster: Cluster, servers: tuple[VolumeServer, VolumeServer]
) -> None:
    asked, holder = servers
    bad = fid_on(cluster.master, holder).partition(",")[0] + ",zz"
    fid = fid_on(cluster.master, asked)
    manifest = json.dumps({"chunks": [{"fid": bad, "offset": 0, "size": 10}]}).encode()
    assert request("PUT", asked.address, f"/{fid}?cm=true", body=manifest).status == 201
    refused = delete(asked.address, fid)
    text = f"Delete chunks error: chunk delete {bad}: KeyHash is too short."
    assert (refused.status, refused.json()) == (500, {"error": text})
    assert get(asked.address, f"/{fid}?cm=false").body == manifest
