"""Small requests at full speed: the ``wrk`` load generator with the script ``needles.lua``."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from benchmarks.load import Load, LoadError
from benchmarks.servers import COOKIE

__all__ = ["Place", "run_wrk"]

SCRIPT = Path(__file__).with_name("needles.lua")
GRACE_S = 30
MISSING = "wrk is not installed; it is a package of Debian, Ubuntu, Fedora and Homebrew (apt-get install wrk)"


class Place(Protocol):
    """A server and the volumes over which keys are spread."""

    @property
    def address(self) -> str: ...

    @property
    def volume_ids(self) -> Sequence[int]: ...


def run_wrk(
    target: Place, mode: str, *, connections: int, seconds: int, first_key: int, count: int = 0, body_bytes: int = 0
) -> Load:
    """Run ``mode`` (``get``, ``put``, ``form``; see the script) for ``seconds`` over ``connections``.

    Raises LoadError when wrk is missing or any request fails.
    """
    program = shutil.which("wrk")
    if not program:
        raise LoadError(MISSING)
    volume_ids = ",".join(map(str, target.volume_ids))
    arguments = [mode, volume_ids, f"{COOKIE:08x}", str(first_key), str(count), str(body_bytes)]
    result = subprocess.run(
        [program, "-t1", f"-c{connections}", f"-d{seconds}s", "-s", str(SCRIPT), f"http://{target.address}",
         "--", *arguments],
        capture_output=True, text=True, timeout=seconds + GRACE_S, check=False,
    )  # fmt: skip
    _, found, figures = result.stdout.rpartition("RESULT ")
    if not found:
        raise LoadError(f"wrk failed: {result.stdout}{result.stderr}")
    requests, duration_us, p50_us, p99_us, bad_status, broken = map(int, figures.split())
    if bad_status or broken or not requests:
        raise LoadError(f"{requests} requests: {bad_status} with an error status, {broken} broken")
    return Load(requests, duration_us / 1e6, p50_us / 1e3, p99_us / 1e3)
