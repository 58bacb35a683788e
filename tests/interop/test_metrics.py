"""The same requests to the reference and to us are counted in the same way (docs/spec/http.md 10)."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import NamedTuple

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume
from tests.metrics_kit import Labels, Scrape, parse, scrape
from tests.processes import HOST, free_port, wait_until
from tests.pss import roles
from tests.web import assign, delete, get, get_json, request, upload

pytestmark = pytest.mark.interop

PREFIX = "SeaweedFS_volumeServer_"
LIMIT_S = 30.0
COUNTED = ("request_total", "request_seconds_count", "handler_total", "file_", "replication_", "SeaweedFS_upload_error")

keys = itertools.count(0x100)


class FrameworkVolumed(Volumed):
    """All requests go through the framework."""

    def environment(self) -> dict[str, str]:
        return super().environment() | {"VOLUMED_NEEDLE_LANE": "0"}


class Gateway(ThreadingHTTPServer):
    """A push gateway that remembers the last push to each path."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__((HOST, 0), _PushHandler)
        self.pushed: dict[str, tuple[str, str, bytes]] = {}
        Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"{HOST}:{self.server_port}"


class _PushHandler(BaseHTTPRequestHandler):
    server: Gateway
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.pushed[self.path] = (self.command, self.headers.get("Content-Type", ""), body)
        self.send_response(202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Be quiet."""


class Cluster(NamedTuple):
    master: Master
    gateway: Gateway
    servers: dict[str, VolumeServer]
    ports: dict[str, int]

    def fid(self, name: str, **query: str) -> str:
        """An unused file id in a volume of this server."""
        volume_id = assign(self.master.address, dataCenter=name, **query).fid.partition(",")[0]
        return f"{volume_id},{next(keys):04x}aabbccdd"

    def scrape(self, name: str) -> Scrape:
        return scrape(self.ports[name])


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("metrics")
    ports = {name: free_port() for name in ("reference", "lane", "framework")}
    kinds: dict[str, type[VolumeServer]] = {"reference": WeedVolume, "lane": Volumed, "framework": FrameworkVolumed}
    gateway = Gateway()
    pushing = [f"-metrics.address={gateway.address}", "-metrics.intervalSeconds=1"]
    with Master(home / "m", flags=pushing) as master:
        servers = {
            name: kind(home / name, master=master, flags=[f"-metricsPort={ports[name]}", f"-dataCenter={name}"])
            for name, kind in kinds.items()
        }
        with servers["reference"], servers["lane"], servers["framework"]:
            for kind in ("replication=000", "replication=100", "collection=gauges"):
                for name in servers:
                    get_json(master.address, f"/vol/grow?dataCenter={name}&count=1&{kind}")
            yield Cluster(master, gateway, servers, ports)
    gateway.shutdown()
    gateway.server_close()


Counts = dict[tuple[str, Labels], float]


def counts(found: Scrape, before: Scrape) -> Counts:
    """What was counted since; series that were not touched are left out."""
    return {
        key: value - before.values.get(key, 0)
        for key, value in found.values.items()
        if key[0].removeprefix(PREFIX).startswith(COUNTED)
        and not key[0].endswith(("_bucket", "_sum"))
        and value != before.values.get(key, 0)
    }


def settled(cluster: Cluster, name: str, before: Scrape, requests: int) -> Counts:
    """What a server has counted once it has counted all requests: an answer may be there a moment before."""
    found: Counts = {}

    def complete() -> bool:
        nonlocal found
        found = counts(cluster.scrape(name), before)
        return sum(value for (key, _), value in found.items() if key == PREFIX + "request_total") >= requests

    wait_until(complete, timeout_s=LIMIT_S, what=f"{name} has counted {requests} requests")
    return found


def wrong(fid: str) -> str:
    """The same needle with another cookie."""
    return fid[:-8] + "00000000"


def requests_to_one_server(cluster: Cluster, name: str) -> int:
    """All kinds of requests; how many of them the store handlers answer."""
    address, fid = cluster.servers[name].address, cluster.fid(name)
    volume = fid.partition(",")[0]
    put = "PUT", f"/{fid}"
    steps: list[tuple[str, str, bytes | None, dict[str, str]]] = [
        (*put, b"hello", {}),
        ("GET", f"/{fid}", None, {}),
        ("HEAD", f"/{fid}", None, {}),
        ("GET", f"/{wrong(fid)}", None, {}),
        ("GET", f"/{volume},ffff01020304", None, {}),
        ("GET", "/9999,ff01020304", None, {}),
        ("GET", "/xx", None, {}),
        ("GET", f"/{fid}", None, {"Range": "bytes=1-2"}),
        ("GET", f"/{fid}", None, {"Range": "bytes=100-"}),
        ("GET", f"/{fid}", None, {"If-None-Match": '"3610a686"'}),
        ("PUT", "/xx", b"a", {}),
        ("PUT", "/9999,ff01020304", b"a", {}),
        ("PUT", f"/{wrong(fid)}", b"a", {}),
        (*put, b"a", {"Content-MD5": "abc"}),
        ("POST", f"/{fid}", b"zz", {"Content-Type": "multipart/form-data; boundary=a"}),
        ("PUT", f"/{fid}?type=replicate", b"hello again", {}),
        ("PUT", f"/{volume},fe01020304", b"", {}),
        ("GET", f"/{volume},fe01020304", None, {}),
        ("OPTIONS", f"/{fid}", None, {}),
        ("PATCH", f"/{fid}", None, {}),
        ("DELETE", f"/{wrong(fid)}", None, {}),
        ("DELETE", "/xx", None, {}),
        ("DELETE", "/9999,ff01020304", None, {}),
        ("DELETE", f"/{fid}", None, {}),
        ("DELETE", f"/{fid}", None, {}),
        ("GET", f"/{fid}", None, {}),
        ("GET", f"/{fid}?readDeleted=true", None, {}),
    ]
    for page in ("/status", "/healthz", "/favicon.ico", f"//{fid}"):
        get(address, page)
    for method, path, body, headers in steps:
        request(method, address, path, body=body, headers=headers)
    return len(steps)


def test_requests_are_counted_alike(cluster: Cluster) -> None:
    result = {}
    for name in cluster.servers:
        before = cluster.scrape(name)
        result[name] = settled(cluster, name, before, requests_to_one_server(cluster, name))
    assert result["lane"] == result["reference"]
    assert result["framework"] == result["reference"]


def requests_beyond_one_server(cluster: Cluster, name: str) -> int:
    """Writes to two copies, and requests for a volume of another server; how many there are."""
    address, own = cluster.servers[name].address, cluster.fid(name, replication="100")
    other = "lane" if name == "reference" else "reference"
    theirs = cluster.fid(other)
    assert upload(cluster.servers[other].address, theirs, b"at home").status == 201
    answers = [
        upload(address, own, b"twice"),
        upload(address, own, b"twice"),
        delete(address, own),
        get(address, f"/{theirs}"),
        request("HEAD", address, f"/{theirs}"),
        get(address, f"/{wrong(theirs)}"),
        upload(address, theirs, b"passed on"),
        upload(address, theirs, b"not passed on", query="type=replicate"),
        delete(address, theirs),
    ]
    assert [answer.status for answer in answers] == [201, 204, 202, 200, 200, 404, 201, 500, 404]
    return len(answers)


def test_what_goes_to_other_servers_is_counted_alike(cluster: Cluster) -> None:
    result = {}
    for name in cluster.servers:
        before = cluster.scrape(name)
        result[name] = settled(cluster, name, before, requests_beyond_one_server(cluster, name))
    assert result["lane"] == result["reference"]
    assert result["framework"] == result["reference"]


def label_names(found: Scrape) -> set[tuple[str, frozenset[str]]]:
    return {(name, frozenset(dict(labels))) for name, labels in found.values if name.startswith(PREFIX)}


def test_names_types_and_labels_are_those_of_the_reference(cluster: Cluster) -> None:
    for name in cluster.servers:
        requests_to_one_server(cluster, name)
    at_heartbeat = PREFIX + "total_disk_size"
    wait_until(lambda: at_heartbeat in cluster.scrape("reference").types, timeout_s=LIMIT_S, what="a heartbeat")
    reference, ours = cluster.scrape("reference"), cluster.scrape("lane")
    expected = {name: kind for name, kind in reference.types.items() if name.startswith(PREFIX)}
    assert {name: ours.types.get(name) for name in expected} == expected
    assert label_names(reference) - label_names(ours) == set()
    assert ours.types["SeaweedFS_build_info"] == "gauge"


def test_gauges_tell_the_truth(cluster: Cluster) -> None:
    server = cluster.servers["lane"]
    fid = cluster.fid("lane", collection="gauges")
    assert upload(server.address, fid, b"x" * 1000).status == 201
    volumes = get_json(server.address, "/status")["Volumes"]
    names = {"gauges", ""}
    mounted = {name: sum(volume["Collection"] == name for volume in volumes) for name in names}

    def sizes() -> dict[str, int]:
        files = list(server.dirs[0].glob("*.dat"))
        return {
            name: sum(file.stat().st_size for file in files if file.name.startswith("gauges_") == bool(name))
            for name in names
        }

    def told(metric: str, kind: str) -> dict[str, float | None]:
        return {name: found.value(PREFIX + metric, collection=name, type=kind) for name in names}

    found = cluster.scrape("lane")
    assert told("volumes", "volume") == mounted
    assert found.value(PREFIX + "max_volumes") == server.volumes_max
    assert told("read_only_volumes", "IsReadOnly") == {"gauges": 0, "": 0}
    directory = str(server.dirs[0])
    assert found.value(PREFIX + "disk_error_status", name=directory, type="error") == 0
    disk = {kind: found.value(PREFIX + "resource", name=directory, type=kind) or 0 for kind in ("all", "used", "free")}
    assert disk["all"] == disk["used"] + disk["free"] > 0
    assert found.value("volumed_disk_state", dir=directory, state="ok") == 1

    def agree() -> bool:
        nonlocal found
        found = cluster.scrape("lane")
        return told("total_disk_size", "normal") == sizes()

    wait_until(agree, timeout_s=LIMIT_S, what="total_disk_size is that of the files")


@pytest.mark.parametrize("name", ["lane", "framework"])
def test_counts_survive_the_kill_of_a_front(cluster: Cluster, name: str) -> None:
    server, fid = cluster.servers[name], cluster.fid(name)
    assert upload(server.address, fid, b"kept").status == 201
    before = cluster.scrape(name)
    fronts = set(roles(server)["http front"])
    for pid in fronts:
        os.kill(pid, signal.SIGKILL)
    wait_until(
        lambda: len(set(roles(server)["http front"]) - fronts) >= len(fronts), timeout_s=LIMIT_S, what="new fronts"
    )
    wait_until(lambda: get(server.address, f"/{fid}").status == 200, timeout_s=LIMIT_S, what="an answer")
    after = cluster.scrape(name)
    lower = {
        key: (value, after.values.get(key))
        for key, value in before.values.items()
        if key[0].endswith(("_total", "_count", "_bucket")) and key[0].startswith("SeaweedFS_")
        and (after.values.get(key) or 0) < value
    }
    assert lower == {}
    ok = {"type": "GET", "code": "200"}
    assert (after.value(PREFIX + "request_total", **ok) or 0) > (before.value(PREFIX + "request_total", **ok) or 0)
    assert (after.value("volumed_processes") or 0) >= 5


def test_metrics_are_pushed_where_the_master_says(cluster: Cluster) -> None:
    paths = {
        name: f"/metrics/job/volumeServer/instance/{HOST}%3A{server.port}" for name, server in cluster.servers.items()
    }
    wait_until(lambda: cluster.gateway.pushed.keys() >= set(paths.values()), timeout_s=LIMIT_S, what="all have pushed")
    method, kind, body = cluster.gateway.pushed[paths["lane"]]
    assert (method, kind) == ("PUT", "text/plain; version=0.0.4; charset=utf-8")
    assert parse(body.decode()).types[PREFIX + "request_total"] == "counter"
    cluster.gateway.pushed.clear()
    wait_until(lambda: paths["lane"] in cluster.gateway.pushed, timeout_s=LIMIT_S, what="another push")


def test_a_lost_master_is_counted(cluster: Cluster) -> None:
    """The last test: nobody assigns volumes afterwards."""
    cluster.master.kill()
    counter = PREFIX + "master_disconnections_total"

    def lost(name: str) -> float | None:
        return cluster.scrape(name).value(counter, address=cluster.master.address)

    wait_until(
        lambda: {lost(name) for name in cluster.servers} == {1.0}, timeout_s=LIMIT_S, what="all have lost the master"
    )
