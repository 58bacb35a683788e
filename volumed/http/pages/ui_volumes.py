"""The volumes on the status page, as pieces: there may be thousands."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from volumed.bus.calls import VolumeView
from volumed.formats.replication import ReplicaPlacement
from volumed.formats.ttl import Ttl
from volumed.http.pages.markup import Markup, fill, join, size_text

__all__ = ["volume_pieces"]

_ROWS_PER_PIECE = 50
_NONE = "<section>\n<h2>Volumes</h2>\n<p>There are no volumes yet.</p>\n</section>\n"
_TABLE = """<section>
<h2>Volumes <small>{count}</small></h2>
<div class="scroll tall"><table class="sortable filtered">
<thead><tr><th class="n">Id<th>Collection<th class="n">Disk<th class="n">Data Size<th class="n">Files\
<th class="n">Trash<th>TTL<th>Replication<th>ReadOnly<th class="n">Version</tr></thead>
<tbody>
"""
_ROW = (
    '<tr><td class="n">{id}<td>{collection}<td class="n" data-v="{disk}">{disk}{type}'
    '<td class="n" data-v="{bytes}">{size}<td class="n" data-v="{file_count}">{files}'
    '<td class="n" data-v="{trash_bytes}">{trash}'
    '<td>{ttl}<td>{replication}<td>{read_only}<td class="n">{version}</tr>\n'
)
_REMOTE_TABLE = """<section>
<h2>Remote Volumes <small>{count}</small></h2>
<div class="scroll tall"><table class="sortable filtered">
<thead><tr><th class="n">Id<th>Collection<th class="n">Data Size<th class="n">Files<th class="n">Trash\
<th>Storage<th>Key</tr></thead>
<tbody>
"""
_REMOTE_ROW = (
    '<tr><td class="n">{id}<td>{collection}<td class="n" data-v="{bytes}">{size}'
    '<td class="n" data-v="{file_count}">{files}<td class="n" data-v="{trash_bytes}">{trash}'
    '<td>{storage}<td class="path">{key}</tr>\n'
)
_TABLE_END = "</tbody></table></div>\n</section>\n"


def volume_pieces(volumes: Sequence[VolumeView]) -> Iterator[str]:
    """The table of volumes, and of those whose data is elsewhere if there are any."""
    remote = [volume for volume in volumes if volume.remote_storage_name]
    local = [volume for volume in volumes if not volume.remote_storage_name]
    yield from _table(_TABLE, _ROW, local) if local or remote else (_NONE,)
    if remote:
        yield from _table(_REMOTE_TABLE, _REMOTE_ROW, remote)


def _table(head: str, row: str, volumes: Sequence[VolumeView]) -> Iterator[str]:
    yield fill(head, count=len(volumes))
    for at in range(0, len(volumes), _ROWS_PER_PIECE):
        yield join(_row(row, volume) for volume in volumes[at : at + _ROWS_PER_PIECE])
    yield _TABLE_END


def _row(template: str, volume: VolumeView) -> Markup:
    trash = f"{volume.delete_count:,} / {size_text(volume.deleted_byte_count)}" if volume.delete_count else "–"
    return fill(
        template,
        id=volume.id,
        collection=volume.collection,
        disk=volume.disk_id,
        type=fill(" <small>{}</small>", volume.disk_type) if volume.disk_type else "",
        bytes=volume.content_bytes,
        size=size_text(volume.content_bytes),
        file_count=volume.file_count,
        files=f"{volume.file_count:,}",
        trash_bytes=volume.deleted_byte_count,
        trash=trash,
        ttl=Ttl.from_u32(volume.ttl),
        replication=ReplicaPlacement.from_byte(volume.replica_placement),
        read_only=_read_only(volume),
        version=volume.version,
        storage=volume.remote_storage_name,
        key=volume.remote_storage_key,
    )


def _read_only(volume: VolumeView) -> str:
    if volume.read_only_can_delete:
        return "read-only, can delete"
    return "read-only" if volume.read_only else ""
