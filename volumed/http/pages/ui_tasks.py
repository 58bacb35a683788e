"""Long work on volumes on the status page: nothing when there is none."""

from __future__ import annotations

from collections.abc import Sequence

from volumed.bus.calls import DiskStatusView
from volumed.formats.report import TaskReport
from volumed.http.pages.markup import Markup, duration_text, fill, join, share_text, size_text

__all__ = ["task_section"]

_TABLE = """<section>
<h2>Running Tasks <small>{count}</small></h2>
<div class="scroll tall"><table class="sortable">
<thead><tr><th>Task<th class="n">Volume<th class="n">Disk<th class="n">Done<th class="n">Size<th>Since</tr></thead>
<tbody>
{rows}</tbody></table></div>
</section>
"""
_ROW = (
    '<tr><td>{what}<td class="n">{volume}<td class="n">{disk}<td class="n" data-v="{part}">{share}'
    '<td class="n" data-v="{total_bytes}">{total}<td data-v="{began_at_s}">{since}</tr>\n'
)


def task_section(disks: Sequence[DiskStatusView], now_s: float) -> Markup:
    """A row for each task, in the order of disks and of their begin."""
    rows = [_row(disk.disk_id, task, now_s) for disk in disks for task in disk.tasks]
    return fill(_TABLE, count=len(rows), rows=join(rows)) if rows else Markup()


def _row(disk_id: int, task: TaskReport, now_s: float) -> Markup:
    return fill(
        _ROW,
        what=task.what,
        volume=task.volume_id,
        disk=disk_id,
        part=task.done_bytes / task.total_bytes if task.total_bytes else 0,
        share=share_text(task.done_bytes, task.total_bytes),
        total_bytes=task.total_bytes,
        total=size_text(task.total_bytes) if task.total_bytes else "–",
        began_at_s=task.began_at_s,
        since=duration_text(now_s - task.began_at_s),
    )
