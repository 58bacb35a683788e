"""What happens to reads and writes that find too many bytes in flight (http.md 7.1, 7.2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from volumed.errors import FormatError, VolumedError
from volumed.formats.fileid import parse_volume_id
from volumed.formats.replication import ReplicaPlacement
from volumed.http.handlers.read import hand_over
from volumed.http.handlers.write import handle_write
from volumed.http.objects.background import finish_anyway
from volumed.http.objects.node import Node
from volumed.http.objects.throttle import Budget, Room, announced_bytes
from volumed.http.protocol.body import BodySource
from volumed.http.protocol.message import Request, Response
from volumed.http.protocol.responses import empty_response, error_response
from volumed.http.text.paths import parse_read_path
from volumed.http.text.query import parse_query
from volumed.metrics.front import HandlerEvent

__all__ = ["answer_without_room", "write_when_there_is_room"]

_CLIENT_LEFT = 499


async def answer_without_room(request: Request, node: Node, downloads: Budget) -> Response | None:
    """The answer instead of a read that found no room; None: now there is."""
    query = parse_query(request.query_string)
    node.metrics.happened(HandlerEvent.DOWNLOAD_LIMIT)
    if query.get("proxied") != "true":
        try:
            path = parse_read_path(request.path)
            volume_id = parse_volume_id(path.vid_text)
        except FormatError:
            return empty_response(400)
        if _has_replicas(node, volume_id):
            return await hand_over(request, node, query, path, volume_id)
    room = await downloads.wait(request)
    if room is Room.CLIENT_LEFT:
        return empty_response(_CLIENT_LEFT)
    if room is Room.FREE:
        return None
    text = (
        f"request {request.path} because inflight download data {downloads.in_flight} > {downloads.limit_bytes},"
        " and wait timeout"
    )
    return error_response(429, text, pretty=bool(query.get("pretty")))


async def write_when_there_is_room(request: Request, body: BodySource, node: Node, uploads: Budget) -> Response:
    """Wait for room if need be, write, and count the announced length meanwhile."""
    query = parse_query(request.query_string)
    if uploads.is_over and query.get("type") != "replicate":
        node.metrics.happened(HandlerEvent.UPLOAD_LIMIT)
        # COMPAT: a client that closes its sending side is not noticed, since its body has yet to be read.
        if await uploads.wait(request) is not Room.FREE:
            text = f"reject because inflight upload data {uploads.in_flight} > {uploads.limit_bytes}, and wait timeout"
            return error_response(429, text, pretty=bool(query.get("pretty")))
    give_back = uploads.take(announced_bytes(request))
    return await finish_anyway(_counted(handle_write(request, body, node), give_back))


async def _counted(write: Awaitable[Response], give_back: Callable[[], None]) -> Response:
    """Goes on when the client is gone: its bytes are in flight until the store and the replicas have them."""
    try:
        return await write
    finally:
        give_back()


def _has_replicas(node: Node, volume_id: int) -> bool:
    try:
        handle = node.view.locate(volume_id)
    except VolumedError:
        return False
    return handle is not None and ReplicaPlacement.from_byte(handle.record.replica_placement).copies > 1
