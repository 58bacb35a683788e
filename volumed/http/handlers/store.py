"""The store handlers of both ports: which method goes where, and what every answer of theirs carries (http.md 1.3)."""

from __future__ import annotations

from volumed.http.handlers.admission import answer_without_room, write_when_there_is_room
from volumed.http.handlers.delete import handle_delete
from volumed.http.handlers.read import handle_read
from volumed.http.handlers.write import handle_write
from volumed.http.objects.node import Node
from volumed.http.protocol.body import BodySource
from volumed.http.protocol.head import cors_headers
from volumed.http.protocol.message import Request, Response
from volumed.http.protocol.responses import empty_response, error_response, options_response
from volumed.http.text.query import parse_query

__all__ = ["handle_store"]


async def handle_store(request: Request, body: BodySource, node: Node, *, public: bool) -> Response:
    """Answer any request that is not one of the admin pages; ``public`` is the port's kind."""
    response = await _dispatch(request, body, node, public)
    if cross_origin := cors_headers(request):
        # COMPAT: stored pairs of these names win.
        own = {name for name, _ in response.headers}
        response.headers += [header for header in cross_origin if header[0] not in own]
    return response


async def _dispatch(request: Request, body: BodySource, node: Node, public: bool) -> Response:
    method = request.method
    if method in ("GET", "HEAD"):
        if node.downloads is not None and node.downloads.is_over:
            instead = await answer_without_room(request, node, node.downloads)
            if instead is not None:
                return instead
        return await handle_read(request, node)
    if method == "OPTIONS":
        return options_response(public=public)
    if public:
        return empty_response(200)
    if method in ("POST", "PUT"):
        if node.uploads is not None:
            return await write_when_there_is_room(request, body, node, node.uploads)
        return await handle_write(request, body, node)
    if method == "DELETE":
        return await handle_delete(request, node)
    pretty = bool(parse_query(request.query_string).get("pretty"))
    return error_response(400, f"unsupported method {method}", pretty=pretty)
