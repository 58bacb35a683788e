"""Erasure coded volumes on the status page, as pieces."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

from volumed.formats.report import EcVolumeReport
from volumed.http.pages.markup import Markup, fill, join, size_text

__all__ = ["shard_pieces"]

_ROWS_PER_PIECE = 20
_NS = 10**9
_HEAD = """<section>
<h2>Erasure Coding Shards <small>{count}</small></h2>
<div class="scroll tall"><table class="sortable filtered">
<thead><tr><th class="n">Id<th>Collection<th class="n">Disk<th class="n">Total Size<th>Ratio<th>Shard Details\
<th>CreatedAt</tr></thead>
<tbody>
"""
_ROW = (
    '<tr><td class="n">{id}<td>{collection}<td class="n" data-v="{disk}">{disk}{type}'
    '<td class="n" data-v="{bytes}">{size}<td>{ratio}<td>{shards}<td data-v="{created_at_ns}">{created}</tr>\n'
)
_END = "</tbody></table></div>\n</section>\n"


def shard_pieces(volumes: Sequence[EcVolumeReport]) -> Iterator[str]:
    """The table, a row for each disk that has shards of a volume; nothing when there are none."""
    if volumes:
        yield fill(_HEAD, count=sum(len(volume.shards) for volume in volumes))
        for at in range(0, len(volumes), _ROWS_PER_PIECE):
            yield join(map(_row, volumes[at : at + _ROWS_PER_PIECE]))
        yield _END


def _row(volume: EcVolumeReport) -> Markup:
    total = sum(volume.shards.values())
    shards = (
        fill('<span class="badge">{}: {}</span>', shard, size_text(length))
        for shard, length in sorted(volume.shards.items())
    )
    return fill(
        _ROW,
        id=volume.id,
        collection=volume.collection,
        disk=volume.disk_id,
        type=fill(" <small>{}</small>", volume.disk_type) if volume.disk_type else "",
        bytes=total,
        size=size_text(total),
        ratio=f"{volume.data_shards}+{volume.parity_shards}",
        shards=join(shards, " "),
        created_at_ns=volume.encode_ts_ns,
        created=_created(volume.encode_ts_ns),
    )


def _created(encode_ts_ns: int) -> str:
    """When it was encoded, as far as is known."""
    return time.strftime("%Y-%m-%d %H:%M", time.gmtime(encode_ts_ns // _NS)) if encode_ts_ns else "–"
