"""What the processes of a node are, and what memory they use."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path

from tests.processes import Server

__all__ = ["child", "pss_bytes", "roles", "total_pss_bytes"]

TITLES = {
    "http front": "volumed: http front",
    "arbiter": "volumed: http arbiter",
    "grpc front": "volumed: grpc front",
    "worker": "volumed: disk",
}


def roles(node: Server) -> dict[str, list[int]]:
    """Process ids of a volumed node by role. A process that has not named itself yet is in none."""
    found: dict[str, list[int]] = {role: [] for role in TITLES} | {"supervisor": [node.pid]}
    for pid in node.pids():
        with contextlib.suppress(OSError):
            title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            for role, prefix in TITLES.items():
                if title.startswith(prefix):
                    found[role].append(pid)
    return found


def child(node: Server, title: str) -> int:
    """Process id of the one with a title; raises OSError while there is none."""
    for pid in node.pids():
        if title in Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " "):
            return pid
    raise OSError(f"no process {title}")


def pss_bytes(pid: int) -> int:
    """Proportional set size: shared pages are divided among those who map them."""
    match = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.MULTILINE)
    assert match, f"no Pss of process {pid}"
    return int(match[1]) << 10


def total_pss_bytes(node: Server) -> int:
    """Memory of the whole node."""
    return sum(pss_bytes(pid) for pid in node.pids())
