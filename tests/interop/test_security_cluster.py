"""A whole cluster with one ``security.toml``: master, filer, the reference and ours, with tokens and a white list."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TypeVar

import pytest

from tests.cluster import Filer, Master, Volumed, WeedServer, WeedVolume
from tests.web import delete, get, get_json, request, upload

pytestmark = pytest.mark.interop

SETTINGS = """
[jwt.signing]
key = "write"
[jwt.signing.read]
key = "read"
[guard]
white_list = "10.9.9.9,127.0.0.0/8"
"""
LARGE = bytes(range(256)) * 40_000
_T = TypeVar("_T", bound=WeedServer)


class Cluster(NamedTuple):
    master: Master
    reference: WeedVolume
    ours: Volumed
    filer: Filer


def secured(server: _T) -> _T:
    (server.home / "security.toml").write_text(SETTINGS)
    return server


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home: Path = tmp_path_factory.mktemp("secured")
    with (
        secured(Master(home / "m")) as master,
        secured(WeedVolume(home / "w", master=master)) as reference,
        secured(Volumed(home / "v", master=master)) as ours,
        secured(Filer(home / "f", master=master, flags=["-maxMB=4"])) as filer,
    ):
        yield Cluster(master, reference, ours, filer)


def test_the_masters_tokens_open_what_they_name(cluster: Cluster) -> None:
    assigned = get(cluster.master.address, "/dir/assign?replication=001")
    fid = assigned.json()["fid"]
    may_write = {"Authorization": assigned.headers["Authorization"]}
    may_read = {
        "Authorization": get(cluster.master.address, f"/dir/lookup?fileId={fid}&read=yes").headers["Authorization"]
    }
    servers = (cluster.ours.address, cluster.reference.address)
    assert [upload(server, fid, b"x").status for server in servers] == [401, 401]
    assert upload(cluster.ours.address, fid, b"abc", headers=may_write).status == 201
    for server in servers:
        assert get(server, f"/{fid}").status == get(server, f"/{fid}", headers=may_write).status == 401
        assert get(server, f"/{fid}", headers=may_read).body == b"abc"
    assert delete(cluster.ours.address, fid, headers=may_write).status == 202
    assert [get(server, f"/{fid}", headers=may_read).status for server in servers] == [404, 404]


@pytest.mark.parametrize("replication", ["000", "001"])
def test_files_of_the_filer(cluster: Cluster, replication: str) -> None:
    path = f"/files/{replication}"
    stored = request("PUT", cluster.filer.address, f"{path}?replication={replication}", body=LARGE)
    assert stored.status == 201, stored.body
    assert get(cluster.filer.address, path).body == LARGE
    chunks = get_json(cluster.filer.address, f"{path}?metadata=true")["chunks"]
    assert len(chunks) == 3
    assert request("DELETE", cluster.filer.address, path).status == 204
    assert get(cluster.filer.address, path).status == 404


def test_growing_is_administration_and_the_master_is_listed(cluster: Cluster) -> None:
    get_json(cluster.master.address, "/vol/grow?count=2&collection=more&dataNode=" + cluster.ours.address)
    volumes = get_json(cluster.ours.address, "/status")["Volumes"]
    assert sum(volume["Collection"] == "more" for volume in volumes) == 2
