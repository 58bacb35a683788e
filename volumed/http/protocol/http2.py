"""One HTTP/2 connection: frames in, exchanges out, answers back as the client's windows allow (http.md 1.5, 1.6).

Theory of operation
    The `h2` library keeps the state of the protocol; this class turns its events into exchanges and takes turns among
    the streams that have something to send. What a client sends of a body is taken from the windows and given back when
    the body can take more, so a connection never holds more than its window. Answers wait in their streams, and streams
    in line, while the client does not take what was written.

    What costs the client next to nothing (pings, settings, resets, empty frames) is counted and too much of it ends the
    connection. A graceful stop announces itself and ends the connection after the last answer.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import struct

from h2 import events
from h2.connection import ConnectionState
from h2.errors import ErrorCodes
from h2.exceptions import H2Error, StreamClosedError

from volumed.http.protocol.answering import answer_exchange
from volumed.http.protocol.body import NO_BODY, IncomingBody
from volumed.http.protocol.connection import STREAMED_BYTES_MIN
from volumed.http.protocol.host import Host
from volumed.http.protocol.http2_limits import EXTRA_WINDOW_BYTES, FrameLengths, new_h2
from volumed.http.protocol.http2_stream import Http2Exchange, Http2Stream
from volumed.http.protocol.message import Headers, Request
from volumed.http.protocol.outgoing import Outgoing
from volumed.http.protocol.protocol_rules import could_be_a_line, decide_early, new_request, refusal_response

__all__ = ["Http2Connection"]

_log = logging.getLogger(__name__)

_TURN_BYTES = 64 << 10
"""What a stream sends before the next has its turn."""
_TRIFLES_MAX = 1_000
"""Frames between two sweeps, about a second, that cost the client next to nothing."""
_ACKS_BYTES_MAX = 1 << 20
"""Unsent bytes beyond what answers may write: acknowledgements to a client that does not read."""

_GOODBYE_HEAD = bytes.fromhex("000008 07 00 00000000")
"""Length, type, flags and stream of a GOAWAY frame."""
_GOODBYE = struct.Struct(">9sII")

_TRIFLES = (
    events.PingReceived,
    events.PriorityUpdated,
    events.RemoteSettingsChanged,
    events.StreamReset,
    events.UnknownFrameReceived,
)


class Http2Connection(asyncio.Protocol):
    """The protocol object of one connection, made after a handshake that agreed on ``h2``."""

    public = False

    def __init__(self, host: Host) -> None:
        self._host = host
        self._clock = host.clock
        self._transport: asyncio.Transport
        self._outgoing: Outgoing
        self._h2 = new_h2()
        self._lengths = FrameLengths()
        self._streams: dict[int, Http2Stream] = {}
        self._ready: dict[Http2Stream, None] = {}
        """Streams that may have something to send, the next one first."""
        self._peer_ip = ""
        self._last_id = 0
        self._reset_early: set[int] = set()
        """Streams that began and were reset in the segment at hand."""
        self._trifles = 0
        self._closing = False
        """No further stream is taken."""
        self._broken = False
        """`h2` must not be asked any more."""

    # Transport callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]
        self._outgoing = Outgoing(self._transport, self._clock)
        self._peer_ip = (transport.get_extra_info("peername") or ("", 0))[0]
        self._host.opened(self)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(EXTRA_WINDOW_BYTES)
        self._flush()
        if self._host.stopping:
            # Its handshake had begun before: whoever closes idle connections has not seen it.
            self._host.loop.call_soon(self.close_if_idle)

    def connection_lost(self, _exc: Exception | None) -> None:
        self._host.closed(self)
        self._outgoing.lose()
        self._break_off_all()

    def pause_writing(self) -> None:
        self._outgoing.pause()

    def resume_writing(self) -> None:
        self._outgoing.resume()
        self._send()

    def data_received(self, data: bytes) -> None:
        self._outgoing.active_at = self._clock()
        if self._broken:
            return
        if not self._lengths.accept(data):
            self._end_with(ErrorCodes.FRAME_SIZE_ERROR)
            return
        try:
            found = self._h2.receive_data(data)
            # A stream that is reset in the same segment must not be answered first.
            found.sort(key=_is_no_reset)
            for event in found:
                self._handle(event)
        except H2Error as error:
            _log.debug("HTTP/2 from %s: %s", self._peer_ip, error)
            self._fail()
            return
        if self._trifles > _TRIFLES_MAX or self._outgoing.unsent > _ACKS_BYTES_MAX:
            self._end_with(ErrorCodes.ENHANCE_YOUR_CALM)
        elif not self._broken:
            self._send()

    def _end_with(self, code: ErrorCodes) -> None:
        self._h2.close_connection(code)
        self._fail()

    def _fail(self) -> None:
        """Send what `h2` has to say as a goodbye, and end everything."""
        self._flush()
        self._break_off_all()
        self._outgoing.leave()

    def _break_off_all(self) -> None:
        self._closing = self._broken = True
        for stream in list(self._streams.values()):
            self._forget(stream, complete=False)

    # Requests

    def _handle(self, event: events.Event) -> None:
        match event:
            case events.RequestReceived():
                self._begin(event)
            case events.DataReceived():
                self._receive(event)
            case events.StreamEnded():
                self._complete(self._streams.get(event.stream_id or 0))
            case events.StreamReset():
                self._leave(event.stream_id or 0)
            case events.WindowUpdated():
                self._widen(event.stream_id)
            case events.RemoteSettingsChanged():
                self._widen(0)
            case events.ConnectionTerminated():
                self._say_no_more(event)
        if isinstance(event, _TRIFLES):
            self._trifles += 1

    def _begin(self, event: events.RequestReceived) -> None:
        stream_id = event.stream_id or 0
        if stream_id in self._reset_early:
            self._reset_early.discard(stream_id)
            return
        if self._closing:
            self._write_reset(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        self._last_id = stream_id
        request = _request_of(event.headers or [], self._peer_ip)
        stream = Http2Stream(self, stream_id, self._clock())
        body = self._new_body(request, stream, ended=event.stream_ended is not None)
        if body is None or not could_be_a_line(request.method.encode("latin-1"), request.raw_target):
            self._write_reset(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        exchange = Http2Exchange(stream, request, body, public=False, server=self._host.server_name)
        canned = decide_early(request)
        exchange.canned = refusal_response(canned) if isinstance(canned, bytes) else canned
        exchange.expects_continue = request.headers.get(b"expect", b"").lower() == b"100-continue"
        exchange.streamed = body.length is not None and body.length >= STREAMED_BYTES_MIN
        exchange.eager = self._host.limits_uploads
        self._streams[stream_id] = stream
        if body.complete or exchange.is_early or exchange.canned is not None:
            self._start(stream)

    def _new_body(self, request: Request, stream: Http2Stream, *, ended: bool) -> IncomingBody | None:
        """None: its length is no number."""
        length = request.headers.get(b"content-length")
        if ended:
            return NO_BODY
        if length is None:
            return IncomingBody(None, None, stream.send_continue, stream.update_credit)
        if not length.isdigit():
            return None
        return IncomingBody(int(length), self._host.pool, stream.send_continue, stream.update_credit)

    def _receive(self, event: events.DataReceived) -> None:
        stream = self._streams.get(event.stream_id or 0)
        length = event.flow_controlled_length or 0
        if not event.data:
            self._trifles += 1
        if stream is None:
            self._h2.acknowledge_received_data(length, event.stream_id or 0)
            return
        stream.active_at = self._clock()
        stream.receive(event.data or b"", length)

    def _complete(self, stream: Http2Stream | None) -> None:
        if stream is None:
            return
        if not stream.exchange.body.complete:
            stream.exchange.body.finish()
        if not stream.exchange.started:
            self._start(stream)

    def _start(self, stream: Http2Stream) -> None:
        exchange = stream.exchange
        exchange.started = True
        if exchange.canned is None:
            self.run_handler(stream)
        else:
            assert not isinstance(exchange.canned, bytes)
            exchange.reply(exchange.canned)

    def _say_no_more(self, event: events.ConnectionTerminated) -> None:
        """The client begins no more requests, and may wait for the answers to those that it has begun."""
        if event.error_code != ErrorCodes.NO_ERROR:
            self._fail()
            return
        # `h2` takes the connection to be at its end.
        self._h2.state_machine.state = ConnectionState.SERVER_OPEN
        self._closing = True
        self._close_when_done()

    def _leave(self, stream_id: int) -> None:
        """The client wants no answer."""
        if stream_id > self._last_id:
            self._reset_early.add(stream_id)
        self._forget(self._streams.get(stream_id), complete=False)

    # Streams

    def run_handler(self, stream: Http2Stream) -> None:
        work = answer_exchange(self._host.handler, stream.exchange, stream)
        stream.exchange.task = self._host.loop.create_task(work)

    def send_head(self, stream: Http2Stream, fields: Headers, *, last: bool) -> None:
        self._h2.send_headers(stream.stream_id, fields, end_stream=last)
        if last:
            self._end(stream)
        self._flush()

    def send_continue(self, stream: Http2Stream) -> None:
        self._h2.send_headers(stream.stream_id, [(b":status", b"100")])
        self._flush()

    def has_data(self, stream: Http2Stream) -> None:
        if not stream.gone:
            self._ready[stream] = None
            self._send()

    def consumed(self, stream: Http2Stream, length: int) -> None:
        if not self._broken:
            self._h2.acknowledge_received_data(length, stream.stream_id)
            self._flush()

    def break_off(self, stream: Http2Stream) -> None:
        self._reset(stream, ErrorCodes.INTERNAL_ERROR)

    def _widen(self, stream_id: int | None) -> None:
        """A window has grown: of one stream, or for all."""
        for stream in [self._streams.get(stream_id)] if stream_id else list(self._streams.values()):
            if stream is not None and stream.has_pending:
                self._ready[stream] = None

    def _send(self) -> None:
        """Have the streams send in turn what the client takes."""
        while self._ready and not self._outgoing.is_full and not self._outgoing.lost:
            stream = next(iter(self._ready))
            del self._ready[stream]
            if self._send_turn(stream):
                self._ready[stream] = None
            self._flush()
        self._flush()

    def _send_turn(self, stream: Http2Stream) -> bool:
        """Send for one turn; whether the stream could go on."""
        left = _TURN_BYTES
        while stream.has_pending and left > 0:
            room = min(self._h2.local_flow_control_window(stream.stream_id), self._h2.max_outbound_frame_size)
            if room <= 0:
                return False
            piece = stream.take(room)
            left -= len(piece)
            last = stream.ending and not stream.has_pending
            self._h2.send_data(stream.stream_id, piece, end_stream=last)
            stream.active_at = self._clock()
            if last:
                self._end(stream)
                return False
        if stream.ending and not stream.has_pending:
            self._h2.end_stream(stream.stream_id)
            self._end(stream)
        return stream.has_pending

    def _end(self, stream: Http2Stream) -> None:
        """The answer is complete."""
        if not stream.exchange.body.complete:
            # What is left of the request is not wanted.
            self._write_reset(stream.stream_id, ErrorCodes.NO_ERROR)
        self._forget(stream, complete=True)

    def _reset(self, stream: Http2Stream, code: ErrorCodes) -> None:
        self._write_reset(stream.stream_id, code)
        self._forget(stream, complete=False)
        self._flush()

    def _write_reset(self, stream_id: int, code: ErrorCodes) -> None:
        with contextlib.suppress(StreamClosedError):  # its other half has just ended, too
            self._h2.reset_stream(stream_id, code)

    def _forget(self, stream: Http2Stream | None, *, complete: bool) -> None:
        if stream is None or stream.gone:
            return
        self._streams.pop(stream.stream_id, None)
        self._ready.pop(stream, None)
        on_sent = stream.leave(complete=complete)
        if on_sent is not None:
            self._flush()
            self._outgoing.when_sent(on_sent)
        self._close_when_done()

    # The connection

    def _flush(self) -> None:
        if not self._broken and (data := self._h2.data_to_send()):
            self._outgoing.write(data)

    def _close_when_done(self) -> None:
        if self._closing and not self._streams and not self._broken:
            self._flush()
            self._outgoing.close()

    def _say_goodbye(self) -> None:
        """Announce that no further request is taken. `h2` itself would not let the others finish after that."""
        if not self._closing:
            self._closing = True
            self._flush()
            self._outgoing.write(_GOODBYE.pack(_GOODBYE_HEAD, self._last_id, ErrorCodes.NO_ERROR))
        self._close_when_done()

    def abort(self) -> None:
        self._transport.abort()

    def close_if_idle(self) -> None:
        """The front stops."""
        self._say_goodbye()

    def sweep(self, now: float) -> None:
        """Called about once a second: end what has been idle for too long."""
        self._trifles = 0
        timeout_s = self._host.idle_timeout_s
        if timeout_s <= 0:
            return
        for stream in list(self._streams.values()):
            stalled = stream.has_pending or stream.exchange.body.is_awaited or not stream.exchange.started
            if stalled and now - stream.active_at >= timeout_s:
                self._reset(stream, ErrorCodes.CANCEL)
        if self._outgoing.idle_s(now) >= timeout_s:
            if self._outgoing.holds_any:
                self.abort()
            elif not self._streams:
                self._say_goodbye()


def _is_no_reset(event: events.Event) -> bool:
    return not isinstance(event, events.StreamReset)


def _request_of(fields: Headers, peer_ip: str) -> Request:
    """The request of a head that `h2` has checked."""
    pseudo: dict[bytes, bytes] = {}
    headers: dict[bytes, bytes] = {}
    raw_headers: Headers = []
    for name, value in fields:
        if name.startswith(b":"):
            pseudo[name] = value
        else:
            raw_headers.append((name, value))
            headers.setdefault(name, value)
    if authority := pseudo.get(b":authority"):
        if b"host" not in headers:
            raw_headers.insert(0, (b"host", authority))
        headers[b"host"] = authority
    method = pseudo.get(b":method", b"").decode("latin-1")
    return new_request(method, pseudo.get(b":path", b""), headers, raw_headers, "2", peer_ip)
