"""The disks on the status page: what is wrong comes first, in words, on the map and in the table."""

from __future__ import annotations

from collections.abc import Sequence

from volumed.bus.calls import DiskStatusView
from volumed.http.pages.markup import Markup, duration_text, fill, join, share_text, size_text

__all__ = ["disk_section", "verdict"]

_GRAVITY = {"failed": 0, "stuck": 1, "absent": 2, "slow": 3, "opening": 4, "draining": 5, "ok": 6}
_COLOURS = {"failed": "bad", "stuck": "bad", "absent": "bad", "slow": "warn", "opening": "warn", "draining": "warn"}
_MAP_FROM = 8
"""Fewer disks are seen at a glance in the table."""

_TABLE = """<section>
<h2>Disk Stats</h2>
{map}<div class="scroll tall"><table class="sortable">
<thead><tr><th class="n">Disk<th>Path<th>State<th>Type<th class="n">Volumes<th class="n">Usage<th class="n">Free\
<th class="n">Total<th class="n">Restarts</tr></thead>
<tbody>
{rows}</tbody></table></div>
</section>
"""
_ROW = (
    '<tr id="disk-{id}" class="{colour}"><td class="n">{id}<td class="path">{path}{error}'
    '<td class="state" data-v="{gravity}"><span class="badge {colour}">{state}</span>{low} <small>{since}</small>'
    '<td>{type}<td class="n" data-v="{count}">{count} <small>of {limit}</small>'
    '<td class="n" data-v="{percent}">{bar} {share}<td class="n" data-v="{free_bytes}">{free}'
    '<td class="n" data-v="{total_bytes}">{total}<td class="n">{restarts}</tr>\n'
)
_TILE = """<a class="tile {colour}" href="#disk-{id}" title="{path}: {state}, {share} used">\
<svg><rect y="{top}%" width="100%" height="100%"/></svg><b>{id}</b></a>
"""
_BAR = (
    '<svg class="bar{low}"><rect class="all" width="100%" height="100%"/>'
    '<rect width="{percent}%" height="100%"/></svg>'
)
_LOW = Markup(' <span class="badge warn">low space</span>')
_VERDICT = '<div class="verdict {}"><strong>{}</strong>\n<ul>\n{}</ul></div>\n'


def verdict(disks: Sequence[DiskStatusView]) -> Markup:
    """One sentence on all disks; those that need somebody are named, with the reason."""
    troubled = [disk for disk in _worst_first(disks) if disk.state != "ok" or disk.error]
    if not troubled:
        text = "The disk is ok." if len(disks) == 1 else f"All {len(disks)} disks are ok."
        return fill('<p class="verdict ok">{}</p>\n', text)
    heading = "The disk is not ok"
    if len(disks) > 1:
        heading = f"{len(troubled)} of {len(disks)} disks {'is' if len(troubled) == 1 else 'are'} not ok"
    worst = _COLOURS.get(troubled[0].state, "warn")
    return fill(_VERDICT, worst, heading, join(map(_trouble, troubled)))


def disk_section(disks: Sequence[DiskStatusView], now_s: float) -> Markup:
    """Map and table."""
    tiles = join(map(_tile, disks)) if len(disks) >= _MAP_FROM else Markup()
    disk_map = fill('<div class="map">\n{}</div>\n', tiles) if tiles else tiles
    return fill(_TABLE, map=disk_map, rows=join(_row(disk, now_s) for disk in _worst_first(disks)))


def _worst_first(disks: Sequence[DiskStatusView]) -> list[DiskStatusView]:
    return sorted(disks, key=lambda disk: (_GRAVITY[disk.state], not disk.error, not disk.space_low, disk.disk_id))


def _colour(disk: DiskStatusView) -> str:
    return _COLOURS.get(disk.state, "warn" if disk.error or disk.space_low else "ok")


def _trouble(disk: DiskStatusView) -> Markup:
    reason = f": {disk.error}" if disk.error else ""
    return fill(
        '<li><a href="#disk-{0}">disk {0}</a> {1} is <b>{2}</b>{3}</li>\n',
        disk.disk_id, disk.directory, disk.state, reason,
    )  # fmt: skip


def _tile(disk: DiskStatusView) -> Markup:
    used = disk.total_bytes - disk.free_bytes
    return fill(
        _TILE,
        colour=_colour(disk),
        id=disk.disk_id,
        path=disk.directory,
        state=disk.state,
        share=share_text(used, disk.total_bytes),
        top=100 - _percent(used, disk.total_bytes),
    )


def _row(disk: DiskStatusView, now_s: float) -> Markup:
    used = disk.total_bytes - disk.free_bytes
    error = fill('<p class="error">{}</p>', disk.error) if disk.error else Markup()
    percent = _percent(used, disk.total_bytes)
    return fill(
        _ROW,
        id=disk.disk_id,
        colour=_colour(disk),
        path=disk.directory,
        error=error,
        gravity=_GRAVITY[disk.state],
        state=disk.state,
        low=_LOW if disk.space_low else "",
        since=duration_text(now_s - disk.changed_at_s) if disk.changed_at_s else "",
        type=disk.disk_type or "hdd",
        count=disk.volume_count,
        limit=disk.volumes_max,
        percent=percent,
        bar=fill(_BAR, percent=percent, low=" low" if disk.space_low else "") if disk.total_bytes else "",
        share=share_text(used, disk.total_bytes),
        free_bytes=disk.free_bytes,
        free=size_text(disk.free_bytes) if disk.total_bytes else "–",
        total_bytes=disk.total_bytes,
        total=size_text(disk.total_bytes) if disk.total_bytes else "–",
        restarts=max(0, disk.worker_starts - 1),
    )


def _percent(part: int, whole: int) -> float:
    return round(100 * part / whole, 1) if whole else 0.0
