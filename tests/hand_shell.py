"""A stand-in for the shell around a worker's parts (``workers.loop``), without threads."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from volumed.bus.frames import STATUS_OK, decode_error, parse_call_reply
from volumed.bus.router import Reply
from volumed.errors import VolumedError

__all__ = ["HandShell", "start_call"]


class HandShell:
    """A worker's shell that runs background work at once, or, with ``waiting`` set, when the test says so."""

    def __init__(self) -> None:
        self.waiting: list[Callable[[], None]] | None = None
        self.published: list[Any] = []

    def in_background(
        self,
        work: Callable[[], Any],
        done: Callable[[Any], None],
        failed: Callable[[Exception], None],
        _kind: object = None,
    ) -> None:
        def job() -> None:
            try:
                outcome = work()
            except Exception as error:
                failed(error)
            else:
                done(outcome)

        if self.waiting is None:
            job()
        else:
            self.waiting.append(job)

    def post(self, action: Callable[[], None]) -> None:
        """At once: the test is the loop thread."""
        action()

    def hold(self) -> None:
        """No operation comes that could be held back."""

    def release(self, _batch: object, done: Callable[[list[Any]], None]) -> None:
        """Likewise."""
        done([])

    def publish(self, event: Any) -> None:
        """To the supervisor: into ``published``."""
        self.published.append(event)

    def go_on(self) -> None:
        """Run what waits, and what comes from now on at once."""
        waiting, self.waiting = self.waiting or [], None
        for job in waiting:
            job()


def start_call(handlers: Mapping[type, Callable[[Any, Reply], None]], request: Any) -> list[Any]:
    """Make a call as a front does; its answer, a result or an error, will be in the list."""
    answers: list[Any] = []

    def send(_identity: bytes, frame: bytes) -> None:
        _, status, payload = parse_call_reply(memoryview(frame))
        answers.append(
            msgspec.msgpack.decode(payload, type=type(request).Result) if status == STATUS_OK else decode_error(payload)
        )

    reply = Reply(send, b"front", 1)
    try:
        handlers[type(request)](request, reply)
    except VolumedError as error:
        reply.error(error)
    return answers
