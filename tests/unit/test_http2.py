"""HTTP/2 connections in memory: streams, windows in both directions, resets, and how connections end."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

from h2.errors import ErrorCodes
from hyperframe.frame import DataFrame, Frame, GoAwayFrame, HeadersFrame, RstStreamFrame

from tests.connection_kit import FakeHost, run
from tests.http2_kit import LARGE, Http2Client

MIB = 1 << 20


def frames(data: bytes) -> Iterator[Frame]:
    """What was sent, frame by frame."""
    while data:
        frame, length = Frame.parse_frame_header(memoryview(data[:9]))
        yield frame
        data = data[9 + length :]


class TestRequests:
    def test_streams_are_answered_side_by_side(self) -> None:
        async def test() -> None:
            client = Http2Client()
            slow = client.request("GET", "/slow")
            quick = await client.ask("PUT", "/quick?x=1", b"two")
            assert (client.status(quick), client.bodies[quick]) == (200, b"PUT /quick two")
            assert slow not in client.heads
            client.host.handler.release.set()
            await client.settle()
            assert (client.status(slow), client.bodies[slow]) == (200, b"GET /slow ")
            assert client.ended == {slow, quick}
            assert not client.resets

        run(test)

    def test_what_a_handler_sees(self) -> None:
        async def test() -> None:
            client = Http2Client()
            await client.ask("PATCH", "/a%20b?c=d", b"", ("seaweed-mood", "dull"), ("x-twice", "1"), ("x-twice", "2"))
            request = client.host.handler.seen[0].request
            assert (request.method, request.path, request.query_string) == ("PATCH", "/a b", b"c=d")
            assert request.headers[b"host"] == b"a"
            assert request.headers[b"x-twice"] == b"1"
            assert (b"seaweed-mood", b"dull") in request.raw_headers
            assert (request.peer_ip, request.http_version) == ("10.0.0.9", "2")

        run(test)

    def test_heads_have_fields_only_and_none_of_a_connection(self) -> None:
        async def test() -> None:
            client = Http2Client()
            stream = await client.ask("GET", "/large")
            head = client.heads[stream]
            assert head[b"server"] == b"test"
            assert head[b"x-kind"] == b"whole"
            assert head[b"content-length"] == b"%d" % len(LARGE)
            assert head.keys() >= {b"date", b"x-amz-request-id"}
            assert head.keys().isdisjoint({b"connection", b"transfer-encoding"})

        run(test)

    def test_answers_without_a_body(self) -> None:
        async def test() -> None:
            client = Http2Client()
            for method, path in (("HEAD", "/large"), ("HEAD", "/pieces"), ("GET", "/empty")):
                stream = await client.ask(method, path)
                assert stream in client.ended, path
                assert not client.bodies[stream]
            assert b"content-length" not in client.heads[stream]

        run(test)

    def test_what_needs_no_handler(self) -> None:
        async def test() -> None:
            client = Http2Client()
            moved = await client.ask("GET", "/a//b")
            bad = await client.ask("GET", "/%zz")
            assert (client.status(moved), client.heads[moved][b"location"]) == (307, b"/a/b")
            assert (client.status(bad), client.bodies[bad]) == (400, b"400 Bad Request")
            assert not client.host.handler.seen

        run(test)

    def test_continue_is_sent_when_the_body_is_wanted(self) -> None:
        async def test() -> None:
            client = Http2Client()
            stream = client.request("PUT", "/x", b"", ("expect", "100-continue"), last=False)
            await client.settle()
            assert client.interim == [stream]
            client.send_body(stream, b"body", last=True)
            await client.settle()
            assert client.bodies[stream] == b"PUT /x body"
            rejected = client.request("PUT", "/reject", b"", ("expect", "100-continue"), last=False)
            await client.settle()
            assert (client.interim, client.status(rejected)) == ([stream], 400)

        run(test)

    def test_trailers_are_ignored(self) -> None:
        async def test() -> None:
            client = Http2Client()
            stream = client.request("PUT", "/x", b"body", last=False)
            client.h2.send_headers(stream, [("x-trailer", "1")], end_stream=True)
            await client.settle()
            assert client.bodies[stream] == b"PUT /x body"

        run(test)

    def test_segments_may_end_anywhere(self) -> None:
        async def test() -> None:
            client = Http2Client()
            client.request("PUT", "/1", now=False)
            client.h2.ping(b"12345678")
            client.request("GET", "/large", now=False)
            data = client.h2.data_to_send()
            for at in range(len(data)):
                client.connection.data_received(data[at : at + 1])
            await client.settle()
            assert (client.bodies[1], client.bodies[3]) == (b"PUT /1 ", LARGE)

        run(test)


class TestWindows:
    def test_an_answer_waits_for_the_window_of_its_stream(self) -> None:
        async def test() -> None:
            client = Http2Client(generous=False)
            for path in ("/large", "/pieces"):
                stream = await client.ask("GET", path)
                while stream not in client.ended:
                    before = len(client.bodies[stream])
                    assert before < len(LARGE)
                    client.h2.increment_flow_control_window(50_000, stream)
                    client.h2.increment_flow_control_window(50_000)
                    await client.settle()
                    assert 0 < len(client.bodies[stream]) - before <= 50_000
                assert client.bodies[stream] == LARGE
            assert client.host.handler.sent == ["/large", "/pieces"]

        run(test)

    def test_a_stream_without_window_holds_up_no_other(self) -> None:
        async def test() -> None:
            client = Http2Client(generous=False)
            client.h2.increment_flow_control_window(10 * MIB)
            stuck = await client.ask("GET", "/large")
            other = await client.ask("GET", "/other")
            assert other in client.ended
            client.h2.update_settings({4: MIB})
            await client.settle()
            assert client.bodies[stuck] == LARGE

        run(test)

    def test_nothing_is_added_to_what_the_client_does_not_take(self) -> None:
        async def test() -> None:
            client = Http2Client()
            client.connection.pause_writing()
            streams = [await client.ask("GET", path) for path in ("/large", "/pieces")]
            assert [client.bodies[stream] for stream in streams] == [b"", b""]
            client.connection.resume_writing()
            await client.settle()
            assert [client.bodies[stream] for stream in streams] == [LARGE, LARGE]

        run(test)

    def test_streams_take_turns(self) -> None:
        async def test() -> None:
            client = Http2Client()
            client.connection.pause_writing()
            streams = {await client.ask("GET", "/large") for _ in range(3)}
            client.connection.resume_writing()
            order = [frame.stream_id for frame in frames(bytes(client.transport.sent))]
            assert set(order[: len(order) // 2]) == streams
            await client.settle()
            assert [client.bodies[stream] for stream in streams] == [LARGE] * 3

        run(test)

    def test_a_body_that_nobody_reads_stops_its_stream_alone(self) -> None:
        async def test() -> None:
            client = Http2Client()
            stuck = client.request("PUT", "/slow", last=False)
            sent = client.send_body(stuck, b"x" * (3 * MIB))
            await client.settle()
            assert sent < 2 * MIB
            other = await client.ask("PUT", "/other", b"y" * 100_000)
            assert client.bodies[other] == b"PUT /other 100000"
            client.host.handler.release.set()
            await client.settle()
            sent += client.send_body(stuck, b"x" * MIB, last=True)
            await client.settle()
            assert client.bodies[stuck] in (b"too large", b"PUT /slow %d" % sent)

        run(test)

    def test_windows_come_back_from_requests_that_were_not_read(self) -> None:
        async def test() -> None:
            client = Http2Client()
            for _ in range(30):
                stream = client.request("PUT", "/reject", last=False)
                client.send_body(stream, b"x" * MIB)
                await client.settle()
                assert client.status(stream) == 400
                assert client.resets.pop(stream) == ErrorCodes.NO_ERROR
            assert client.h2.outbound_flow_control_window > MIB

        run(test)


class TestEnds:
    def test_a_reset_cancels_the_request(self) -> None:
        async def test() -> None:
            client = Http2Client()
            stream = await client.ask("GET", "/slow")
            client.h2.reset_stream(stream, ErrorCodes.CANCEL)
            await client.settle()
            assert client.host.handler.cancelled
            assert client.host.handler.sent == ["/slow"]
            assert client.ended == set()
            await client.ask("GET", "/next")
            assert len(client.ended) == 1

        run(test)

    def test_what_is_reset_at_once_is_not_begun(self) -> None:
        async def test() -> None:
            client = Http2Client()
            for path in ("/slow", "/a//b"):
                client.h2.reset_stream(client.request("GET", path, now=False))
            await client.settle()
            assert not client.host.handler.seen
            assert client.goodbye is None

        run(test)

    def test_failures_of_handlers(self) -> None:
        async def test() -> None:
            client = Http2Client()
            crashed = await client.ask("GET", "/crash")
            broken = await client.ask("GET", "/broken")
            assert (client.status(crashed), client.bodies[crashed]) == (500, b"")
            assert client.resets == {broken: ErrorCodes.INTERNAL_ERROR}
            assert client.host.handler.sent == ["/crash", "/broken"]

        run(test)

    def test_a_client_that_goes_cancels_everything(self) -> None:
        async def test() -> None:
            client = Http2Client()
            await client.ask("GET", "/slow")
            client.connection.connection_lost(None)
            await client.settle()
            assert client.host.handler.cancelled
            assert not client.host.open
            assert client.host.handler.sent == ["/slow"]

        run(test)

    def test_a_client_that_says_goodbye_gets_its_answers(self) -> None:
        async def test() -> None:
            client = Http2Client()
            stream = await client.ask("GET", "/slow")
            client.connection.data_received(GoAwayFrame(0, last_stream_id=0).serialize())
            client.h2.ping(b"12345678")
            client.request("GET", "/next")
            assert not client.transport.closed
            client.host.handler.release.set()
            await client.settle()
            assert client.bodies[stream] == b"GET /slow "
            assert len(client.host.handler.seen) == 1
            assert client.transport.closed

        run(test)

    def test_a_client_that_complains_is_left(self) -> None:
        async def test() -> None:
            client = Http2Client()
            await client.ask("GET", "/slow")
            client.connection.data_received(GoAwayFrame(0, error_code=ErrorCodes.INTERNAL_ERROR).serialize())
            await client.settle()
            assert client.host.handler.cancelled
            assert client.transport.aborted

        run(test)

    def test_a_connection_that_comes_during_the_stop(self) -> None:
        async def test() -> None:
            host = FakeHost()
            host.stopping = True
            client = Http2Client(host)
            await client.settle()
            assert (client.goodbye, client.transport.closed) == (ErrorCodes.NO_ERROR, True)

        run(test)

    def test_a_stop_lets_requests_finish(self) -> None:
        async def test() -> None:
            client = Http2Client()
            finished = await client.ask("GET", "/slow")
            refused = client.request("GET", "/next", now=False)
            late = client.h2.data_to_send()
            client.connection.close_if_idle()
            client.connection.close_if_idle()
            client.connection.data_received(late)
            assert not client.transport.closed
            client.host.handler.release.set()
            for _ in range(30):
                await asyncio.sleep(0)
            # The library's client stops to listen at the goodbye; others read on.
            found = [(type(frame), frame.stream_id) for frame in frames(bytes(client.transport.sent))]
            assert found == [
                (GoAwayFrame, 0), (RstStreamFrame, refused), (HeadersFrame, finished), (DataFrame, finished),
            ]  # fmt: skip
            assert client.transport.closed

        run(test)

    def test_an_idle_connection_is_told_that_the_server_stops(self) -> None:
        async def test() -> None:
            client = Http2Client()
            await client.ask("GET", "/x")
            client.connection.close_if_idle()
            client.exchange()
            assert (client.goodbye, client.transport.closed) == (ErrorCodes.NO_ERROR, True)

        run(test)

    def test_an_idle_connection_is_closed(self) -> None:
        async def test() -> None:
            client = Http2Client(FakeHost(idle_timeout_s=30))
            client.connection.sweep(client.host.time + 29)
            assert not client.transport.closed
            client.connection.sweep(client.host.time + 31)
            client.exchange()
            assert (client.goodbye, client.transport.closed) == (ErrorCodes.NO_ERROR, True)

        run(test)

    def test_a_stream_on_which_nothing_moves_is_reset(self) -> None:
        async def test() -> None:
            client = Http2Client(FakeHost(idle_timeout_s=30), generous=False)
            client.h2.increment_flow_control_window(MIB)
            unread, unsent = await client.ask("GET", "/large"), client.request("PUT", "/x", last=False)
            busy = await client.ask("GET", "/slow")
            client.host.time += 31
            client.h2.ping(b"12345678")
            client.exchange()
            client.connection.sweep(client.host.time)
            await client.settle()
            assert client.resets == {unread: ErrorCodes.CANCEL, unsent: ErrorCodes.CANCEL}
            client.host.handler.release.set()
            await client.settle()
            assert client.ended == {busy}

        run(test)
