"""``MemStatus`` from ``/proc`` (docs/spec/grpc.md 3.26)."""

from __future__ import annotations

import resource
from pathlib import Path

from volumed.wire import volume_server_pb2 as pb

__all__ = ["memory_status"]


def memory_status(thread_count: int) -> pb.MemStatus:
    """Memory of the machine and of this process in bytes; ``thread_count`` stands for goroutines."""
    machine = _meminfo()
    total, free = machine.get("MemTotal", 0), machine.get("MemAvailable", 0)
    resident_pages = int(Path("/proc/self/statm").read_text().split()[1])
    resident = resident_pages * resource.getpagesize()
    return pb.MemStatus(
        goroutines=thread_count,
        all=total,
        used=total - free,
        free=free,
        self=resident,
        heap=resident,
        stack=8 << 20,
    )


def _meminfo() -> dict[str, int]:
    lines = Path("/proc/meminfo").read_text().splitlines()
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in lines)}
