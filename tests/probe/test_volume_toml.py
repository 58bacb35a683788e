"""Probing of disks in a running node (http.md 9.4)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cluster import Volumed
from tests.processes import wait_until
from tests.web import assign, get, get_json, upload

pytestmark = pytest.mark.probe

PROBLEM = "probe: 20 % of the operations or more took more than 1e-06 ms"


def configured(home: Path, *lines: str) -> Volumed:
    """A node with a `volume.toml` in its working directory and two disks, the second one of type ssd."""
    home.joinpath("volume.toml").write_text("\n".join(["[volume.disk.io]", "probe = true", *lines, ""]))
    dirs = [home / "d0", home / "d1"]
    return Volumed(home, dirs=dirs, flags=["-disk=hdd,ssd", "-fronts=2"])


def test_a_degraded_disk_serves_and_says_why(tmp_path: Path) -> None:
    lines = ('interval = "1s"', "min.samples = 3", 'slow.latency.hdd = "1ns"', 'slow.latency.ssd = "1m"')
    with configured(tmp_path, *lines) as node:

        def errors() -> list[str]:
            return [disk.get("error", "") for disk in get_json(node.address, "/status")["DiskStatuses"]]

        wait_until(lambda: errors() == [PROBLEM, ""], timeout_s=30, what="the first disk is degraded")
        wait_until(lambda: "is slow, was ok: " + PROBLEM in node.log_tail(), timeout_s=30, what="the log says so")
        assert PROBLEM.encode() in get(node.address, "/ui/index.html").body
        fid, url = assign(node.address)
        assert upload(url, fid, b"hello").status == 201
        assert get(url, f"/{fid}").body == b"hello"
        assert get(node.address, "/healthz").status == 200
        node.stop()
    assert "is ok, was slow" not in node.log_tail()


def test_a_value_without_sense_ends_the_node_at_its_start(tmp_path: Path) -> None:
    node = configured(tmp_path, 'timeout = "soon"')
    node.launch()
    node.wait_exit(expected=255)
    text = f'volume.disk.io.timeout in {tmp_path}/volume.toml: time: invalid duration "soon"'
    assert text in node.log_tail()
