"""The status page ``/ui/index.html`` (http.md 6.3), from the supervisor's memory: no disk can hold it up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Sequence

from volumed.bus.calls import DiskStatusView, NodeStatusView, ReadHistoryView
from volumed.config.node import NodeConfig
from volumed.http.pages.markup import Markup, duration_text, fill, join, share_text, size_text
from volumed.http.pages.status_page import version_text
from volumed.http.pages.ui_disks import disk_section, verdict
from volumed.http.pages.ui_shards import shard_pieces
from volumed.http.pages.ui_tasks import task_section
from volumed.http.pages.ui_volumes import volume_pieces
from volumed.http.protocol.message import Headers, Response

__all__ = ["page_pieces", "status_page_response"]

_HEADERS: Headers = [
    (b"Content-Type", b"text/html; charset=utf-8"),
    # Names and paths are escaped; should one ever not be, it still cannot run anything.
    (b"Content-Security-Policy", b"default-src 'none'; img-src 'self'; script-src 'self'; style-src 'self'"),
]

_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>SeaweedFS {version} – {node}</title>
<link rel="icon" href="/favicon.ico">
<link rel="stylesheet" href="/seaweedfsstatic/volumed/page.css">
<script src="/seaweedfsstatic/volumed/page.js" defer></script>
</head>
<body>
<header>
<img src="/seaweedfsstatic/seaweed50x50.png" alt="" width="36" height="36">
<div><h1>SeaweedFS <small>{version}</small></h1>
<p>volume server <b>{node}</b>{place}</p></div>
{health}
</header>
<main>
"""
_END = """</main>
<footer>as of {now}</footer>
</body>
</html>
"""
_STATISTICS = """<section>
<h2>System Stats</h2>
<div class="columns">
<dl>
{facts}</dl>
<dl class="reads">
{reads}</dl>
</div>
</section>
"""
_FACT = "<dt>{}<dd>{}\n"
_READS = "<dt>{name} # ReadRequests<dd><b>{total}</b> <small>{shape}</small>\n{chart}\n"
_CHART = '<svg class="chart" viewBox="0 0 {} 100" preserveAspectRatio="none"><path d="{}"/></svg>'
_COLUMN_WIDTH, _COLUMN_STEP = 8, 10
_COLUMN_MIN = 6
"""One read is to be seen beside a million."""


def status_page_response(status: NodeStatusView, config: NodeConfig, *, healthy: bool) -> Response:
    """The page as a response that is made while it is sent."""
    pieces = page_pieces(status, config, healthy=healthy, now_s=time.time())
    return Response(200, list(_HEADERS), _paced(pieces))


async def _paced(pieces: Iterator[str]) -> AsyncIterator[bytes]:
    """Other connections get their turn between two pieces."""
    for piece in pieces:
        yield piece.encode("utf-8", "replace")
        await asyncio.sleep(0)


def page_pieces(status: NodeStatusView, config: NodeConfig, *, healthy: bool, now_s: float) -> Iterator[str]:
    """The text of the page."""
    yield fill(
        _HEAD,
        version=version_text(config.offset_width),
        node=config.node_id,
        place=_place(config),
        health=_health(status, healthy=healthy),
    )
    yield verdict(status.disks)
    yield disk_section(status.disks, now_s) + task_section(status.disks, now_s)
    facts = join(fill(_FACT, name, value) for name, value in _facts(status, config, now_s))
    yield fill(_STATISTICS, facts=facts, reads=_reads(status.reads))
    yield from volume_pieces(status.volumes)
    yield from shard_pieces(status.ec_volumes)
    yield fill(_END, now=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(now_s)))


def _place(config: NodeConfig) -> str:
    parts = [part for part in (config.data_center, config.rack) if part]
    return f", {' / '.join(parts)}" if parts else ""


def _health(status: NodeStatusView, *, healthy: bool) -> Markup:
    badges = [("ok", "healthy") if healthy else ("bad", "not healthy")]
    if status.state.maintenance:
        badges.append(("warn", "maintenance"))
    return join(fill('<span class="badge {}">{}</span>', colour, text) for colour, text in badges)


def _facts(status: NodeStatusView, config: NodeConfig, now_s: float) -> Iterator[tuple[str, object]]:
    total, free = _space(status.disks)
    yield "Masters", "none, standalone" if config.standalone else ", ".join(config.masters)
    if not config.standalone:
        yield "Connected to", status.master or "no master"
    yield "Up Time", duration_text(now_s - status.started_at_s)
    yield "Processes", status.processes
    yield "Space", f"{size_text(total - free)} of {size_text(total)} used ({share_text(total - free, total)})"
    yield "Volumes", len(status.volumes)
    yield "Files", f"{sum(volume.file_count for volume in status.volumes):,}"
    yield "Data Size", size_text(sum(volume.content_bytes for volume in status.volumes))
    if shards := [size for volume in status.ec_volumes for size in volume.shards.values()]:
        yield "EC Shards", f"{len(shards)} with {size_text(sum(shards))}"


def _space(disks: Sequence[DiskStatusView]) -> tuple[int, int]:
    """Total and free bytes. Directories on one filesystem are not told apart."""
    return sum(disk.total_bytes for disk in disks), sum(disk.free_bytes for disk in disks)


def _reads(reads: ReadHistoryView) -> Markup:
    rows = (
        ("Weekly", reads.days, "by day"),
        ("Daily", reads.hours, "by hour"),
        ("Hourly", reads.minutes, "by minute"),
        ("Last Minute", reads.seconds, "by second"),
    )
    return join(
        fill(_READS, name=name, total=f"{sum(counts):,}", shape=shape, chart=_chart(counts))
        for name, counts, shape in rows
    )


def _chart(counts: Sequence[int]) -> Markup:
    highest = max(counts)
    columns = [
        f"M{_COLUMN_STEP * at} 100V{100 - max(_COLUMN_MIN, 100 * count // highest)}h{_COLUMN_WIDTH}V100z"
        for at, count in enumerate(counts)
        if count
    ]
    return fill(_CHART, _COLUMN_STEP * len(counts), "".join(columns))
