"""The framework's side of a front: admin pages, and every needle request too, through the same handlers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import falcon
import falcon.asgi

from volumed.bus.calls import AssignFileId, Assignment, LookupVolume, NodeStatus, NodeStatusView
from volumed.errors import FormatError, VolumedError
from volumed.formats.fileid import parse_volume_id
from volumed.formats.needle import Buffer
from volumed.http.handlers.store import handle_store
from volumed.http.objects.node import CALL_TIMEOUT_S, Node
from volumed.http.pages.profiling import profiling_response
from volumed.http.pages.routes import STATUS_PAGE, is_page
from volumed.http.pages.static import static_response
from volumed.http.pages.status_page import status_document
from volumed.http.pages.ui import status_page_response
from volumed.http.protocol.body import BodyTooLarge, ReceivedBody
from volumed.http.protocol.exchange import Exchange
from volumed.http.protocol.message import Request, Response
from volumed.http.protocol.responses import empty_response, error_response, json_response, plain_text_error
from volumed.http.rules.authorization import is_listed, issued
from volumed.http.text.query import Form, parse_query
from volumed.profiling.pages import is_profiling_path

__all__ = ["create_app"]

_STATUS_TIMEOUT_S = 2.0
"""The supervisor answers from memory: waiting longer helps nobody."""

App = falcon.asgi.App[falcon.asgi.Request, falcon.asgi.Response]


def create_app(node: Node) -> App:
    """The application of both ports."""
    app: App = falcon.asgi.App()
    app.resp_options.default_media_type = None  # type: ignore[assignment]  # no type unless we say so
    app.add_error_handler(Exception, _raise)
    pages = _Pages(node)
    # Sinks and not routes: the pages answer whatever the method.
    app.add_sink(pages.serve, prefix="/")
    return app


async def _raise(_request: object, _response: object, error: Exception, _params: object) -> None:
    """The connection logs what is unexpected and answers 500."""
    raise error


class _Pages:
    """All answers; which one is decided by path and port."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._admin = {
            "/status": self._status,
            STATUS_PAGE: self._status_page,
            "/healthz": self._health,
            "/readyz": self._health,
            "/dir/assign": self._assign,
            "/dir/lookup": self._lookup,
        }

    async def serve(self, req: falcon.asgi.Request, resp: falcon.asgi.Response | None, **_: Any) -> None:
        """The one responder."""
        exchange: Exchange = req.scope["volumed.exchange"]
        answer = await self._answer(exchange, _StreamBody(req.stream))
        exchange.identified = answer.identified
        assert resp is not None
        _copy(answer, resp)

    async def _answer(self, exchange: Exchange, body: _StreamBody) -> Response:
        request = exchange.request
        if not is_page(request.path, self._node.config, public=exchange.public):
            return await handle_store(request, body, self._node, public=exchange.public)
        if is_profiling_path(request.path):
            return await profiling_response(request)
        page = self._admin.get(request.path)
        return static_response(request) if page is None else await page(request, parse_query(request.query_string))

    async def _status_page(self, _request: Request, _query: Form) -> Response:
        try:
            status = await self._node.supervisor.call(NodeStatus(), _STATUS_TIMEOUT_S)
        except VolumedError as error:
            return plain_text_error(503, error.text)
        return status_page_response(status, self._node.config, healthy=self._node.healthy)

    async def _status(self, _request: Request, query: Form) -> Response:
        try:
            status = await self._node.supervisor.call(NodeStatus(), _STATUS_TIMEOUT_S)
        except VolumedError as error:
            return error_response(503, error.text)
        # Thousands of volumes take long enough for a thread.
        return await asyncio.to_thread(self._status_json, status, bool(query.get("pretty")))

    def _status_json(self, status: NodeStatusView, pretty: bool) -> Response:
        return json_response(200, status_document(status, self._node.config.offset_width), pretty=pretty)

    async def _health(self, _request: Request, _query: Form) -> Response:
        return empty_response(200 if self._node.healthy else 503)

    # Standalone mode: what a master would answer

    async def _assign(self, request: Request, query: Form) -> Response:
        if not is_listed(request, self._node.access):
            return empty_response(401)
        pretty = bool(query.get("pretty"))
        count = query.get("count") or "1"
        if not count.isascii() or not count.isdigit() or not 0 < int(count[:10]) < 1 << 31:
            return error_response(406, f"invalid count {count}", pretty=pretty)
        call = AssignFileId(int(count), query.get("collection", ""), query.get("ttl", ""))
        try:
            given: Assignment = await self._node.supervisor.call(call, CALL_TIMEOUT_S)
        except VolumedError as error:
            return error_response(406, error.text, pretty=pretty)
        document = {"fid": given.fid, "url": given.url, "publicUrl": given.public_url, "count": given.count}
        response = json_response(200, document, pretty=pretty)
        response.headers += issued(self._node.access.write_key, given.fid)
        return response

    async def _lookup(self, request: Request, query: Form) -> Response:
        access = self._node.access
        if not is_listed(request, access):
            return empty_response(401)
        pretty = bool(query.get("pretty"))
        asked = query.get("volumeId") or query.get("fileId", "")
        document: dict[str, Any] = {"volumeOrFileId": asked}
        try:
            volume_id = parse_volume_id(asked.partition(",")[0])
        except FormatError:
            document["error"] = f"unknown volume id {asked}"
            return json_response(400, document, pretty=pretty)
        try:
            found = await self._node.supervisor.call(LookupVolume(volume_id), CALL_TIMEOUT_S)
        except VolumedError as error:
            document["error"] = error.text
            return json_response(404, document, pretty=pretty)
        document["locations"] = [{"url": at.url, "publicUrl": at.public_url} for at in found.locations]
        response = json_response(200, document, pretty=pretty)
        if file_id := query.get("fileId"):
            response.headers += issued(access.read_key if query.get("read") == "yes" else access.write_key, file_id)
        return response


class _StreamBody:
    """The framework's request stream as a `BodySource`."""

    length = None

    def __init__(self, stream: Any) -> None:
        # One iterator for all: the framework gives a second one only to refuse it.
        self._parts: AsyncIterator[bytes] = aiter(stream)

    async def chunks(self) -> AsyncIterator[Buffer]:
        async for part in self._parts:
            yield part

    async def read(self, limit_bytes: int) -> ReceivedBody:
        parts: list[bytes] = []
        size = 0
        async for part in self._parts:
            size += len(part)
            if size <= limit_bytes:
                parts.append(part)
        if size > limit_bytes:
            raise BodyTooLarge("body too large")
        return ReceivedBody(b"".join(parts))

    async def discard(self) -> None:
        async for _ in self._parts:
            pass


def _copy(answer: Response, response: falcon.asgi.Response) -> None:
    response.status = answer.status
    for name, value in answer.headers:
        # The framework keeps cookies apart; stored pairs may be called so.
        put = response.append_header if name == b"Set-Cookie" else response.set_header
        put(name.decode("latin-1"), value.decode("latin-1"))
    if answer.body is None:
        if answer.content_length is not None:
            response.content_length = answer.content_length
    elif isinstance(answer.body, bytes | memoryview):
        response.data = bytes(answer.body)
    else:
        response.stream = answer.body  # type: ignore[assignment]  # views are sent as they are
        if answer.content_length is not None:
            response.content_length = answer.content_length
