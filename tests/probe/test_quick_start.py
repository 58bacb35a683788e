"""The README's quick start, run as it stands."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from tests.cluster import Volumed

pytestmark = pytest.mark.probe

README = Path(__file__).parents[2] / "README.md"
PORT = 8080
TIMEOUT_S = 60


def test_the_quick_start_stores_fetches_and_deletes(tmp_path: Path) -> None:
    (script,) = re.findall(r"^```sh\n(.*?)^```", README.read_text(), re.MULTILINE | re.DOTALL)
    assert f":{PORT}/" in script
    empty = tmp_path / "empty"
    empty.mkdir()
    with Volumed(tmp_path / "node") as node:
        result = subprocess.run(
            ["/bin/sh", "-euc", script.replace(f":{PORT}/", f":{node.port}/")],
            cwd=empty, capture_output=True, text=True, timeout=TIMEOUT_S, check=True,
        )  # fmt: skip
        node.stop()
    assert '"name":"hello.txt"' in result.stdout
    assert "hello, world\n" in result.stdout
    assert re.search(r'\{"size":\d+\}', result.stdout), "answer of the delete"
    assert '"Version"' in result.stdout
