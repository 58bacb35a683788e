"""Connections byte by byte, with a fake transport and a scripted handler."""

from __future__ import annotations

import pytest

from tests.connection_kit import Client, FakeHost, get, put, run
from volumed.bus.bodypool import BodyPool
from volumed.http.protocol.request_reader import HEAD_BYTES_MAX
from volumed.http.server import sweep_all


class TestFraming:
    def test_pipelined_requests_are_answered_in_order(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"/1") + put(b"/2", b"two") + get(b"/3"))
            assert client.bodies() == [b"GET /1 ", b"PUT /2 two", b"GET /3 "]
            assert not client.transport.closed

        run(test)

    def test_a_slow_request_holds_back_those_behind_it(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"/slow") + get(b"/2") + put(b"/3", b"x"))
            await client.settle()
            assert client.sent == b""
            client.host.handler.release.set()
            await client.settle()
            assert client.bodies() == [b"GET /slow ", b"GET /2 ", b"PUT /3 x"]

        run(test)

    @pytest.mark.parametrize("now", [True, False])
    def test_segments_may_end_anywhere(self, now: bool) -> None:
        data = get(b"/1", b"X: y ") + put(b"/2", b"body") + get("/ü".encode()) + b"FOO /3 HTTP/1.1\r\nHost: b\r\n\r\n"

        async def test() -> None:
            for cut in range(1, len(data)):
                client = Client()
                client.host.handler.now = now
                client.send(data[:cut], data[cut:])
                await client.settle()
                assert client.statuses()[:2] == [200, 200], cut

            client = Client()
            client.send(*(data[i : i + 1] for i in range(len(data))))
            await client.settle()
            assert client.bodies() == [b"GET /1 ", b"PUT /2 body", "GET /ü ".encode(), b"FOO /3 "]

        run(test)

    def test_chunked_body(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(b"POST /c HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", b"3\r\nabc\r\n")
            await client.settle()
            client.send(b"2\r\nde\r\n0\r\nTrailer: x\r\n\r\n" + get(b"/next"))
            await client.settle()
            assert client.bodies() == [b"POST /c abcde", b"GET /next "]

        run(test)

    def test_long_body_and_what_follows_it(self, tmp_path) -> None:  # type: ignore[no-untyped-def]
        async def test() -> None:
            pool = BodyPool(str(tmp_path / "pool"), 4 << 20, 1 << 20)
            client = Client(FakeHost(pool=pool))
            free = pool.free_bytes
            data = put(b"/large", b"x" * 300_000) + get(b"/next")
            for at in range(0, len(data), 70_001):
                client.send(data[at : at + 70_001])
                await client.settle()
            assert client.bodies() == [b"PUT /large 300000", b"GET /next "]
            assert pool.free_bytes == free
            pool.close()

        run(test)

    def test_body_over_the_limit_is_dropped_and_answered(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(put(b"/large", b"x" * ((1 << 20) + 1)))
            await client.settle()
            client.send(get(b"/next"))
            assert client.bodies() == [b"too large", b"GET /next "]

        run(test)

    def test_upgrade_is_ignored(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"/1", b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c") + get(b"/2"))
            assert client.bodies() == [b"GET /1 ", b"GET /2 "]

        run(test)

    def test_streamed_answer_is_chunked(self) -> None:
        async def test() -> None:
            client = Client()
            client.host.handler.now = False
            client.send(get(b"/stream"))
            await client.settle()
            assert client.sent.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
            old = Client()
            old.host.handler.now = False
            old.send(b"GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            await old.settle()
            assert old.sent.endswith(b"\r\n\r\nonetwo")
            assert old.transport.closed

        run(test)


class TestClosing:
    @pytest.mark.parametrize(
        ("request_bytes", "header", "closes"),
        [
            (get(b"/"), b"", False),
            (get(b"/", b"Connection: close"), b"Connection: close\r\n", True),
            (b"GET / HTTP/1.0\r\n\r\n", b"", True),
            (b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"Connection: keep-alive\r\n", False),
        ],
    )
    def test_keep_alive(self, request_bytes: bytes, header: bytes, closes: bool) -> None:
        async def test() -> None:
            client = Client()
            client.send(request_bytes)
            assert client.transport.closed is closes
            assert (header in client.sent) if header else (b"Connection:" not in client.sent)

        run(test)

    def test_nothing_behind_a_refused_request_is_answered(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"/1") + get(b"/%zz") + get(b"/slow") + get(b"/3"))
            await client.settle()
            assert client.statuses() == [200, 400]
            assert client.transport.half_closed

        run(test)

    def test_nothing_is_read_behind_the_last_request(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"/1", b"Connection: close") + get(b"/2"))
            client.send(get(b"/3"))
            assert client.bodies() == [b"GET /1 "]

        run(test)

    def test_a_client_that_goes_cancels_its_request(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"/slow"))
            await client.settle()
            client.connection.connection_lost(None)
            await client.settle()
            assert client.host.handler.cancelled
            assert not client.host.open

        run(test)

    def test_half_close_still_gets_the_answer(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"/slow"))
            assert client.connection.eof_received()
            client.host.handler.release.set()
            await client.settle()
            assert client.bodies() == [b"GET /slow "]
            assert client.transport.closed

        run(test)

    def test_end_of_file_in_a_body(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(put(b"/1", b"abc")[:-1])
            assert client.connection.eof_received()
            await client.settle()
            assert client.bodies() == [b"unexpected EOF"]
            assert client.transport.closed

        run(test)

    def test_stopping(self) -> None:
        async def test() -> None:
            host = FakeHost()
            idle, busy = Client(host), Client(host)
            busy.send(get(b"/slow"))
            host.stopping = True
            for client in (idle, busy):
                client.connection.close_if_idle()
            assert idle.transport.closed
            assert not busy.transport.closed
            host.handler.release.set()
            await busy.settle()
            assert busy.bodies() == [b"GET /slow "]
            assert busy.transport.closed

        run(test)

    def test_a_sweep_that_fails_costs_one_connection(
        self, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def test() -> None:
            host = FakeHost(idle_timeout_s=30)
            broken, idle = Client(host), Client(host)
            monkeypatch.setattr(broken.transport, "get_write_buffer_size", lambda: 1 // 0)
            sweep_all([broken.connection, idle.connection], host.time + 31)
            assert broken.transport.aborted
            assert idle.transport.closed
            assert "a connection could not be swept" in caplog.text

        run(test)

    def test_a_connection_that_comes_during_the_stop(self) -> None:
        async def test() -> None:
            host = FakeHost()
            host.stopping = True
            idle, busy = Client(host), Client(host)
            busy.send(get(b"/a"))
            assert busy.bodies() == [b"GET /a "]
            await idle.settle()
            assert idle.transport.closed
            assert busy.transport.closed

        run(test)

    def test_a_crash_is_500_without_a_word(self, caplog: pytest.LogCaptureFixture) -> None:
        async def test() -> None:
            client = Client()
            client.host.handler.now = False
            client.send(get(b"/crash"))
            await client.settle()
            assert client.statuses() == [500]
            assert b"secret" not in client.sent
            assert "secret" in caplog.text

        run(test)


class TestContinue:
    def test_sent_when_the_body_is_wanted(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(put(b"/1", b"abc", b"Expect: 100-continue")[:-3])
            assert client.sent == b""
            await client.settle()
            assert client.sent == b"HTTP/1.1 100 Continue\r\n\r\n"
            client.send(b"abc")
            await client.settle()
            assert client.sent.endswith(b"PUT /1 abc")
            assert not client.transport.closed

        run(test)

    def test_not_sent_when_the_request_is_refused(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(put(b"/reject", b"abc", b"Expect: 100-continue")[:-3])
            await client.settle()
            assert client.statuses() == [400]
            assert b"Connection: close" in client.sent
            assert client.transport.half_closed

        run(test)


class TestRefusals:
    @pytest.mark.parametrize(
        ("data", "first_line", "text"),
        [
            (
                b"GET / HTTP/1.1\r\n\r\n",
                b"HTTP/1.1 400 Bad Request: missing required Host header",
                b"400 Bad Request: missing required Host header",
            ),
            (b"nonsense\r\n\r\n", b"HTTP/1.1 400 Bad Request", b"400 Bad Request"),
            (get(b"/%zz"), b"HTTP/1.1 400 Bad Request", b"400 Bad Request"),
            (
                b"GET / HTTP/2.0\r\nHost: a\r\n\r\n",
                b"HTTP/1.1 505 HTTP Version Not Supported: unsupported protocol version",
                b"505 HTTP Version Not Supported: unsupported protocol version",
            ),
        ],
    )
    def test_text_and_close(self, data: bytes, first_line: bytes, text: bytes) -> None:
        async def test() -> None:
            client = Client()
            client.send(data)
            assert client.sent == (
                first_line + b"\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n" + text
            )
            assert client.transport.half_closed
            client.host.time += 2
            client.connection.sweep(client.host.time)
            assert client.transport.aborted

        run(test)

    def test_endless_head(self) -> None:
        async def test() -> None:
            for start in (b"GET /", b"GET / HTTP/1.1\r\nX: "):
                client = Client()
                client.send(start)
                for _ in range(HEAD_BYTES_MAX // 100_000 + 1):
                    client.send(b"a" * 100_000)
                assert client.statuses() == [431]

        run(test)

    def test_unclean_path_is_redirected(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"//a/../b?c=d"))
            assert client.statuses() == [307]
            assert b"Location: /b?c=d\r\n" in client.sent
            assert b"Server:" not in client.sent
            client.send(b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n")
            assert client.statuses() == [307, 200]

        run(test)


class TestTime:
    @pytest.mark.parametrize("begun", [b"", b"GET /1 HTTP/1.1\r\nHost: a\r\n"])
    def test_idle_is_closed_without_a_word(self, begun: bytes) -> None:
        async def test() -> None:
            client = Client(FakeHost(idle_timeout_s=3))
            client.host.time += 2
            client.send(begun) if begun else None
            client.host.time += 2
            client.connection.sweep(client.host.time)
            assert client.transport.closed is (not begun)
            client.host.time += 1.5
            client.connection.sweep(client.host.time)
            assert client.transport.closed
            assert client.sent == b""

        run(test)

    def test_half_a_request_line(self) -> None:
        async def test() -> None:
            client = Client(FakeHost(idle_timeout_s=3))
            client.send(b"GET /1 HT")
            client.host.time += 3
            client.connection.sweep(client.host.time)
            assert client.statuses() == [400]
            assert client.transport.half_closed

        run(test)

    def test_half_sent_body(self) -> None:
        async def test() -> None:
            client = Client(FakeHost(idle_timeout_s=3))
            client.send(put(b"/1", b"abc")[:-1])
            client.host.time += 3
            client.connection.sweep(client.host.time)
            await client.settle()
            assert client.bodies() == [b"read tcp 10.0.0.1:8080->10.0.0.9:40000: i/o timeout"]
            assert b"Connection: close" in client.sent

        run(test)

    def test_a_request_in_progress_is_not_idle(self) -> None:
        async def test() -> None:
            client = Client(FakeHost(idle_timeout_s=3))
            client.send(get(b"/slow"))
            client.host.time += 100
            client.connection.sweep(client.host.time)
            assert not client.transport.closed

        run(test)

    def test_a_client_that_takes_nothing(self) -> None:
        async def test() -> None:
            client = Client(FakeHost(idle_timeout_s=3))
            for stuck in (1000, 900, 800):
                client.transport.stuck = stuck
                client.host.time += 2.9
                client.connection.sweep(client.host.time)
                assert not client.transport.aborted
            client.host.time += 3
            client.connection.sweep(client.host.time)
            assert client.transport.aborted

        run(test)


class TestPressure:
    def test_reading_stops_while_many_requests_wait(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"/slow") + get(b"/1") * 70)
            assert not client.transport.reading
            client.host.handler.release.set()
            await client.settle()
            assert client.transport.reading
            assert len(client.bodies()) == 71

        run(test)

    def test_reading_stops_while_long_requests_wait(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(get(b"/slow"))
            count = 0
            while client.transport.reading:
                client.send(get(b"/1", b"Long: " + b"x" * 400_000))
                count += 1
            assert 2 <= count <= 5
            client.host.handler.release.set()
            await client.settle()
            assert client.transport.reading
            assert len(client.bodies()) == 1 + count

        run(test)

    def test_reading_stops_while_a_body_is_not_wanted(self) -> None:
        async def test() -> None:
            client = Client()
            client.send(put(b"/slow", b"x" * (1 << 20))[:-1])
            await client.settle()
            assert not client.transport.reading
            client.host.handler.release.set()
            await client.settle()
            assert client.transport.reading
            client.send(b"x")
            await client.settle()
            assert client.bodies() == [b"PUT /slow 1048576"]

        run(test)

    def test_a_writer_waits_for_the_client(self) -> None:
        async def test() -> None:
            client = Client()
            client.host.handler.now = False
            client.send(get(b"/stream"))
            client.connection.pause_writing()
            await client.settle()
            assert client.sent.endswith(b"one\r\n")
            client.connection.resume_writing()
            await client.settle()
            assert client.sent.endswith(b"0\r\n\r\n")

        run(test)

    def test_nothing_is_answered_to_a_client_that_has_yet_to_take_the_last_answer(self) -> None:
        async def test() -> None:
            client = Client()
            client.connection.pause_writing()
            client.send(get(b"/1") + get(b"/2"), put(b"/3", b"x" * 200_000))
            await client.settle()
            assert client.sent == b""
            client.connection.resume_writing()
            await client.settle()
            assert client.bodies() == [b"GET /1 ", b"GET /2 ", b"PUT /3 200000"]

        run(test)
