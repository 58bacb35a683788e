"""The harness itself, against the reference: what the other interop and probe tests stand on."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster import S3, Filer, Master, WeedVolume, weed_shell
from tests.processes import HOST, Server, ServerError, session_pids, wait_until
from tests.web import assign, delete, get, multipart, request, upload

pytestmark = pytest.mark.interop


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Master]:
    with Master(tmp_path_factory.mktemp("master")) as server:
        yield server


@pytest.fixture(scope="module")
def volume(master: Master, tmp_path_factory: pytest.TempPathFactory) -> Iterator[WeedVolume]:
    with WeedVolume(tmp_path_factory.mktemp("volume"), master=master) as server:
        yield server


def test_a_needle_is_assigned_stored_read_and_deleted(master: Master, volume: WeedVolume) -> None:
    fid, url = assign(master.address)
    assert url == volume.address
    assert upload(url, fid, b"needle").status == 201
    assert get(url, f"/{fid}").body == b"needle"
    assert delete(url, fid).status == 202
    assert get(url, f"/{fid}").status == 404


@pytest.mark.usefixtures("volume")
def test_a_form_upload_keeps_its_name(master: Master) -> None:
    fid, url = assign(master.address)
    body, headers = multipart(b"<p>", filename="page.html", mime="text/html")
    assert request("POST", url, f"/{fid}", body=body, headers=headers).json()["name"] == "page.html"
    assert get(url, f"/{fid}").headers["Content-Type"] == "text/html"


@pytest.mark.usefixtures("volume")
def test_filer_and_s3_gateway_read_each_other(master: Master, tmp_path: Path) -> None:
    with Filer(tmp_path / "filer", master=master) as filer, S3(tmp_path / "s3", filer=filer) as gateway:
        assert request("PUT", gateway.address, "/bucket").status == 200
        assert request("PUT", gateway.address, "/bucket/key", body=b"object").status == 200
        assert get(filer.address, "/buckets/bucket/key").body == b"object"


def test_weed_shell_prints_the_topology(master: Master, volume: WeedVolume) -> None:
    assert volume.address in weed_shell(master, "volume.list")


def test_a_stopped_server_starts_again_with_its_data(master: Master, tmp_path: Path) -> None:
    with WeedVolume(tmp_path, master=master, flags=["-dataCenter=restart"]) as server:
        fid, url = assign(master.address, dataCenter="restart", collection="restart")
        assert upload(url, fid, b"kept").status == 201
        server.stop()
        assert not server.running
        server.start()
        assert get(server.address, f"/{fid}").body == b"kept"
        server.kill()
        assert server.wait_exit() == -signal.SIGKILL


def test_a_server_that_ends_at_start_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(ServerError, match="flag provided but not defined: -nope"):
        Master(tmp_path, flags=["-nope"]).start()


class Tree(Server):
    """A shell with a child that ignores SIGTERM; ready when it listens nowhere but has printed."""

    name = "tree"

    def command(self) -> list[str]:
        return ["/bin/sh", "-c", "sleep 1000 & echo up; wait"]

    def ready(self) -> bool:
        return "up" in self.log_tail()


def test_the_children_of_a_server_are_found_and_do_not_survive_it(tmp_path: Path) -> None:
    with Tree(tmp_path) as tree:
        wait_until(lambda: len(tree.pids()) == 2, timeout_s=30, what="shell and its child")
        session = tree.pid
        os.kill(session, signal.SIGKILL)
    wait_until(lambda: not session_pids(session), timeout_s=30, what="no survivor")


def test_a_child_that_outlives_a_stopped_server_is_an_error(tmp_path: Path) -> None:
    with Tree(tmp_path) as tree:
        wait_until(lambda: len(tree.pids()) == 2, timeout_s=30, what="shell and its child")
        tree.signal(signal.SIGTERM)
        with pytest.raises(ServerError, match="ended with -15, not 0"):
            tree.wait_exit(expected=0)
        assert tree.pids(), "the child is still there for the teardown to kill"


def test_ports_of_stopped_servers_are_free_again(master: Master, tmp_path: Path) -> None:
    with WeedVolume(tmp_path, master=master) as server:
        server.stop()
        with socket.create_server((HOST, server.port)):
            pass
