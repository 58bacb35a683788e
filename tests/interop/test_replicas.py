"""Three servers, one of them the reference: copies that are read-only, dead, or asked for what they do not have.

Every test runs with ours and with the reference as the server that is asked, and holds both to the same answer.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from tests.cluster import Master, Volumed, VolumeServer, WeedVolume, weed_shell
from tests.processes import wait_until
from tests.shell_kit import TRUST
from tests.web import delete, get, get_json, multipart, request, upload

pytestmark = pytest.mark.interop

TEXT = b"All work and no play makes Jack a dull boy.\n" * 50
LARGE = bytes(range(256)) * 6000
keys = itertools.count(0x100)


class Cluster(NamedTuple):
    """``ours`` and ``redirecting`` are volumed, the latter with ``-readMode=redirect``."""

    master: Master
    reference: WeedVolume
    ours: Volumed
    redirecting: Volumed

    def servers(self) -> tuple[VolumeServer, ...]:
        return self.reference, self.ours, self.redirecting


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("replicas")
    with (
        Master(home / "m") as master,
        WeedVolume(home / "w", master=master, volumes_max=64, flags=TRUST) as reference,
        Volumed(home / "v", master=master, volumes_max=64) as ours,
        Volumed(home / "x", master=master, volumes_max=64, flags=["-readMode=redirect"]) as redirecting,
    ):
        yield Cluster(master, reference, ours, redirecting)


def fid_in(cluster: Cluster, replication: str, *holders: VolumeServer) -> str:
    """An unused file id in a volume of that placement whose copies are on just these servers."""
    wanted = sorted(server.address for server in holders)
    collection = f"c{replication}"
    where = f"replication={replication}&collection={collection}"
    for attempt in range(200):
        if not attempt % 20:
            get_json(cluster.master.address, f"/vol/grow?{where}&count=2")
        assigned = get_json(cluster.master.address, f"/dir/assign?{where}")
        volume_id = assigned["fid"].partition(",")[0]
        if locations(cluster, volume_id) == wanted:
            return f"{volume_id},{next(keys):04x}aabbccdd"
    raise AssertionError(f"no {replication} volume on {wanted}")


def locations(cluster: Cluster, volume_id: str) -> list[str]:
    """Addresses that the master knows for a volume."""
    found = get_json(cluster.master.address, f"/dir/lookup?volumeId={volume_id}")
    return sorted(location["url"] for location in found["locations"])


@pytest.fixture(params=["ours asked", "reference asked"])
def pair(request: pytest.FixtureRequest, cluster: Cluster) -> tuple[VolumeServer, VolumeServer]:
    """(the one that is asked, the other)."""
    both = (cluster.ours, cluster.reference)
    return both if request.param == "ours asked" else both[::-1]


def mark(cluster: Cluster, server: VolumeServer, fid: str, how: str) -> None:
    """Make one copy read-only or writable, and wait until the server says so."""
    volume_id = fid.partition(",")[0]
    weed_shell(
        cluster.master, "lock", f"volume.mark -node {server.peer_address} -volumeId {volume_id} -{how}", "unlock"
    )

    def marked() -> bool:
        volumes = get_json(server.address, "/status")["Volumes"]
        return any(v["Id"] == int(volume_id) and v["ReadOnly"] == (how == "readonly") for v in volumes)

    wait_until(marked, timeout_s=60, what=f"volume {volume_id} to be {how}")


def test_three_copies_are_equal_whoever_takes_the_write(cluster: Cluster) -> None:
    for asked in cluster.servers():
        fid = fid_in(cluster, "002", *cluster.servers())
        body, headers = multipart(TEXT, filename="jack.txt", mime="text/plain")
        target = f"/{fid}?ts=1700000000"
        written = request("POST", asked.address, target, body=body, headers={**headers, "Seaweed-Mood": "dull"})
        assert written.status == 201, asked.name
        copies = [get(server.address, f"/{fid}", headers={"Accept-Encoding": "gzip"}) for server in cluster.servers()]
        assert [copy.status for copy in copies] == [200] * 3
        assert len({copy.body for copy in copies}) == 1
        for name in ("Etag", "Last-Modified", "Content-Type", "Content-Encoding", "Content-Disposition", "Mood"):
            assert len({copy.headers[name] for copy in copies}) == 1, name
        assert delete(asked.address, fid).status == 202
        assert [get(server.address, f"/{fid}").status for server in cluster.servers()] == [404] * 3


def test_two_of_ours_hold_a_large_object(cluster: Cluster) -> None:
    fid = fid_in(cluster, "001", cluster.ours, cluster.redirecting)
    assert upload(cluster.redirecting.address, fid, LARGE).status == 201
    assert get(cluster.ours.address, f"/{fid}").body == LARGE
    assert delete(cluster.ours.address, fid).status == 202
    assert get(cluster.redirecting.address, f"/{fid}").status == 404


def test_redirected_reads(cluster: Cluster) -> None:
    for holder in (cluster.ours, cluster.reference):
        fid = fid_in(cluster, "000", holder)
        assert upload(holder.address, fid, b"needle").status == 201
        answer = get(cluster.redirecting.address, f"/{fid}.txt?collection=a%20b&dl=1")
        target = f"http://{holder.address}/{fid}?collection=a+b&proxied=true"
        assert (answer.status, answer.headers["Location"]) == (301, target)
        page = f'<a href="{target.replace("&", "&amp;")}">Moved Permanently</a>.\n\n'
        assert answer.body.decode() == page
        assert get(holder.address, target.partition(holder.address)[2]).body == b"needle"


def test_a_request_that_was_passed_on_is_not_passed_on_again(cluster: Cluster) -> None:
    fid = fid_in(cluster, "000", cluster.reference)
    assert upload(cluster.reference.address, fid, b"needle").status == 201
    assert get(cluster.ours.address, f"/{fid}").body == b"needle"
    assert get(cluster.ours.address, f"/{fid}?proxied=true").status == 404


def test_a_volume_that_has_moved_is_found(cluster: Cluster) -> None:
    fid = fid_in(cluster, "000", cluster.redirecting)
    volume_id = fid.partition(",")[0]
    assert upload(cluster.redirecting.address, fid, b"needle").status == 201
    assert get(cluster.ours.address, f"/{fid}").body == b"needle"
    source, target = cluster.redirecting.peer_address, cluster.reference.peer_address
    weed_shell(
        cluster.master, "lock", f"volume.copy -source {source} -target {target} -volumeId {volume_id}",
        f"volume.delete -node {source} -volumeId {volume_id}", "unlock",
    )  # fmt: skip
    wait_until(lambda: get(cluster.ours.address, f"/{fid}").body == b"needle", timeout_s=60, what="the needle there")
    # For a moment the master may know both.
    where = [cluster.reference.address]
    wait_until(lambda: locations(cluster, volume_id) == where, timeout_s=60, what="the volume has moved")
    assert get(cluster.ours.address, f"/{fid}").body == b"needle"


def test_a_read_only_copy_takes_no_write(cluster: Cluster, pair: tuple[VolumeServer, VolumeServer]) -> None:
    asked, other = pair
    fid = fid_in(cluster, "001", asked, other)
    volume_id = fid.partition(",")[0]
    assert upload(asked.address, fid, b"before").status == 201
    mark(cluster, other, fid, "readonly")
    try:
        refused = upload(asked.address, f"{volume_id},{next(keys):04x}aabbccdd", b"after")
        assert refused.status == 500
        assert refused.json()["error"] == (
            f"writable replication locations [1] is less than volume {volume_id} replication copy count [2]"
        )
        gone = delete(asked.address, fid)
        assert gone.status == 500
        assert gone.json()["error"] == (
            f"Deletion Failed: replication locations [1] is less than volume {volume_id} replication copy count [2]"
        )
        assert [get(server.address, f"/{fid}").body for server in pair] == [b"before", b"before"]
    finally:
        mark(cluster, other, fid, "writable")
    assert upload(asked.address, fid, b"again").status == 201
    assert get(other.address, f"/{fid}").body == b"again"


def test_a_dead_copy(cluster: Cluster, pair: tuple[VolumeServer, VolumeServer]) -> None:
    asked, other = pair
    fid = fid_in(cluster, "001", asked, other)
    volume_id = fid.partition(",")[0]
    assert upload(asked.address, fid, b"before").status == 201
    other.kill()
    try:
        wait_until(lambda: locations(cluster, volume_id) == [asked.address], timeout_s=60, what="the master to notice")
        assert get(asked.address, f"/{fid}").body == b"before"
        refused = upload(asked.address, fid, b"after")
        assert refused.status == 500
        assert refused.json()["error"] == (
            f"writable replication locations [1] is less than volume {volume_id} replication copy count [2]"
        )
        kept = delete(asked.address, fid)
        assert kept.status == 500
        assert kept.json()["error"] == (
            f"Deletion Failed: replication locations [1] is less than volume {volume_id} replication copy count [2]"
        )
        assert get(asked.address, f"/{fid}").body == b"before"
    finally:
        other.start()
    wait_until(lambda: len(locations(cluster, volume_id)) == 2, timeout_s=60, what="the copy to be back")
    assert upload(asked.address, fid, b"after").status == 201
    assert get(other.address, f"/{fid}").body == b"after"


def test_deletes_stay_where_they_are_sent(cluster: Cluster, pair: tuple[VolumeServer, VolumeServer]) -> None:
    """Reads and writes of a volume elsewhere are passed on, deletes are not."""
    asked, other = pair
    fid = fid_in(cluster, "000", other)
    assert upload(other.address, fid, b"needle").status == 201
    assert get(asked.address, f"/{fid}").body == b"needle"
    refused = delete(asked.address, fid)
    assert (refused.status, refused.json()) == (404, {"size": 0})
    assert get(other.address, f"/{fid}").body == b"needle"
    assert upload(asked.address, fid, b"forwarded").status == 201
    assert get(other.address, f"/{fid}").body == b"forwarded"
