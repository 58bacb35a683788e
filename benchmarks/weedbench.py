"""``weed benchmark``: the cluster's own load generator, which asks the master for every file id."""

from __future__ import annotations

import re
import subprocess

from benchmarks.load import Load, LoadError
from benchmarks.servers import Target
from tests.cluster import WEED

__all__ = ["weed_read", "weed_write"]

CONNECTIONS = 16
BODY_BYTES = 1024
TIMEOUT_S = 300
REPORT = re.compile(
    r"Time taken for tests:\s+(?P<seconds>[\d.]+).*?Completed requests:\s+(?P<done>\d+).*?"
    r"Failed requests:\s+(?P<failed>\d+).*?50%\s+(?P<p50>[\d.]+).*?99%\s+(?P<p99>[\d.]+)",
    re.DOTALL,
)


def weed_write(target: Target, count: int) -> Load:
    """Write ``count`` needles of about 1 KB."""
    return _run(target, "-writeOnly", f"-n={count}")


def weed_read(target: Target, count: int) -> Load:
    """``count`` reads of random needles that the last `weed_write` has written."""
    return _run(target, "-readOnly", f"-n={count}")


def _run(target: Target, *flags: str) -> Load:
    result = subprocess.run(
        [str(WEED), "-logtostderr=true", "benchmark", f"-master={target.master.peer_address}", f"-c={CONNECTIONS}",
         f"-size={BODY_BYTES}", f"-list={target.server.home / 'written.txt'}", *flags],
        cwd=target.server.home, env=target.server.environment(),
        capture_output=True, text=True, timeout=TIMEOUT_S, check=False,
    )  # fmt: skip
    report = REPORT.search(result.stdout)
    if not report:
        raise LoadError(f"weed benchmark failed: {result.stdout[-500:]}{result.stderr[-500:]}")
    if int(report["failed"]) or not int(report["done"]):
        raise LoadError(f"weed benchmark: {report['done']} requests complete, {report['failed']} failed")
    return Load(int(report["done"]), float(report["seconds"]), float(report["p50"]), float(report["p99"]))
