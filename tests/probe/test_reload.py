"""SIGHUP while clients are served: new keys and white list count at once, and nobody is cut off (http.md 8.3)."""

from __future__ import annotations

import http.client
import signal
from collections.abc import Iterator

import pytest

from tests.cluster import Volumed
from tests.processes import wait_until
from tests.pss import roles
from tests.tokens import token
from tests.web import assign, get, get_json, request, upload

pytestmark = pytest.mark.probe

RELOAD_LIMIT_S = 60.0
FRONTS = 2


@pytest.fixture
def node(tmp_path) -> Iterator[Volumed]:
    with Volumed(tmp_path / "n", flags=[f"-fronts={FRONTS}"]) as started:
        yield started


def configure(node: Volumed, settings: str) -> None:
    (node.home / "security.toml").write_text(settings)
    node.signal(signal.SIGHUP)


def test_connections_and_processes_stay(node):
    fid = assign(node.address).fid
    assert upload(node.address, fid, b"abc").status == 201
    wait_until(lambda: len(roles(node)["http front"]) == FRONTS, timeout_s=RELOAD_LIMIT_S, what="all fronts")
    processes = node.pids()
    connection = http.client.HTTPConnection(node.address, timeout=20)

    def answer(headers: dict[str, str] | None = None) -> int:
        connection.request("GET", f"/{fid}", headers=headers or {})
        response = connection.getresponse()
        response.read()
        return response.status

    assert answer() == 200
    socket = connection.sock
    configure(node, 'jwt.signing.read.key="r"')
    wait_until(lambda: answer() == 401, timeout_s=RELOAD_LIMIT_S, what="the new key")
    assert answer({"Authorization": "Bearer " + token(fid, "r")}) == 200
    configure(node, "")
    wait_until(lambda: answer() == 200, timeout_s=RELOAD_LIMIT_S, what="no key")
    assert connection.sock is socket
    assert node.pids() == processes
    connection.close()


def test_every_front_and_every_successor_knows(node):
    configure(node, 'jwt.signing.key="w"')
    fid = assign(node.address).fid
    wait_until(lambda: upload(node.address, fid, b"x").status == 401, timeout_s=RELOAD_LIMIT_S, what="the new key")
    assert [upload(node.address, fid, b"x").status for _ in range(20)] == [401] * 20
    node.stop()
    node.start()
    assert upload(node.address, fid, b"x").status == 401


def test_whoever_assigns_gives_the_token(node):
    configure(node, 'jwt.signing.key="w"\njwt.signing.read.key="r"')
    wait_until(lambda: get(node.address, "/").status == 401, timeout_s=RELOAD_LIMIT_S, what="the new key")
    assigned = get(node.address, "/dir/assign")
    fid = assigned.json()["fid"]
    may_write = {"Authorization": assigned.headers["Authorization"]}
    assert upload(node.address, fid, b"abc", headers=may_write).status == 201
    assert get(node.address, f"/{fid}", headers=may_write).status == 401
    may_read = get(node.address, f"/dir/lookup?fileId={fid}&read=yes").headers["Authorization"]
    assert get(node.address, f"/{fid}", headers={"Authorization": may_read}).body == b"abc"
    again = get(node.address, f"/dir/lookup?fileId={fid}").headers["Authorization"]
    assert request("DELETE", node.address, f"/{fid}", headers={"Authorization": again}).status == 202


def test_the_white_list_guards_assignments_too(node):
    configure(node, 'guard.white_list="10.9.9.9"')
    wait_until(
        lambda: get(node.address, "/dir/assign").status == 401, timeout_s=RELOAD_LIMIT_S, what="the white list"
    )
    assert get(node.address, "/dir/lookup?volumeId=1").status == 401
    assert "DiskStatuses" in get_json(node.address, "/status")


@pytest.mark.parametrize("settings", ["[[[", 'grpc.ca="x"'], ids=["broken", "not implemented"])
def test_a_start_with_settings_that_cannot_be_kept_is_refused(settings, tmp_path):
    node = Volumed(tmp_path / "n")
    (node.home / "security.toml").write_text(settings)
    node.launch()
    assert node.wait_exit() == 255
    assert "security.toml" in node.log_tail() or "grpc.ca" in node.log_tail()
    node.close()
