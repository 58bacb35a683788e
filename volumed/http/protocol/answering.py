"""Has one exchange answered, whatever kind of connection it came on."""

from __future__ import annotations

import logging

from volumed.errors import VolumedError
from volumed.http.protocol.exchange import Exchange, Stream
from volumed.http.protocol.host import Handler
from volumed.http.protocol.responses import empty_response

__all__ = ["answer_exchange"]

_log = logging.getLogger(__name__)


async def answer_exchange(handler: Handler, exchange: Exchange, stream: Stream) -> None:
    """Whatever goes wrong, the client gets an answer or a broken-off one."""
    try:
        await handler.answer(exchange)
    except ConnectionError:
        stream.abort()
    except Exception as error:
        request = exchange.request
        # A failure with a name is a disk's or a peer's: where in the code it came up says nothing.
        trace = not isinstance(error, VolumedError)
        _log.error("%s %s %s: %s", request.request_id.decode(), request.method, request.path, error, exc_info=trace)
        if exchange.head_sent:
            stream.abort()
        else:
            exchange.reply(empty_response(500))
