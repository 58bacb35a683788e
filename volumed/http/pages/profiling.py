"""The profiling pages on the admin port, with ``-pprof`` (http.md 6.5)."""

from __future__ import annotations

import asyncio

from volumed.formats.numbers import go_text
from volumed.http.protocol.message import Request, Response
from volumed.profiling.pages import profiling_page

__all__ = ["profiling_response"]


async def profiling_response(request: Request) -> Response:
    """Answer for a path below ``/debug/pprof``, from this front, whatever the method."""
    page = await asyncio.to_thread(profiling_page, request.path, go_text(request.query_string))
    response = Response(page.status, [(b"Content-Type", page.content_type.encode())], page.content)
    response.identified = False
    return response
